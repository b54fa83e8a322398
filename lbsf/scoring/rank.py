"""What a probability means beside the others of its night: band and percentile."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lbsf.models.predict import PROBABILITY_DECIMALS
from lbsf.schemas.scores import THIN_BAND


def with_rank(scores: DataFrame, bands: Mapping[str, float]) -> DataFrame:
    """Adds band and percentile to the output of score_folds.

    The percentile is exact: the share of rows with a lower probability, times 100, thin files left out. It is
    worked out over the counts of each distinct probability, which are at most 10^6 however many users there
    are, and joined back. A thin file has the band THIN_BAND and no percentile.
    """
    # A whole number joins exactly.
    step = F.round(F.col("probability") * 10**PROBABILITY_DECIMALS).cast("int")
    scores = scores.withColumn("step", F.when(~F.col("thin_file"), step))
    counts = scores.where(~F.col("thin_file")).groupBy("step").agg(F.count(F.lit(1)).alias("users"))
    # Not partitioned on purpose: see above for its size.
    below = F.sum("users").over(Window.orderBy("step").rowsBetween(Window.unboundedPreceding, -1))
    everyone = F.sum("users").over(Window.partitionBy())
    percentiles = counts.select("step", (F.lit(100.0) * F.coalesce(below, F.lit(0)) / everyone).alias("percentile"))
    banded = F.when(F.col("thin_file"), F.lit(THIN_BAND)).otherwise(band(F.col("probability"), bands))
    return scores.join(percentiles, "step", how="left").withColumn("band", banded).drop("step")


def band(probability: Column, bands: Mapping[str, float]) -> Column:
    """The first band whose upper limit is not below the probability: a limit belongs to its own band.

    Args:
        probability: 0 to 1.
        bands: band -> upper limit, rising, the last 1.0.
    """
    names = list(bands)
    found = F.lit(names[-1])
    for name in reversed(names[:-1]):
        found = F.when(probability <= bands[name], F.lit(name)).otherwise(found)
    return found
