"""Splits labels into train, validation, test and out-of-time."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lbsf.config.models import ExamplesConfig


def split_of(labels: DataFrame, config: ExamplesConfig) -> DataFrame:
    """Add the column `split` to labels.

    Labels observed on `out_of_time_from` or later are `out_of_time`. Earlier ones that matured
    after that day have a null split, as a model trained on that day could not have known them. All others
    are assigned to `test`, `validation` or `train` by a hash of user_id, so that all labels of a user stay together.

    Args:
        labels: with at least user_id, observed_on and matured_on.
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
