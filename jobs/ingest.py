"""Code shared by the ingests of payments and labels: arguments, counts, quarantine, storage, summary."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.common import Job, Summary
from lbsf.ingest import DeliveryCounts, Received, accepted, count_among, count_rows, in_line, refused, too_many_refused
from lbsf.ingest.contract import AMBIGUOUS, NEVER_WAS
from lbsf.schemas import TableSchema


@dataclass(frozen=True)
class CheckedDelivery:
    """A delivery that was read and checked, and the tables that it goes to.

    Attributes:
        origin: where it came from, for messages.
        received: the run that received it.
        mapped: its rows in the product's columns.
        checked: the same rows, typed, each with the reasons why it breaks the contract.
        table: receives the rows that keep the contract.
        quarantine: receives the other rows.
        earliest: column that selects one of several rows with the same key: the earliest stays.
        day: column whose distinct values are counted.
        stored_now: returns the table's rows that this run stored.
        hints: returns the limits that would fit the refused rows.
        seen: version of the table that the rows were compared with, -1 if there was no table; None: not compared.
        left_aside: text that names what the delivery holds besides the files that were read; empty: nothing.
    """

    origin: str
    received: Received
    mapped: DataFrame
    checked: DataFrame
    table: TableSchema
    quarantine: TableSchema
    earliest: str
    day: str
    stored_now: Callable[[], DataFrame]
    hints: Callable[[], Sequence[str]] = tuple
    seen: int | None = None
    left_aside: str = ""


def store(job: Job, delivery: CheckedDelivery, summary: Summary) -> None:
    """Store a delivery and report what is new, what was known before, and what was refused and why.

    Raises:
        InputError: the delivery is empty or cannot be read, and nothing is written; or another job wrote the table
            since version `delivery.seen`.
    """
    warehouse, table, quarantine = job.warehouse, delivery.table, delivery.quarantine
    counts = count_rows(delivery.checked, delivery.mapped, origin=delivery.origin, day=delivery.day, key=table.key[0])
    # Quarantine first: if the second write fails, the next run completes both.
    if counts.refused or not warehouse.exists(quarantine):
        warehouse.insert_new(quarantine, refused(delivery.checked, delivery.received), quarantine.key)
    else:
        # An earlier run may have been killed between the table's first commit and its registration.
        warehouse.register(quarantine)
    is_first = not warehouse.exists(table)
    rows = accepted(delivery.checked, table, earliest=delivery.earliest)
    stored = warehouse.insert_new(table, rows, table.key, within=counts.key_range, seen=delivery.seen)

    new_kept = counts.kept if is_first else 0
    if stored and not is_first:
        new_kept = count_among(delivery.checked, delivery.stored_now(), table.key)
    new_refused, new_reasons = _newly_refused(job, delivery) if counts.refused else (0, {})
    summary.rows_in, summary.rows_out, summary.quarantined = new_kept + new_refused, stored, new_refused
    summary.details |= {
        "read": counts.rows,
        "known before": counts.rows - summary.rows_in,
        "duplicates": new_kept - stored,
        "days": counts.days,
        **_remarks(counts),
        **({"left aside": delivery.left_aside} if delivery.left_aside else {}),
        f"{table.name} version": warehouse.version(table),
    }
    limit = job.config.ingest.max_refused_share
    finding = too_many_refused(counts.rows, counts.refused, counts.reasons, limit)
    finding = finding or too_many_refused(summary.rows_in, new_refused, new_reasons, limit, "new rows")
    if finding:
        summary.findings.append("; ".join([f"{delivery.origin}: {finding}", *delivery.hints()]))


def _remarks(counts: DeliveryCounts) -> dict[str, int | str]:
    """Return the details that are shown only when they apply."""
    remarks: dict[str, int | str] = {}
    for name, value in (("ambiguous local times", AMBIGUOUS), ("local times that never were", NEVER_WAS)):
        if value in counts.local_times:
            remarks[name] = counts.local_times[value]
    if counts.refused:
        remarks["refused"] = in_line(counts.reasons)
    return remarks


def _newly_refused(job: Job, delivery: CheckedDelivery) -> tuple[int, dict[str, int]]:
    """Return the number of rows that this run put in quarantine, in total and by reason."""
    added = job.warehouse.read(delivery.quarantine).where(F.col("run_id") == delivery.received.run_id)
    groups = added.groupBy("reasons").agg(F.sum("occurrences").alias("rows")).collect()
    by_reason: dict[str, int] = {}
    for group in groups:
        for reason in group["reasons"]:
            by_reason[reason] = by_reason.get(reason, 0) + group["rows"]
    return sum(group["rows"] for group in groups), by_reason


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of both jobs."""
    parser.add_argument("--source", required=True, metavar="FILE", help="source mapping, conf/sources/NAME.yaml")
    parser.add_argument("--path", help="read this instead of the mapping's path, for instance one day's file")
