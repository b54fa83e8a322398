"""Builds the training examples: each label's user, folded as of the day the label was observed.

Replaces the examples table, so it may be run again at any time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.common import Job, Summary, run_main
from lbsf.config.models import ExamplesConfig
from lbsf.errors import InputError
from lbsf.examples import build_examples, row_group_users, split_of
from lbsf.folding import fold_loss
from lbsf.schemas import EXAMPLES, FOLD_LOSS, LABELS, PAYMENTS
from lbsf.tables import Warehouse, paid_days

SPLITS = ("train", "validation", "test", "out_of_time")


class SplitCount(NamedTuple):
    """Labels of one split."""

    labels: int
    defaults: int
    first_observed_on: date
    last_observed_on: date

    def __str__(self) -> str:
        return f"{self.labels:,} ({100 * self.defaults / self.labels:.1f} %)"


def run(job: Job) -> Summary:
    """Splits the labels, folds their users' payments and writes the examples.

    Raises:
        InputError: no labels; none with payments before it; a train or validation split that is empty
            or a train split with one class only.
    """
    with job.step("build_examples") as summary:
        warehouse, config = job.warehouse, job.config
        payments_version, labels_version = warehouse.version(PAYMENTS), warehouse.version(LABELS)
        payments = warehouse.read(PAYMENTS, payments_version)
        labels = split_of(warehouse.read(LABELS, labels_version), config.examples)
        counts = _count_splits(labels)
        _check_days(paid_days(warehouse.data_files(PAYMENTS, payments_version)), counts)
        _check_splits(counts, config.examples)
        row_group_rows = row_group_users(counts["train"].labels, config.training.ranks, config.fold)
        examples = build_examples(payments, labels, config.fold, row_group_rows, config.storage.user_buckets)
        made_from = {PAYMENTS.name: payments_version, LABELS.name: labels_version}
        warehouse.overwrite(EXAMPLES, examples, row_group_rows=row_group_rows, made_from=made_from)
        examples_version = warehouse.version(EXAMPLES)
        _write_loss(warehouse, examples_version, max(count.last_observed_on for count in counts.values()))
        summary.rows_in = sum(count.labels for count in counts.values())
        summary.rows_out = warehouse.read(EXAMPLES, examples_version).count()
        summary.details = {split: counts[split] for split in SPLITS if split in counts} | {
            "left out": counts.get(None, 0),
            "payments version": payments_version,
            "labels version": labels_version,
            "examples version": examples_version,
        }
    return summary


def _count_splits(labels: DataFrame) -> dict[str | None, SplitCount]:
    """Per split; None stands for the labels that are left out."""
    counts = labels.groupBy("split").agg(F.count("*"), F.sum("label"), F.min("observed_on"), F.max("observed_on"))
    return {row[0]: SplitCount(*row[1:]) for row in counts.collect()}


def _write_loss(warehouse: Warehouse, examples_version: int, latest: date) -> None:
    loss = fold_loss(warehouse.read(EXAMPLES, examples_version), EXAMPLES.name, latest, examples_version)
    warehouse.replace_part(FOLD_LOSS, loss.coalesce(1), {"of_table": EXAMPLES.name})


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


def _check_splits(counts: Mapping[str | None, SplitCount], config: ExamplesConfig) -> None:
    found = ", ".join(sorted(f"{split or 'left out'} {count}" for split, count in counts.items()))
    for split in ("train", "validation"):
        if split not in counts:
            raise InputError(
                f"no label falls into the {split} split (labels, default rate: {found}): change "
                f"examples.validation_share, test_share or out_of_time_from ({config.out_of_time_from})"
            )
    train = counts["train"]
    if train.defaults in (0, train.labels):
        raise InputError(
            f"all {train.labels:,} labels of the train split are {int(train.defaults > 0)}: "
            "a model needs both defaults and non-defaults; ingest labels of both"
        )


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
