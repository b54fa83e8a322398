"""Answer the analysts' queries (conf/queries) over the warehouse: print each with its answer.

--document FILE also writes them into that document, between its markers, as in docs/analysts.md. The document then
holds users of the warehouse, so the option is meant for simulated payments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.common import Job, Summary, run_main
from jobs.create_views import VIEWS, add_views_argument

QUERIES = Path("conf/queries")


def run(job: Job, *, document: Path | None = None, views: Path = VIEWS, first: int | None = None) -> Summary:
    """Answer the queries.

    Args:
        job: configuration, session, tables.
        document: Markdown file whose part `answers` is replaced.
        views: folder of the view files.
        first: answer only the first so many queries; None: all.

    Raises:
        InputError: there are no scores.
    """
    from lbsf.analysts import answer, as_markdown, load_views, publish, with_part
    from lbsf.analysts.queries import load_queries
    from lbsf.schemas import SCORES

    with job.step("answer_queries") as summary:
        summary.details["scores version"] = job.warehouse.version(SCORES)
        left_out = publish(job.warehouse, load_views(views))
        answers = []
        for query in load_queries(QUERIES)[:first]:
            answers.append(answer(job.spark, query, left_out))
            print(f"\n-- {query.title}\n{query.sql}\n\n{answers[-1].text}\n", flush=True)
        summary.details["queries"] = len(answers)
        if document is not None:
            text = with_part(document.read_text(encoding="utf-8"), "answers", as_markdown(answers))
            document.write_text(text, encoding="utf-8")
    return summary


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--document", type=Path, metavar="FILE", help="write the answers into this document too")
    add_views_argument(parser)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
