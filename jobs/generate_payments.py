"""Simulate payments and labels, and write them as a bank would deliver them.

<storage.root>/raw/payments/delivered_on=YYYY-MM-DD/ holds the daily files (synthetic.format) and
<storage.root>/raw/labels/ the outcomes (CSV); both folders are replaced as a whole. The true
probabilities of default go to the table synthetic_truth, for benchmarks only. The same configuration
gives the same rows for any number of tasks. docs/simulator.md describes the simulation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from jobs.common import Job, Summary, run_main
from lbsf.schemas import SYNTHETIC_TRUTH
from lbsf.synthetic.delivery import BAD, DUPLICATE, PAYMENT
from lbsf.synthetic.simulate import raw_payments, true_outcomes

# Larger files, of very large days, are split so that readers can share them.
MAX_FILE_ROWS = 5_000_000


def run(job: Job) -> Summary:
    """Write the raw payments, the raw labels and the truth table.

    Returns:
        Summary. rows_out: raw payment rows. details: users, payments, duplicates, bad rows, defaults, default rate,
        and the best possible AUC, over all users and in the last cohort (NaN with one class only).
    """
    with job.step("generate_payments") as summary:
        config = job.config.synthetic
        outcomes = true_outcomes(job.spark, config)
        counts = _write_payments(job, raw_payments(job.spark, config))
        _write_labels(job, outcomes)
        job.warehouse.overwrite(SYNTHETIC_TRUTH, outcomes.drop("matured_on").coalesce(1))
        truth = job.warehouse.read(SYNTHETIC_TRUTH).select("observed_on", "label", "default_probability").toPandas()
        label, probability = truth["label"].to_numpy(), truth["default_probability"].to_numpy()
        last = (truth["observed_on"] == truth["observed_on"].max()).to_numpy()
        summary.rows_out = counts["rows"]
        summary.details = {
            "users": config.users,
            "payments": counts["payments"],
            "duplicates": counts["duplicates"],
            "bad": counts["bad"],
            "defaults": int(label.sum()),
            "default rate": float(label.mean()),
            "best AUC": best_auc(label, probability),
            "best AUC out of time": best_auc(label[last], probability[last]),
        }
    return summary


def best_auc(label: NDArray[np.int32], probability: NDArray[np.float64]) -> float:
    """Return the AUC of the true probabilities: without knowing the draw, no model can expect a better one.

    NaN if there is one class only.
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(label, probability)) if 0 < label.sum() < len(label) else float("nan")


def _write_payments(job: Job, rows: DataFrame) -> dict[str, int]:
    """Write the daily files and return the number of rows by kind."""
    observation = Observation("raw payments")
    counted = rows.observe(
        observation,
        F.count("*").alias("rows"),
        F.count_if(F.col("kind") == PAYMENT).alias("payments"),
        F.count_if(F.col("kind") == DUPLICATE).alias("duplicates"),
        F.count_if(F.col("kind") == BAD).alias("bad"),
    )
    writer = (
        counted.drop("kind")
        .repartition("delivered_on")
        .write.partitionBy("delivered_on")
        .option("partitionOverwriteMode", "static")
        .option("maxRecordsPerFile", MAX_FILE_ROWS)
        .mode("overwrite")
    )
    location = f"{job.config.storage.root}/raw/payments"
    if job.config.synthetic.format == "csv":
        writer.options(header=True, escape='"').csv(location)
    else:
        writer.parquet(location)
    return dict(observation.get)


def _write_labels(job: Job, outcomes: DataFrame) -> None:
    labels = outcomes.select(
        F.col("user_id").alias("customer"),
        F.col("observed_on").alias("loan_on"),
        F.col("label").alias("defaulted"),
        F.col("matured_on").alias("known_on"),
    )
    location = f"{job.config.storage.root}/raw/labels"
    labels.coalesce(1).write.mode("overwrite").options(header=True, escape='"').csv(location)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: all settings are in the configuration's section `synthetic`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
