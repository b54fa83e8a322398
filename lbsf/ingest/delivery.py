"""One checked delivery: its counts, the rows to store and the rows to quarantine."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lbsf.errors import InputError
from lbsf.ingest.contract import Received
from lbsf.ingest.heads import damaged_file
from lbsf.ingest.row_faults import CUT_FIELD
from lbsf.schemas import TableSchema


class DeliveryCounts(NamedTuple):
    """Counts of a delivery.

    Attributes:
        rows: rows delivered.
        refused: rows that break the contract.
        days: distinct days of the accepted rows.
        key_range: lowest and highest key of the accepted rows, None where there are none.
        reasons: number of rows that broke each rule; a row that broke two rules counts under both.
        local_times: number of rows for each value of local_time other than null.
    """

    rows: int
    refused: int
    days: int
    key_range: tuple[str, str] | None
    reasons: dict[str, int]
    local_times: dict[str, int]

    @property
    def kept(self) -> int:
        """Return the number of rows that meet the contract."""
        return self.rows - self.refused


def in_line(reasons: Mapping[str, int]) -> str:
    """Return the reasons and their row counts as one line, the most frequent first.

    >>> in_line({"user_id is missing": 2, "currency is missing": 3000})
    'currency is missing 3,000, user_id is missing 2'
    """
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {rows:,}" for reason, rows in ordered)


def count_rows(checked: DataFrame, mapped: DataFrame, *, origin: str, day: str, key: str) -> DeliveryCounts:
    """Count the rows of a delivery, reading every mapped column once before anything is written.

    Args:
        checked: rows with `reasons`.
        mapped: the rows before the check; used only to find which column failed.
        origin: where the rows came from, for error messages.
        day: column whose distinct values are counted.
        key: column whose lowest and highest values are returned.

    Raises:
        InputError: there are no rows, a file cannot be read, or an expression of the mapping fails on a row.
    """
    # Without the source columns: the row as JSON would cost more than all computed columns.
    computed = [name for name in mapped.columns if name in checked.columns and not name.startswith("source_")]
    try:
        found = (
            # There are few groups: one for the good rows, and one for each set of broken rules.
            checked.groupBy("reasons", "local_time")
            .agg(
                F.count(F.lit(1)).alias("rows"),
                # count_distinct would sort all rows by the day.
                F.collect_set(day).alias("days"),
                F.min(key).alias("first"),
                F.max(key).alias("last"),
                # Computes every column, so that a failing expression fails here.
                F.max(F.xxhash64(*computed)),
            )
            .collect()
        )
    except (Py4JJavaError, PySparkException) as error:
        files = [unquote(uri) for uri in checked.inputFiles()]
        fault = _file_fault(error) or damaged_file(checked.sparkSession, files) or _failing_column(mapped)
        if fault is None:
            raise
        raise InputError(f"{origin}: {fault}") from None
    if not found:
        raise InputError(f"{origin} holds no rows")
    good = [row for row in found if row["reasons"] is None]
    firsts, lasts = ([row[name] for row in good if row[name] is not None] for name in ("first", "last"))
    reasons, local_times = Counter[str](), Counter[str]()
    for row in found:
        reasons.update(dict.fromkeys(row["reasons"] or (), row["rows"]))
        local_times.update({row["local_time"]: row["rows"]} if row["local_time"] else {})
    if CUT_FIELD in reasons:
        # The part before the line break may have been read as a whole row.
        raise InputError(
            f"{origin}: fields hold line breaks ({reasons[CUT_FIELD]} rows are the end of one): "
            "set options.multiLine to true"
        )
    rows = sum(row["rows"] for row in found)
    return DeliveryCounts(
        rows=rows,
        refused=rows - sum(row["rows"] for row in good),
        days=len({one for row in good for one in row["days"]}),
        key_range=(min(firsts), max(lasts)) if firsts else None,
        reasons=dict(reasons),
        local_times=dict(local_times),
    )


def _failing_column(mapped: DataFrame) -> str | None:
    """Name the column that fails and why; None where each column works on its own or the rows cannot be read."""
    computed = _before_faults(mapped)
    if _failure(computed.select("source_row")) is not None:
        return None
    for name in mapped.columns:
        if name in ("local_time", "source_fault"):
            continue  # Computed from the other columns.
        reason = _failure(computed.select(name))
        if reason is not None:
            # Spark's message may quote the row, and a log must not name a user.
            why = "" if name in ("user_id", "payment_id", "merchant_id") else f": {reason}"
            return f"column {name}: its expression cannot be computed{why}"
    return None


def _before_faults(mapped: DataFrame) -> DataFrame:
    """Return the columns as the mapping computes them, independent of each other.

    `read_source` sets the columns of a faulty row to null. Each column therefore depends on the fault, which depends on
    all text columns, so one failing column makes all of them fail.
    """
    plan: Any = mapped._jdf.queryExecution().analyzed()
    jvm: Any = mapped.sparkSession._jvm
    return DataFrame(
        jvm.org.apache.spark.sql.Dataset.ofRows(mapped.sparkSession._jsparkSession, plan.child()), mapped.sparkSession
    )


def _failure(rows: DataFrame) -> str | None:
    """Return Spark's message where a column cannot be computed, else None."""
    try:
        rows.agg(F.max(F.xxhash64(*(F.col(name).cast("string") for name in rows.columns)))).head()
    except PySparkException as error:
        return _one_line(str(error))
    except Py4JJavaError as error:
        cause = error.java_exception
        while cause.getCause() is not None:
            cause = cause.getCause()
        kind = str(cause.getClass().getSimpleName())
        # An error such as out of memory or stack overflow comes from the machine, not from the expression.
        return None if kind.endswith("Error") else _one_line(str(cause.getMessage() or kind))
    return None


def _one_line(text: str) -> str:
    return re.sub(r"^\[[A-Z_.]+\]\s*", "", " ".join(text.split()))[:300]


def count_among(checked: DataFrame, keys: DataFrame, key: Sequence[str]) -> int:
    """Return the number of rows that meet the contract and have one of the given keys."""
    good = checked.filter(F.col("reasons").isNull())
    return good.join(keys.select(*key), on=list(key), how="left_semi").count()


def accepted(checked: DataFrame, table: TableSchema, earliest: str) -> DataFrame:
    """Return the rows that meet the contract, in the columns of `table`, one for each key.

    Among rows with the same key, the one with the lowest value of column `earliest` stays. The other columns, in
    order, break ties, so the result does not depend on the order of rows or files.
    """
    rest = [earliest, *(name for name in table.column_names if name not in (*table.key, earliest))]
    return (
        checked.filter(F.col("reasons").isNull())
        # With the shuffle first, the aggregate sorts once, not also before the shuffle.
        .repartition(*table.key)
        .groupBy(*table.key)
        .agg(F.min(F.struct(*rest)).alias("first"))
        .select(*table.key, "first.*")
    )


def refused(checked: DataFrame, received: Received) -> DataFrame:
    """Return the rows that break the contract, as quarantine rows; identical rows of a file become one with a count."""
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


def _file_fault(error: Exception) -> str | None:
    """Return Spark's message about a file that it cannot read, with the path; None where no file is named."""
    marks = ("while reading file", "CANNOT_READ_FILE_FOOTER", "Checksum error: ")
    lines = str(error).splitlines()
    return next((line[line.index(mark) :].strip() for line in lines for mark in marks if mark in line), None)
