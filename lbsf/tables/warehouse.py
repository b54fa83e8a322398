"""Reads and writes the Delta tables."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any

from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, DataFrameWriter, SparkSession
from pyspark.sql import functions as F

from lbsf.config.models import StorageConfig
from lbsf.errors import InputError
from lbsf.schemas import TableSchema
from lbsf.session import settings_of
from lbsf.tables.faults import CONFLICTS, conflict
from lbsf.tables.log import DataFile, is_table, newest_version, part_changed, require_readable, snapshot_files

# Attempts to insert a delivery when other writers commit first.
_TRIES = 5
_COMMIT_MARK = "spark.databricks.delta.commitInfo.userMetadata"


class Warehouse:
    """The tables under `storage.root`/tables. Every write is one Delta transaction and can be repeated safely."""

    def __init__(self, spark: SparkSession, storage: StorageConfig):
        self.spark = spark
        self.storage = storage

    def location(self, table: TableSchema) -> str:
        """Return the table's folder or URI."""
        root = self.storage.root
        if not root.startswith(("dbfs:", "file://")):
            root = str(Path(root).resolve())
        return f"{root}/tables/{table.name}"

    def exists(self, table: TableSchema) -> bool:
        """Return whether the table exists. Raises InputError if its log is damaged."""
        return is_table(local_path(self.location(table)))

    def version(self, table: TableSchema) -> int:
        """Return the newest Delta version. Raises InputError if the table is missing or its log is damaged."""
        self._require(table)
        return newest_version(local_path(self.location(table)))

    def read(self, table: TableSchema, version: int | None = None) -> DataFrame:
        """Read the table at a version; None: the newest.

        Raises:
            InputError: the table or the version does not exist, or the log is damaged.
            SchemaMismatchError: its columns differ from the declared ones.
        """
        self._require(table)
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        try:
            rows = reader.load(self.location(table))
        except AnalysisException as error:
            if version is None:
                raise
            raise InputError(f"table {table.name} has no version {version}: {str(error).splitlines()[0]}") from None
        return table.conform(rows)

    def data_files(self, table: TableSchema, version: int) -> list[DataFile]:
        """Return the Parquet files of a version, with local paths and row counts, sorted by path."""
        return snapshot_files(local_path(self.location(table)), version)

    def readable_files(self, table: TableSchema, version: int) -> list[DataFile]:
        """Return `data_files` after checking each of them. Raises InputError if one is missing or damaged."""
        files = self.data_files(table, version)
        require_readable(files)
        return files

    def part_changed(self, table: TableSchema, part: Mapping[str, str], since: int, until: int) -> bool:
        """Return whether a version after `since`, up to `until`, wrote to a partition; True if the log has expired."""
        return part_changed(local_path(self.location(table)), part, since, until)

    def insert_new(
        self,
        table: TableSchema,
        df: DataFrame,
        match_on: Sequence[str],
        within: tuple[Any, Any] | None = None,
        seen: int | None = None,
    ) -> int:
        """Insert the rows of `df` whose `match_on` values are not in the table yet; stored rows never change.

        The whole table is searched, including rows that other writers have committed meanwhile. Each row is therefore
        stored once, even if several writers insert it at the same time.

        Args:
            table: the table to insert into.
            df: new rows; the combinations of `match_on` are unique and without nulls.
            match_on: the columns that identify a row.
            within: lowest and highest value in `df` of the first column of `match_on`, if the caller knows them. Delta
                then reads only files whose values may be in that range.
            seen: the table's version that the caller compared `df` with, -1 if there was no table; None: it did not
                compare.

        Returns:
            Number of rows added. If it is 0, the table keeps its version.

        Raises:
            InputError: other writers committed first in all `_TRIES` attempts, or one has since the version `seen`.
        """
        df = table.conform(df)
        for _ in range(_TRIES):
            exists = self.exists(table)
            before = self.version(table) if exists else -1
            if seen is not None and before != seen:
                break
            mark = uuid.uuid4().hex
            try:
                with settings_of(self.spark, {_COMMIT_MARK: mark}):
                    self._insert(table, df, match_on, within, exists)
            except CONFLICTS:
                continue
            except AnalysisException:
                if exists or not self.exists(table):
                    raise
                continue  # Another writer created the table meanwhile.
            self.register(table)
            return self._rows_added(table, before, mark)
        raise InputError(conflict(table.name))

    def _insert(
        self, table: TableSchema, df: DataFrame, match_on: Sequence[str], within: tuple[Any, Any] | None, exists: bool
    ) -> None:
        location = self.location(table)
        if not exists:
            # Writes one file per partition instead of one per task and partition.
            rows = df.repartition(*table.partition_by) if table.partition_by else df
            if table.sorted_by:
                rows = rows.sortWithinPartitions(*table.partition_by, *table.sorted_by)
            self._writer(table, rows, "error").save(location)
        else:
            condition = reduce(and_, [F.col(f"stored.{name}") == F.col(f"new.{name}") for name in match_on])
            if within is not None:
                condition &= F.col(f"stored.{match_on[0]}").between(*within)
            merge = DeltaTable.forPath(self.spark, location).alias("stored").merge(df.alias("new"), condition)
            merge.whenNotMatchedInsertAll().execute()

    def replace_day(self, table: TableSchema, df: DataFrame, day: date, row_group_rows: int | None = None) -> None:
        """Replace the rows of one day, a value of the first partition column, by `df`; see `replace_part`."""
        if not table.partition_by:
            raise ValueError(f"table {table.name} has no partition")
        self.replace_part(table, df, {table.partition_by[0]: day.isoformat()}, row_group_rows)

    def replace_part(
        self,
        table: TableSchema,
        df: DataFrame,
        part: Mapping[str, str | None | Sequence[str]],
        row_group_rows: int | None = None,
    ) -> None:
        """Replace some partitions by `df` in one transaction; the others do not change.

        Args:
            table: the table to write.
            df: new rows, all within these partitions.
            part: the value or values of some of the partition columns; None means null.
            row_group_rows: rows per Parquet row group; the last group of a file holds the rest.

        Raises:
            InputError: another job wrote these partitions meanwhile.
        """
        writer = self._writer(table, df, "overwrite")
        if self.exists(table):
            writer = writer.option("replaceWhere", " AND ".join(_test(*item) for item in part.items()))
        with self._row_groups(row_group_rows), _refuse_conflict(table):
            writer.save(self.location(table))
        self.register(table)

    def overwrite(
        self,
        table: TableSchema,
        df: DataFrame,
        row_group_rows: int | None = None,
        made_from: Mapping[str, int] | None = None,
    ) -> None:
        """Replace the whole table by `df` in one transaction.

        Args:
            table: the table to write.
            df: new rows.
            row_group_rows: as in `replace_part`.
            made_from: Delta versions of the tables that `df` was read from, recorded in the commit.

        Raises:
            InputError: another job wrote the table meanwhile.
        """
        writer = self._writer(table, df, "overwrite").option("overwriteSchema", "true")
        if made_from is not None:
            writer = writer.option("userMetadata", json.dumps({"made_from": dict(made_from)}))
        with self._row_groups(row_group_rows), _refuse_conflict(table):
            writer.save(self.location(table))
        self.register(table)

    def made_from(self, table: TableSchema, version: int) -> dict[str, int]:
        """Return the Delta versions, by table, that a version was made from, as recorded in its commit."""
        history = DeltaTable.forPath(self.spark, self.location(table)).history()
        commit = history.where(F.col("version") == version).select("userMetadata").first()
        recorded = json.loads(commit[0]) if commit is not None and commit[0] else {}
        return {name: int(number) for name, number in recorded.get("made_from", {}).items()}

    def register(self, table: TableSchema) -> None:
        """Register the table in `storage.database`, if one is configured, so that SQL can use its name."""
        if self.storage.database is None:
            return
        self.spark.sql(f"CREATE SCHEMA IF NOT EXISTS {self.storage.database}")
        location = self.location(table).replace("\\", "\\\\").replace("'", "\\'")
        self.spark.sql(
            f"CREATE TABLE IF NOT EXISTS {self.storage.database}.{table.name} USING DELTA LOCATION '{location}'"
        )

    def properties(self, table: TableSchema) -> dict[str, str]:
        """Return Delta's properties for a new table."""
        days = f"interval {self.storage.history_days} days"
        kept = {"delta.logRetentionDuration": days, "delta.deletedFileRetentionDuration": days}
        # PyArrow also reads the files, and does not support deletion vectors.
        return kept | {
            "delta.enableDeletionVectors": "false",
            "delta.enableChangeDataFeed": str(table.change_feed).lower(),
        }

    def _writer(self, table: TableSchema, df: DataFrame, mode: str) -> DataFrameWriter:
        writer = table.conform(df).write.format("delta").mode(mode)
        if not self.exists(table):
            writer = writer.options(**self.properties(table))
        return writer.partitionBy(*table.partition_by) if table.partition_by else writer

    def _row_groups(self, rows: int | None) -> AbstractContextManager[None]:
        """Return a context in which Spark's Parquet writer closes a row group after exactly `rows` rows.

        The writer limits a row group only by its bytes, but checks the size only every so many rows. A limit of 1 byte
        checked every `rows` rows therefore limits the rows.
        """
        if rows is None:
            return nullcontext()
        size_checks = dict.fromkeys(("parquet.page.size.row.check.min", "parquet.page.size.row.check.max"), str(rows))
        return settings_of(self.spark, {"parquet.block.size": "1", **size_checks})

    def _rows_added(self, table: TableSchema, before: int, mark: str) -> int:
        """Return the rows added by the commit with this mark after version `before`; 0 if there is no such commit."""
        newest = self.version(table)
        if newest == before:
            return 0
        history = DeltaTable.forPath(self.spark, self.location(table)).history(newest - before)
        row = history.where(F.col("userMetadata") == mark).select("operationMetrics").head()
        if row is None:
            return 0
        metrics = row["operationMetrics"]
        return int(metrics.get("numTargetRowsInserted", metrics["numOutputRows"]))

    def _require(self, table: TableSchema) -> None:
        if not self.exists(table):
            raise InputError(
                f"table {table.name} does not exist under {self.storage.root}: run the job that writes it first"
            )


