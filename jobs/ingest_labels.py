"""Store the labels of one delivery: the user, the day of observation, and whether the user defaulted later.

Rows that break the contract go to labels_quarantine with their reasons, and so do rows that contradict each
other or a stored label. Running it again on the same files changes nothing. Exit code 3: the delivery is
stored, and more than ingest.max_refused_share of it was refused.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from pyspark.sql import DataFrame

from jobs.common import Job, Summary, run_main
from jobs.ingest import CheckedDelivery, store
from jobs.ingest import add_arguments as _add_arguments
from lbsf.ingest import Received, check_labels, find_delivery, load_mapping, read_source
from lbsf.schemas import LABELS, LABELS_QUARANTINE


def run(job: Job, *, source: str, path: str | None = None) -> Summary:
    """Ingest one delivery of labels.

    Args:
        job: configuration, session, tables.
        source: mapping file.
        path: read this instead of the mapping's path.

    Raises:
        UserError: the mapping or the source is missing, empty or invalid, and nothing is written; or another job
            stored labels meanwhile, with which these were not compared.
    """
    with job.step("ingest_labels") as summary:
        mapping = load_mapping(source, LABELS)
        received = Received(mapping.name, datetime.now(UTC), uuid.uuid4().hex)
        delivery = find_delivery(job.spark, mapping, job.config.storage.root, path)
        mapped = read_source(job.spark, mapping, delivery)
        # The labels stored before this run.
        version = job.warehouse.version(LABELS) if job.warehouse.exists(LABELS) else None
        known = None if version is None else job.warehouse.read(LABELS, version)

        def stored_now() -> DataFrame:
            stored = job.warehouse.read(LABELS)
            return stored if known is None else stored.join(known, on=list(LABELS.key), how="left_anti")

        checked_delivery = CheckedDelivery(
            origin=f"{source}: {path or mapping.path}",
            received=received,
            left_aside=delivery.left_aside_text() if delivery.left_aside else "",
            mapped=mapped,
            checked=check_labels(mapped, known),
            table=LABELS,
            quarantine=LABELS_QUARANTINE,
            earliest="matured_on",
            day="observed_on",
            stored_now=stored_now,
            seen=-1 if version is None else version,
        )
        store(job, checked_delivery, summary)
    return summary


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
