"""Stores the payments of one delivery: reads a source through its mapping, checks the contract.

Rows that break the contract go to payments_quarantine with their reasons. A payment that is delivered twice
is stored once, a late one on its own day. Running it again on the same files changes nothing.
"""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from jobs.common import Job, Summary, run_main
from lbsf.ingest import Received, accepted, check_payments, count_rows, load_mapping, read_source, refused
from lbsf.schemas import PAYMENTS, PAYMENTS_QUARANTINE


def run(job: Job, *, source: str, path: str | None = None) -> Summary:
    """Ingests one delivery of payments.

    Args:
        job: configuration, session, tables.
        source: mapping file.
        path: read this instead of the mapping's path, for instance one day's file.

    Raises:
        UserError: the mapping or the source is missing, empty or unfit; nothing is written then.
    """
    with job.step("ingest_payments") as summary:
        mapping = load_mapping(source, PAYMENTS)
        received = Received(mapping.name, datetime.now(UTC), uuid.uuid4().hex)
        origin = f"{source}: {path or mapping.path}"
        rows = read_source(job.spark, mapping, job.config.storage.root, path)
        checked = check_payments(rows, job.config.ingest, received, job.config.storage.user_buckets)
        counts = count_rows(checked, origin=origin, day="paid_on", key="payment_id")

        # Quarantine first: where the second write fails, the next run finds both as they should be.
        if counts.refused or not job.warehouse.exists(PAYMENTS_QUARANTINE):
            job.warehouse.insert_new(PAYMENTS_QUARANTINE, refused(checked, received), PAYMENTS_QUARANTINE.key)
        else:
            # A run may have been killed between the table's first commit and this.
            job.warehouse.register(PAYMENTS_QUARANTINE)
        payments = accepted(checked, PAYMENTS, earliest="paid_at")
        stored = job.warehouse.insert_new(PAYMENTS, payments, PAYMENTS.key, within=counts.key_range)

        summary.rows_in, summary.rows_out, summary.quarantined = counts.rows, stored, counts.refused
        summary.details["duplicates"] = counts.rows - counts.refused - stored
        summary.details["days"] = counts.days
        summary.details["payments version"] = job.warehouse.version(PAYMENTS)
    return summary


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", required=True, metavar="FILE", help="source mapping, conf/sources/NAME.yaml")
    parser.add_argument("--path", help="read this instead of the mapping's path, for instance one day's file")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
