"""Build the training examples: fold each label's user as of the day the label was observed.

Replaces the examples table, so it can be run again at any time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.common import Job, Summary, run_main
from lbsf.config import Config
from lbsf.config.models import ExamplesConfig
from lbsf.errors import InputError
from lbsf.examples import (
    SplitCount,
    better_shares,
    build_examples,
    ingested_late,
    labels_by_fraction,
    row_group_users,
    split_of,
    unusable_split,
    weak_splits,
)
from lbsf.folding import fold_loss
from lbsf.schemas import EXAMPLES, FOLD_LOSS, LABELS, PAYMENTS
from lbsf.tables import Warehouse, paid_days

SPLITS = ("train", "validation", "test", "out_of_time")


def run(job: Job) -> Summary:
    """Split the labels, fold their users' payments and write the examples.

    Raises:
        InputError: there are no labels, or none has payments before it; the train or validation split is empty; or
            a split has one class only.
    """
    with job.step("build_examples") as summary:
        warehouse, config = job.warehouse, job.config
        payments_version, labels_version = warehouse.version(PAYMENTS), warehouse.version(LABELS)
        payments = warehouse.read(PAYMENTS, payments_version)
        labels = split_of(warehouse.read(LABELS, labels_version), config.examples)
        counts = _count_splits(labels)
        _check_days(paid_days(warehouse.data_files(PAYMENTS, payments_version)), counts)
        _check_splits(labels, counts, config)
        row_group_rows = row_group_users(counts["train"].labels, config.training.ranks, config.fold)
        examples = build_examples(payments, labels, config.fold, row_group_rows, config.storage.user_buckets)
        made_from = {PAYMENTS.name: payments_version, LABELS.name: labels_version}
        warehouse.overwrite(EXAMPLES, examples, row_group_rows=row_group_rows, made_from=made_from)
        examples_version = warehouse.version(EXAMPLES)
        _write_loss(warehouse, examples_version, max(count.last_observed_on for count in counts.values()))
        summary.rows_in = sum(count.labels for count in counts.values())
        summary.rows_out, paid = _written(warehouse, examples_version)
        used = [count for split, count in counts.items() if split]
        observed = min(one.first_observed_on for one in used), max(one.last_observed_on for one in used)
        late = ingested_late(payments, labels, config.fold.window_days, observed)
        summary.details = _details(counts, config.examples) | {
            "ingested after the label's day": f"{late:,} ({100 * late / max(paid, 1):.1f} %)",
            "payments version": payments_version,
            "labels version": labels_version,
            "examples version": examples_version,
        }
    return summary


def _count_splits(labels: DataFrame) -> dict[str | None, SplitCount]:
    """Return the counts by split; key None stands for the labels that are left out."""
    counts = labels.groupBy("split").agg(F.count("*"), F.sum("label"), F.min("observed_on"), F.max("observed_on"))
    return {row[0]: SplitCount(*row[1:]) for row in counts.collect()}


def _write_loss(warehouse: Warehouse, examples_version: int, latest: date) -> None:
    loss = fold_loss(warehouse.read(EXAMPLES, examples_version), EXAMPLES.name, latest, examples_version)
    warehouse.replace_part(FOLD_LOSS, loss.coalesce(1), {"of_table": EXAMPLES.name})


def _written(warehouse: Warehouse, version: int) -> tuple[int, int]:
    """Return the number of examples of a version, and of the payments in their windows."""
    payments = F.sum(F.col("payments_kept") + F.col("payments_dropped"))
    row = warehouse.read(EXAMPLES, version).agg(F.count("*"), payments).first()
    return (0, 0) if row is None else (int(row[0]), int(row[1] or 0))


def _check_days(paid: tuple[date, date], counts: Mapping[str | None, SplitCount]) -> None:
    if not counts:
        raise InputError("table labels is empty: ingest labels first")
    first, last = paid
    begin = min(count.first_observed_on for count in counts.values())
    end = max(count.last_observed_on for count in counts.values())
    if end <= first or begin > last + timedelta(days=1):
        raise InputError(
            f"labels are observed {begin} to {end}, but table payments holds {first} to {last}: "
            "ingest the payments that precede the labels"
        )


def _check_splits(labels: DataFrame, counts: Mapping[str | None, SplitCount], config: Config) -> None:
    """Refuse splits that no model can be trained with, and print which are too small to be reliable."""
    unusable, enough = unusable_split(counts), config.promotion.min_defaults
    weak = [] if unusable else weak_splits(counts, enough)
    if unusable is None and not weak:
        return
    better = better_shares(labels_by_fraction(labels), config.examples, enough)
    if unusable is not None:
        split, why = unusable
        advice = better[1] if better else "no other shares help; ingest more labels of both classes"
        if config.examples.out_of_time_from is not None:
            day = f"another examples.out_of_time_from than {config.examples.out_of_time_from}, or null"
            advice = day if split == "out_of_time" else f"{advice}; or {day}"
        raise InputError(f"{why}; {advice}")
    for one in weak:
        print(f"  {one}", flush=True)
    if better and better[0] != config.examples:
        print(f"  {better[1]}", flush=True)


def _details(counts: Mapping[str | None, SplitCount], config: ExamplesConfig) -> dict[str, Any]:
    """Return the labels of each split, including a configured split that is empty."""
    configured = {"test": config.test_share > 0, "out_of_time": config.out_of_time_from is not None}
    found: dict[str, Any] = {}
    for split in SPLITS:
        if split in counts:
            found[split] = counts[split]
        elif configured.get(split):
            since = f" (no label is observed from {config.out_of_time_from} on)" if split == "out_of_time" else ""
            found[split] = f"0{since}"
    return found | {"left out": counts.get(None, 0)}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: the job has none of its own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