@contextmanager
def _refuse_conflict(table: TableSchema) -> Iterator[None]:
    """Return a context that turns a write conflict with another job into an InputError."""
    try:
        yield
    except CONFLICTS as error:
        raise InputError(conflict(table.name)) from error


def _test(name: str, value: str | None | Sequence[str]) -> str:
    """Return an SQL condition: the column equals the value, is one of the values, or is null (None)."""
    if value is None:
        return f"{name} IS NULL"
    return f"{name} IN ({', '.join(repr(text) for text in ([value] if isinstance(value, str) else value))})"


def local_path(location: str) -> str:
    """Return a location as a path of the local file system (`dbfs:/x` is mounted at `/dbfs/x`).

    >>> local_path("dbfs:/lbsf/tables/folds")
    '/dbfs/lbsf/tables/folds'
    """
    if location.startswith("dbfs:"):
        return "/dbfs/" + location.removeprefix("dbfs:").lstrip("/")
    return location.removeprefix("file://")


def has_rows(df: DataFrame) -> bool:
    """Return whether there is at least one row."""
    return df.select(F.lit(1)).head() is not None


@contextmanager
def lost_files_mean(message: str) -> Iterator[None]:
    """Return a context that raises InputError(message) when a table version is read whose files were removed."""
    try:
        yield
    except Py4JJavaError as error:
        # Spark has no public exception class for this.
        if "FileNotFound" not in str(error) and "FILE_NOT_EXIST" not in str(error):
            raise
        raise InputError(message) from None
