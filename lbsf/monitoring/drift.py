"""Drift of a night's scores and inputs from the data that its model was trained on. Spark tasks do the counting."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StringType, StructField, StructType

from lbsf.config.models import MonitoringConfig
from lbsf.evaluation.reference import CODES, NUMBERS, Bins, Counts, Reference, add, count, drift, score_drift
from lbsf.folds.packed import LIST_COLUMNS, Ints, PackedFolds
from lbsf.monitoring.findings import Measured, at_most, shown

COUNTED = StructType(
    [
        StructField("input", StringType(), False),
        StructField("place", LongType(), False),
        StructField("values", LongType(), False),
    ]
)


def count_inputs(folds: DataFrame) -> Counts:
    """Count every input of the folds, as lbsf.evaluation.reference.count does.

    Each task counts its own folds and Spark adds the tasks' counts, so the driver receives one row per bin, however
    many folds there are.

    Args:
        folds: rows of the folds table.
    """
    summed = (
        folds.select("as_of", *LIST_COLUMNS)
        .mapInArrow(_count_partition, COUNTED)
        .groupBy("input", "place")
        .agg(F.sum("values").alias("values"))
        .collect()
    )
    counts: Counts = {}
    for name in (*NUMBERS, *CODES):
        places = {row["place"]: row["values"] for row in summed if row["input"] == name}
        counts[name] = np.zeros(max(places, default=-1) + 1, np.int64)
        counts[name][list(places)] = list(places.values())
    return counts


def count_scores(scores: DataFrame, bins: Bins) -> Ints:
    """Count the users in each bin of the reference's scores, (len(bins.shares),); thin files are left out.

    Args:
        scores: rows of the scores table of one night.
        bins: Reference.score.
    """
    place: Column = F.lit(0)
    for edge in bins.edges:
        place = place + (F.col("probability") >= F.lit(edge)).cast("int")
    rows = scores.where(~F.col("thin_file")).groupBy(place.alias("place")).agg(F.count("*").alias("users")).collect()
    users = np.zeros(len(bins.shares), np.int64)
    for row in rows:
        users[row["place"]] = row["users"]
    return users


def drift_measures(scores: DataFrame, inputs: Counts, reference: Reference, limits: MonitoringConfig) -> list[Measured]:
    """Measure score_psi, and input_psi of each input.

    A PSI is a breach if it is above both its limit and the PSI that chance explains.

    Args:
        scores: rows of the scores table of one night.
        inputs: as returned by `count_inputs` for the night's folds.
        reference: of the model that scored the night.
        limits: the thresholds.
    """
    users = count_scores(scores, reference.score)
    scored = int(users.sum())
    found = [shown("score_psi", None, 0)]
    if scored:
        moved = score_drift(reference.score, users / scored, scored)
        found = [at_most("score_psi", moved.psi, moved.limit(limits.max_score_psi), scored)]
    for name, moved in drift(reference, inputs).items():
        counted = int(inputs[name].sum())
        found.append(at_most("input_psi", moved.psi, moved.limit(limits.max_input_psi), counted, name))
    return found


def _count_partition(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
    total: Counts = {}
    for rows in batches:
        if rows.num_rows:
            total = add([total, count(PackedFolds.from_arrow(rows))])
    for name, counts in total.items():
        places = np.flatnonzero(counts)
        yield pa.RecordBatch.from_arrays(
            [pa.array([name] * len(places), pa.string()), pa.array(places), pa.array(counts[places])],
            names=COUNTED.names,
        )
