"""Store the payments of one delivery: read a source through its mapping and check the contract.

Rows that break the contract go to payments_quarantine with their reasons. A payment that is delivered twice is
stored once; a late payment is stored on its own day. Running it again on the same files changes nothing. Exit
code 3: the delivery is stored, and more than ingest.max_refused_share of it was refused.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from pyspark.sql import functions as F

from jobs.common import Job, Summary, run_main
from jobs.ingest import CheckedDelivery, store
from jobs.ingest import add_arguments as _add_arguments
from lbsf.ingest import Received, check_payments, find_delivery, fitting_limits, load_mapping, read_source
from lbsf.schemas import PAYMENTS, PAYMENTS_QUARANTINE


def run(job: Job, *, source: str, path: str | None = None) -> Summary:
    """Ingest one delivery of payments.

    Args:
        job: configuration, session, tables.
        source: mapping file.
        path: read this instead of the mapping's path, for instance one day's file.

    Returns:
        The summary, with a finding if too much was refused.

    Raises:
        UserError: the mapping or the source is missing, empty or invalid; nothing is written then.
    """
    with job.step("ingest_payments") as summary:
        mapping = load_mapping(source, PAYMENTS)
        received = Received(mapping.name, datetime.now(UTC), uuid.uuid4().hex)
        delivery = find_delivery(job.spark, mapping, job.config.storage.root, path)
        mapped = read_source(job.spark, mapping, delivery)
        checked = check_payments(mapped, job.config.ingest, received, job.config.storage.user_buckets)
        checked_delivery = CheckedDelivery(
            origin=f"{source}: {path or mapping.path}",
            received=received,
            left_aside=delivery.left_aside_text() if delivery.left_aside else "",
            mapped=mapped,
            checked=checked,
            table=PAYMENTS,
            quarantine=PAYMENTS_QUARANTINE,
            earliest="paid_at",
            day="paid_on",
            stored_now=lambda: job.warehouse.read(PAYMENTS).where(F.col("ingested_at") == F.lit(received.at)),
            hints=lambda: fitting_limits(checked),
        )
        store(job, checked_delivery, summary)
    return summary


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
