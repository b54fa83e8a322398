"""Which labels train, validate and test a model."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lbsf.config.models import ExamplesConfig


def split_of(labels: DataFrame, config: ExamplesConfig) -> DataFrame:
    """The labels with the column `split`.

    Observed on `out_of_time_from` or later: `out_of_time`. Of the earlier ones, those that matured
    after that day have a null split: a model trained that day could not have known them. The others
    go by a hash of user_id to `test`, `validation` or `train`, so all labels of a user stay together.

    Args:
        labels: at least user_id, observed_on, matured_on.
        config: shares and the out-of-time day.
    """
    share = user_fraction()
    split = (
        F.when(share < config.test_share, "test")
        .when(share < config.test_share + config.validation_share, "validation")
        .otherwise("train")
    )
    if config.out_of_time_from is not None:
        since = F.lit(config.out_of_time_from)
        split = (
            F.when(F.col("observed_on") >= since, "out_of_time")
            .when(F.col("matured_on") > since, F.lit(None).cast("string"))
            .otherwise(split)
        )
    return labels.withColumn("split", split)


def user_fraction() -> Column:
    """A number of [0, 1) that a hash draws from user_id, the same for all time."""
    # XXH64 (seed 42) of the salted id; its upper 53 bits as a fraction.
    hashed = F.xxhash64(F.concat(F.lit("split:"), "user_id"))
    return F.shiftrightunsigned(hashed, 11) / F.lit(2.0**53)
