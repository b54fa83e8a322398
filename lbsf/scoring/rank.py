"""What a probability means beside the others of its night: band, percentile, thin file."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lbsf.config.models import ScoringConfig
from lbsf.scoring.score import PROBABILITY_DECIMALS


def with_rank(scores: DataFrame, scoring: ScoringConfig) -> DataFrame:
    """Adds band, percentile and thin_file to the output of score_folds, whose counts it drops.

    The percentile is exact: the share of all rows with a lower probability, times 100. It is worked
    out over the counts of each distinct probability, which are at most 10^6 however many users there
    are, and joined back.
    """
    # A whole number joins exactly.
    step = F.round(F.col("probability") * 10**PROBABILITY_DECIMALS).cast("int")
    scores = scores.withColumn("step", step)
    counts = scores.groupBy("step").agg(F.count(F.lit(1)).alias("users"))
    # Not partitioned on purpose: see above for its size.
    below = F.sum("users").over(Window.orderBy("step").rowsBetween(Window.unboundedPreceding, -1))
    everyone = F.sum("users").over(Window.partitionBy())
    percentiles = counts.select("step", (F.lit(100.0) * F.coalesce(below, F.lit(0)) / everyone).alias("percentile"))
    thin = (F.col("payments_kept") < scoring.thin_file_payments) | (
        F.col("merchants_kept") < scoring.thin_file_merchants
    )
    return (
        scores.join(percentiles, "step", how="inner")
        .withColumn("band", band(F.col("probability"), scoring.bands))
        .withColumn("thin_file", thin)
        .drop("step", "payments_kept", "merchants_kept")
    )


def band(probability: Column, bands: dict[str, float]) -> Column:
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
