"""One checked delivery: its figures, the rows to store and the rows to keep aside."""

from __future__ import annotations

from typing import NamedTuple

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lbsf.errors import InputError
from lbsf.ingest.contract import Received
from lbsf.ingest.sources import file_fault
from lbsf.schemas import TableSchema


class DeliveryCounts(NamedTuple):
    """A delivery's figures.

    Attributes:
        rows: rows delivered.
        refused: rows that break the contract.
        days: distinct days of the accepted rows.
        key_range: lowest and highest key of the accepted rows, None where there are none.
    """

    rows: int
    refused: int
    days: int
    key_range: tuple[str, str] | None


def count_rows(checked: DataFrame, *, origin: str, day: str, key: str) -> DeliveryCounts:
    """Reads the whole delivery once, before anything is written.

    Args:
        checked: rows with `reasons`.
        origin: where they came from, for the errors.
        day: column whose distinct values are counted.
        key: column whose range is taken.

    Raises:
        InputError: there are no rows, or a file cannot be read.
    """
    good = F.col("reasons").isNull()
    try:
        found = checked.agg(
            F.count(F.lit(1)),
            F.count("reasons"),
            # Not count_distinct, which would sort all rows by the day.
            F.size(F.collect_set(F.when(good, F.col(day)))),
            F.min(F.when(good, F.col(key))),
            F.max(F.when(good, F.col(key))),
        ).head()
    except (Py4JJavaError, PySparkException) as error:
        unreadable = file_fault(error)
        if unreadable is None:
            raise
        raise InputError(f"{origin}: {unreadable}") from None
    assert found is not None  # An aggregate without groups has one row.
    rows, bad, days, first, last = found
    if rows == 0:
        raise InputError(f"{origin} holds no rows")
    return DeliveryCounts(rows, bad, days, None if first is None else (first, last))


def accepted(checked: DataFrame, table: TableSchema, earliest: str) -> DataFrame:
    """The rows that keep the contract, in `table`'s columns, one for each key.

    Of rows with one key the one with the earliest `earliest` stays, and of equals the least by the other
    columns in turn, whatever the order of rows or files.
    """
    rest = [earliest, *(name for name in table.column_names if name not in (*table.key, earliest))]
    return (
        checked.filter(F.col("reasons").isNull())
        # The aggregate sorts; after the shuffle alone it sorts once, not before it as well.
        .repartition(*table.key)
        .groupBy(*table.key)
        .agg(F.min(F.struct(*rest)).alias("first"))
        .select(*table.key, "first.*")
    )


def refused(checked: DataFrame, received: Received) -> DataFrame:
    """The rows that break the contract as a quarantine table's rows, identical ones of a file counted."""
    return (
        checked.filter(F.col("reasons").isNotNull())
        .groupBy("source_file", F.col("source_row").alias("row"))
        .agg(F.min("reasons").alias("reasons"), F.count(F.lit(1)).alias("occurrences"))
        .select(
            F.sha2(F.concat_ws("\n", "source_file", "row"), 256).alias("quarantine_id"),
            "row",
            "reasons",
            "occurrences",
            F.lit(received.source).alias("source"),
            "source_file",
            F.lit(received.run_id).alias("run_id"),
            F.lit(received.at).alias("quarantined_at"),
        )
    )
