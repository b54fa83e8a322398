"""One checked delivery: its figures, the rows to store and the rows to keep aside."""

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
    """A delivery's figures.

    Attributes:
        rows: rows delivered.
        refused: rows that break the contract.
        days: distinct days of the accepted rows.
        key_range: lowest and highest key of the accepted rows, None where there are none.
        reasons: rows that broke each rule; a row that broke two counts under both.
        local_times: rows by what local_time says, without those of which it says nothing.
    """

    rows: int
    refused: int
    days: int
    key_range: tuple[str, str] | None
    reasons: dict[str, int]
    local_times: dict[str, int]

    @property
    def kept(self) -> int:
        """Rows that keep the contract."""
        return self.rows - self.refused


def in_line(reasons: Mapping[str, int]) -> str:
    """Reasons with their rows, the most frequent first.

    >>> in_line({"user_id is missing": 2, "currency is missing": 3000})
    'currency is missing 3,000, user_id is missing 2'
    """
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {rows:,}" for reason, rows in ordered)


def count_rows(checked: DataFrame, mapped: DataFrame, *, origin: str, day: str, key: str) -> DeliveryCounts:
    """Reads the whole delivery once, every mapped column of it, before anything is written.

    Args:
        checked: rows with `reasons`.
        mapped: the rows that were checked; only where they cannot be computed they tell which column's fault it is.
        origin: where they came from, for the errors.
        day: column whose distinct values are counted.
        key: column whose range is taken.

    Raises:
        InputError: there are no rows, a file cannot be read, or an expression of the mapping fails on a row.
    """
    # What expressions compute; the row as JSON would cost more than all of them.
    computed = [name for name in mapped.columns if name in checked.columns and not name.startswith("source_")]
    try:
        found = (
            # A few groups: one of good rows, and one for each set of rules that a row broke.
            checked.groupBy("reasons", "local_time")
            .agg(
                F.count(F.lit(1)).alias("rows"),
                # Not count_distinct, which would sort all rows by the day.
                F.collect_set(day).alias("days"),
                F.min(key).alias("first"),
                F.max(key).alias("last"),
                # So that an expression which fails, fails here.
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
        # The part before the line break may have passed for a whole row.
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
    """Which column cannot be computed, and why; None where each can by itself, or where the rows cannot be read."""
    computed = _before_faults(mapped)
    if _failure(computed.select("source_row")) is not None:
        return None
    for name in mapped.columns:
        if name in ("local_time", "source_fault"):
            continue  # Made of the others.
        reason = _failure(computed.select(name))
        if reason is not None:
            # Spark's message may quote the row; a log must not name a user.
            why = "" if name in ("user_id", "payment_id", "merchant_id") else f": {reason}"
            return f"column {name}: its expression cannot be computed{why}"
    return None


def _before_faults(mapped: DataFrame) -> DataFrame:
    """The columns as the mapping computes them, each by itself.

    `read_source` empties the columns of a row that cannot be taken, so each of them depends on what says that, and this
    on all texts: where one fails, all do.
    """
    plan: Any = mapped._jdf.queryExecution().analyzed()
    jvm: Any = mapped.sparkSession._jvm
    return DataFrame(
        jvm.org.apache.spark.sql.Dataset.ofRows(mapped.sparkSession._jsparkSession, plan.child()), mapped.sparkSession
    )


def _failure(rows: DataFrame) -> str | None:
    """What Spark says where a column cannot be computed."""
    try:
        rows.agg(F.max(F.xxhash64(*(F.col(name).cast("string") for name in rows.columns)))).head()
    except PySparkException as error:
        return _one_line(str(error))
    except Py4JJavaError as error:
        cause = error.java_exception
        while cause.getCause() is not None:
            cause = cause.getCause()
        kind = str(cause.getClass().getSimpleName())
        # Out of memory or of stack: the machine's fault, not the expression's.
        return None if kind.endswith("Error") else _one_line(str(cause.getMessage() or kind))
    return None


def _one_line(text: str) -> str:
    return re.sub(r"^\[[A-Z_.]+\]\s*", "", " ".join(text.split()))[:300]


def count_among(checked: DataFrame, keys: DataFrame, key: Sequence[str]) -> int:
    """The delivery's rows that keep the contract and have one of these keys."""
    good = checked.filter(F.col("reasons").isNull())
    return good.join(keys.select(*key), on=list(key), how="left_semi").count()


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


def _file_fault(error: Exception) -> str | None:
    """What Spark says of a file that it cannot read, with its path; None where it does not say which."""
    marks = ("while reading file", "CANNOT_READ_FILE_FOOTER", "Checksum error: ")
    lines = str(error).splitlines()
    return next((line[line.index(mark) :].strip() for line in lines for mark in marks if mark in line), None)
