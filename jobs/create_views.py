"""Create or replace the analysts' views, and register the tables, in storage.database.

If storage.database is null, no catalog outlives a session: the views are only checked, and serve_sql, the notebook and
answer_queries create their own. A view whose table has not been written yet is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.common import Job, Summary, run_main

VIEWS = Path("conf/views")


def run(job: Job, *, views: Path = VIEWS) -> Summary:
    """Create the views of a folder.

    Args:
        job: configuration, session, tables.
        views: folder of the view files.

    Returns:
        Summary with the number created in details["views"]; details["left out"] names the others and their missing
        tables.

    Raises:
        InputError: a file is not a view.
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
    """Add `--views`, because the working directory may be outside the project, as on a cluster."""
    parser.add_argument(
        "--views", type=Path, default=VIEWS, metavar="FOLDER", help="files of the views (default: %(default)s)"
    )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_views_argument(parser)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
