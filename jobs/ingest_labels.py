"""Stores the labels of one delivery: who, observed on which day, defaulted afterwards.

Rows that break the contract go to labels_quarantine with their reasons, and so do rows that contradict each
other or a stored label. Running it again on the same files changes nothing.
"""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from jobs.common import Job, Summary, run_main
from lbsf.ingest import Received, accepted, check_labels, count_rows, load_mapping, read_source, refused
from lbsf.schemas import LABELS, LABELS_QUARANTINE


def run(job: Job, *, source: str, path: str | None = None) -> Summary:
    """Ingests one delivery of labels.

    Args:
        job: configuration, session, tables.
        source: mapping file.
        path: read this instead of the mapping's path.

    Raises:
        UserError: the mapping or the source is missing, empty or unfit; nothing is written then. Or another job stored
            labels meanwhile, which these were not compared with.
    """
    with job.step("ingest_labels") as summary:
        mapping = load_mapping(source, LABELS)
        received = Received(mapping.name, datetime.now(UTC), uuid.uuid4().hex)
        origin = f"{source}: {path or mapping.path}"
        rows = read_source(job.spark, mapping, job.config.storage.root, path)
        seen = job.warehouse.version(LABELS) if job.warehouse.exists(LABELS) else -1
        known = None if seen < 0 else job.warehouse.read(LABELS, seen)
        checked = check_labels(rows, known)
        counts = count_rows(checked, origin=origin, day="observed_on", key="user_id")

        if counts.refused or not job.warehouse.exists(LABELS_QUARANTINE):
            job.warehouse.insert_new(LABELS_QUARANTINE, refused(checked, received), LABELS_QUARANTINE.key)
        else:
            # A run may have been killed between the table's first commit and this.
            job.warehouse.register(LABELS_QUARANTINE)
        labels = accepted(checked, LABELS, earliest="matured_on")
        stored = job.warehouse.insert_new(LABELS, labels, LABELS.key, seen=seen)

        summary.rows_in, summary.rows_out, summary.quarantined = counts.rows, stored, counts.refused
        summary.details["duplicates"] = counts.rows - counts.refused - stored
        summary.details["days"] = counts.days
        summary.details["labels version"] = job.warehouse.version(LABELS)
    return summary


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", required=True, metavar="FILE", help="source mapping, conf/sources/NAME.yaml")
    parser.add_argument("--path", help="read this instead of the mapping's path, for instance one day's file")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
