"""Truncation: the payments and spending that the caps dropped, by label and length of history."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

BANDS = (1, 30, 60, 90, 120, 150, 180)


def fold_loss(folds: DataFrame, of_table: str, as_of: date, table_version: int) -> DataFrame:
    """Count the payments, merchants and spending that the caps dropped.

    Args:
        folds: FOLDS or EXAMPLES columns. Examples are counted by label; folds have no label.
        of_table: name of their table.
        as_of: their day; for examples the latest one.
        table_version: Delta version that was read.

    Returns:
        FOLD_LOSS columns, one row per label and band of history_days.
    """
    label = F.col("label").cast("string") if "label" in folds.columns else F.lit("unknown")
    counted = folds.select(
        label.alias("label"),
        _band(F.col("history_days")).alias("history"),
        *(F.col(name).cast("long") for name in ("payments_dropped", "merchants_dropped", "cents", "cents_dropped")),
        (F.col("payments_kept") + F.col("payments_dropped")).cast("long").alias("payments"),
        (F.col("merchants_kept") + F.col("merchants_dropped")).cast("long").alias("merchants"),
    )
    sums = ("payments", "payments_dropped", "merchants", "merchants_dropped", "cents", "cents_dropped")
    return (
        counted.groupBy("label", "history")
        .agg(
            F.count("*").alias("users"),
            F.count_if(F.col("payments_dropped") > 0).alias("users_cut"),
            *(F.sum(name).alias(name) for name in sums),
        )
        .withColumn("payments_dropped_share", _share("payments_dropped", "payments"))
        .withColumn("cents_dropped_share", _share("cents_dropped", "cents"))
        .withColumn("of_table", F.lit(of_table))
        .withColumn("as_of", F.lit(as_of))
        .withColumn("table_version", F.lit(table_version).cast("long"))
    )


def _band(days: Column) -> Column:
    """Return `000` for a fold without payments, else `from-to`; the last band is open. Bands sort as text."""
    bands = zip(BANDS, BANDS[1:], strict=False)
    band = F.when(days < BANDS[0], "000")
    for low, high in bands:
        band = band.when(days < high, f"{low:03d}-{high - 1:03d}")
    return band.otherwise(f"{BANDS[-1]:03d}+")


def _share(part: str, whole: str) -> Column:
    return F.when(F.col(whole) > 0, F.col(part) / F.col(whole)).otherwise(F.lit(0.0))
