"""Ranks the scores of a night: risk band and percentile."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lbsf.models.predict import PROBABILITY_DECIMALS
from lbsf.schemas.scores import THIN_BAND


def with_rank(scores: DataFrame, bands: Mapping[str, float]) -> DataFrame:
    """Add band and percentile to the output of score_folds.

    The percentile is exact: the percentage of rows with a lower probability, without thin files. It is
    computed from the counts of the distinct probabilities, of which there are at most 10^6 however many users there
    are, and joined back. Thin files have the band THIN_BAND and no percentile.

    Args:
        scores: output of score_folds.
        bands: band -> upper limit, ascending, the last 1.0.
    """
    # An integer, unlike a float, is a safe join key.
    step = F.round(F.col("probability") * 10**PROBABILITY_DECIMALS).cast("int")
    scores = scores.withColumn("step", F.when(~F.col("thin_file"), step))
    counts = scores.where(~F.col("thin_file")).groupBy("step").agg(F.count(F.lit(1)).alias("users"))
    # The window is not partitioned on purpose: it has at most 10^6 rows.
    below = F.sum("users").over(Window.orderBy("step").rowsBetween(Window.unboundedPreceding, -1))
    total = F.sum("users").over(Window.partitionBy())
    percentiles = counts.select("step", (F.lit(100.0) * F.coalesce(below, F.lit(0)) / total).alias("percentile"))
    banded = F.when(F.col("thin_file"), F.lit(THIN_BAND)).otherwise(band(F.col("probability"), bands))
    return scores.join(percentiles, "step", how="left").withColumn("band", banded).drop("step")


def band(probability: Column, bands: Mapping[str, float]) -> Column:
    """Return the first band whose upper limit is at least the probability.

    Args:
        probability: 0 to 1.
        bands: band -> upper limit, ascending, the last 1.0.
    """
    names = list(bands)
    found = F.lit(names[-1])
    for name in reversed(names[:-1]):
        found = F.when(probability <= bands[name], F.lit(name)).otherwise(found)
    return found
