"""Creates or replaces the analysts' views, and registers the tables, in storage.database.

Where storage.database is null there is no catalog that outlives a session: the views are checked, and serve_sql, the
notebook and answer_queries make them for themselves. A view whose table has not been written yet is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.common import Job, Summary, run_main

VIEWS = Path("conf/views")


def run(job: Job, *, views: Path = VIEWS) -> Summary:
    """Creates the views of a folder.

    Args:
        job: configuration, session, tables.
        views: folder of their files.

    Returns:
        Summary with the number created in details["views"]; details["left out"] names the others with what they miss.

    Raises:
        InputError: a file is no view.
    """
    from lbsf.analysts import load_views, publish

    with job.step("create_views") as summary:
        loaded = load_views(views)
        left_out = publish(job.warehouse, loaded)
        summary.details = {
            "database": job.config.storage.database or "the session's own",
            "views": len(loaded) - len(left_out),
        }
        if left_out:
            summary.details["left out"] = ", ".join(f"{view} (no table {table})" for view, table in left_out.items())
    return summary


def add_views_argument(parser: argparse.ArgumentParser) -> None:
    """`--views`: the working directory need not be the project, as on a cluster."""
    parser.add_argument(
        "--views", type=Path, default=VIEWS, metavar="FOLDER", help="files of the views (default: %(default)s)"
    )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_views_argument(parser)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
