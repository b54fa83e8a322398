"""The contract: the rules that a payment or a label must meet to be stored.

Both checks return a table's typed columns and `reasons`, which is null where the row meets the contract and else
holds one text for each rule that the row breaks. An amount of zero is valid (a coupon may pay the whole purchase).
An amount with more than two decimals is rounded half up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from lbsf.config.models import IngestConfig
from lbsf.folding import user_bucket_of
from lbsf.ingest.times import is_full

# Values of `local_time`, for rows whose expressions read local times.
AMBIGUOUS, NEVER_WAS = "ambiguous", "never was"
_NEVER_WAS_REASON = "a local time never was: the clocks went forward"
BEYOND_AMOUNT = "amount is beyond ingest.max_amount"
OTHER_CURRENCY = "currency is not in ingest.currencies"
TOO_EARLY = "paid_at is before ingest.earliest_paid_on"


@dataclass(frozen=True)
class Received:
    """One ingest run.

    Attributes:
        source: name of the mapping.
        at: time of the run, with a time zone; a payment at or after it is in the future.
        run_id: identifier of the run.
    """

    source: str
    at: datetime
    run_id: str


def check_payments(mapped: DataFrame, rules: IngestConfig, received: Received, user_buckets: int) -> DataFrame:
    """Convert payments to the table's types and check them.

    Args:
        mapped: rows of `read_source` for a mapping of payments.
        rules: the limits.
        received: the ingest run.
        user_buckets: number of buckets of the table.

    Returns:
        Rows with the columns of PAYMENTS, reasons, local_time, source_row and source_file.
    """
    amount, paid_at, paid_on = F.col("amount"), F.col("paid_at"), F.col("paid_on")
    size = F.abs("amount_as_double")
    beyond = (size > rules.max_amount) & ~F.isnan(size)
    broken = {
        **{f"{name} is missing": F.col(name).isNull() for name in ("payment_id", "user_id", "merchant_id")},
        _NEVER_WAS_REASON: F.col("local_time") == NEVER_WAS,
        "paid_at is missing or no time": paid_at.isNull() & _other_than_never_was(),
        "paid_at is in the future": paid_at >= F.lit(received.at),
        TOO_EARLY: paid_on < F.lit(rules.earliest_paid_on),
        "amount is missing or no number": size.isNull() | (amount.isNull() & ~beyond),
        BEYOND_AMOUNT: beyond,
        "currency is missing": F.col("currency").isNull(),
        OTHER_CURRENCY: ~F.col("currency").isin(*rules.currencies),
    }
    typed = mapped.select(
        *(_text(name).alias(name) for name in ("payment_id", "user_id", "merchant_id")),
        _time(mapped, "paid_at", "timestamp").alias("paid_at"),
        F.to_date(_time(mapped, "paid_at", "timestamp")).alias("paid_on"),
        F.trunc(_time(mapped, "paid_at", "timestamp"), "month").alias("paid_month"),
        _cast("amount", "decimal(18,2)").alias("amount"),
        _cast("amount", "double").alias("amount_as_double"),
        *(_text(name).alias(name) for name in ("currency", "category", "channel", "merchant_name", "description")),
        F.lit(received.at).alias("ingested_at"),
        F.lit(received.source).alias("source"),
        user_bucket_of(_text("user_id"), user_buckets).alias("user_bucket"),
        "local_time",
        "source_row",
        "source_file",
        "source_fault",
    )
    return typed.withColumn("reasons", _reasons(broken)).drop("amount_as_double", "source_fault")


def check_labels(mapped: DataFrame, stored: DataFrame | None = None) -> DataFrame:
    """Convert labels to the table's types and check them.

    Rows with different labels for the same user and day are all refused, and so is a row that contradicts the
    stored label, because nobody can tell which is right.

    Args:
        mapped: rows of `read_source` for a mapping of labels.
        stored: the labels stored so far.

    Returns:
        Rows with the columns of LABELS, reasons, local_time, source_row and source_file.
    """
    key = ["user_id", "observed_on"]
    observed_on, matured_on = F.col("observed_on"), F.col("matured_on")
    number = F.col("label_as_double")
    typed = mapped.select(
        _text("user_id").alias("user_id"),
        _time(mapped, "observed_on", "date").alias("observed_on"),
        # Cast to double first, because a cast to integer would turn 0.7 into 0.
        _cast("label", "double").alias("label_as_double"),
        _time(mapped, "matured_on", "date").alias("matured_on"),
        "local_time",
        "source_row",
        "source_file",
        "source_fault",
    ).withColumn("label", F.when(number.isin(0.0, 1.0), number).cast("int"))
    same_key = Window.partitionBy(*key)
    keyed = F.col("user_id").isNotNull() & observed_on.isNotNull()
    broken = {
        "user_id is missing": F.col("user_id").isNull(),
        _NEVER_WAS_REASON: F.col("local_time") == NEVER_WAS,
        "observed_on is missing or no day": observed_on.isNull() & _other_than_never_was(),
        "matured_on is missing or no day": matured_on.isNull() & _other_than_never_was(),
        "matured_on is before observed_on": matured_on < observed_on,
        "label is not 0 or 1": F.col("label").isNull(),
        "another row has another label": keyed & (F.min("label").over(same_key) < F.max("label").over(same_key)),
    }
    if stored is not None:
        typed = typed.join(stored.select(*key, F.col("label").alias("stored_label")), on=key, how="left")
        broken["another label is stored"] = F.col("stored_label") != F.col("label")
    return typed.withColumn("reasons", _reasons(broken)).select(
        *key, "label", "matured_on", "reasons", "local_time", "source_row", "source_file"
    )


def _text(name: str) -> Column:
    """Return a column as text, with blank text as null."""
    text = F.col(name).cast("string")
    return F.when(F.trim(text) != "", text)


def _cast(name: str, to: str) -> Column:
    """Return a column cast to `to`, with null where the cast fails."""
    return F.expr(f"try_cast({name} AS {to})")


def _time(mapped: DataFrame, name: str, to: str) -> Column:
    """Return a column as a timestamp or a date, with null where text is not a full date."""
    if mapped.schema[name].dataType != StringType():
        return _cast(name, to)
    return F.when(is_full(F.col(name), to.upper()), _cast(name, to))


def _other_than_never_was() -> Column:
    return F.col("local_time").isNull() | (F.col("local_time") != NEVER_WAS)


def _reasons(broken: dict[str, Column]) -> Column:
    """Return the texts of the broken rules, or null where none is broken. A rule that evaluates to null is not broken.

    For a row that could not be read from its file, `source_fault` is the only reason.
    """
    texts = [F.when(rule, F.lit(text)) for text, rule in broken.items()]
    # Coalesce first, so that the array is built only for bad rows.
    fault = F.col("source_fault")
    return F.when(fault.isNotNull(), F.array(fault)).when(
        F.coalesce(*texts).isNotNull(), F.array_compact(F.array(*texts))
    )
