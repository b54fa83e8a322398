"""The only reads and writes of Delta tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lbsf.config.models import StorageConfig
from lbsf.errors import InputError
from lbsf.schemas import TableSchema


class DataFile(NamedTuple):
    """One Parquet file of a Delta snapshot."""

    path: str
    rows: int
    partition: str | None


class Warehouse:
    """The tables under `storage.root`/tables. Every write is one Delta transaction, safe to repeat."""

    def __init__(self, spark: SparkSession, storage: StorageConfig):
        self.spark = spark
        self.storage = storage

    def location(self, table: TableSchema) -> str:
        """The table's folder or URI."""
        root = self.storage.root
        if "://" not in root and not root.startswith("dbfs:"):
            root = str(Path(root).resolve())
        return f"{root}/tables/{table.name}"

    def exists(self, table: TableSchema) -> bool:
        """Whether the table has been written."""
        return DeltaTable.isDeltaTable(self.spark, self.location(table))

    def version(self, table: TableSchema) -> int:
        """The newest Delta version. Raises InputError where the table is missing."""
        self._require(table)
        history = DeltaTable.forPath(self.spark, self.location(table)).history(1)
        return int(history.select("version").first()[0])  # type: ignore[index]

    def read(self, table: TableSchema, version: int | None = None) -> DataFrame:
        """The table, at `version` where one is given.

        Raises:
            InputError: there is no such table, or no such version.
            SchemaMismatchError: it holds other columns than declared.
        """
        self._require(table)
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        return table.conform(reader.load(self.location(table)))

    def data_files(self, table: TableSchema, version: int) -> list[DataFile]:
        """The snapshot's Parquet files as local paths, in a stable order, with their row counts."""
        from deltalake import DeltaTable as DeltaLog

        root = local_path(self.location(table))
        actions = DeltaLog(root, version=version).get_add_actions(flatten=True)
        columns = {name: actions.column(name).to_pylist() for name in actions.column_names}
        partition = columns.get(f"partition.{table.partition_by}", [None] * len(columns["path"]))
        files = [
            DataFile(f"{root}/{path}", int(rows), None if value is None else str(value))
            for path, rows, value in zip(columns["path"], columns["num_records"], partition, strict=True)
        ]
        return sorted(files)

    def insert_new(self, table: TableSchema, df: DataFrame, match_on: Sequence[str]) -> None:
        """Adds the rows of `df` whose `match_on` columns no stored row equals: the first delivery stays.

        `df` must hold each combination of `match_on` once.
        """
        df = table.conform(df)
        if not self.exists(table):
            self._create(table)
        condition = " AND ".join(f"stored.{column} = new.{column}" for column in match_on)
        (
            DeltaTable.forPath(self.spark, self.location(table))
            .alias("stored")
            .merge(df.alias("new"), condition)
            .whenNotMatchedInsertAll()
            .execute()
        )
        self.register(table)

    def replace_day(self, table: TableSchema, df: DataFrame, day: date, row_group_rows: int | None = None) -> None:
        """Replaces the partition of one day by `df`, in one transaction; other days stay as they were.

        Parquet row groups hold `row_group_rows` rows where that is given, a file's last group its rest.
        """
        if table.partition_by is None:
            raise ValueError(f"table {table.name} has no partition")
        writer = table.conform(df).write.format("delta").mode("overwrite").partitionBy(table.partition_by)
        if self.exists(table):
            writer = writer.option("replaceWhere", f"{table.partition_by} = '{day.isoformat()}'")
        with self._row_groups(row_group_rows):
            writer.save(self.location(table))
        self.register(table)

    def overwrite(self, table: TableSchema, df: DataFrame, row_group_rows: int | None = None) -> None:
        """Replaces the whole table by `df`, in one transaction. `row_group_rows` as in `replace_day`."""
        writer = table.conform(df).write.format("delta").mode("overwrite").option("overwriteSchema", "true")
        if table.partition_by is not None:
            writer = writer.partitionBy(table.partition_by)
        with self._row_groups(row_group_rows):
            writer.save(self.location(table))
        self.register(table)

    def register(self, table: TableSchema) -> None:
        """Makes the table known to SQL under `storage.database`, where one is configured."""
        if self.storage.database is None:
            return
        self.spark.sql(f"CREATE SCHEMA IF NOT EXISTS {self.storage.database}")
        self.spark.sql(
            f"CREATE TABLE IF NOT EXISTS {self.storage.database}.{table.name} "
            f"USING DELTA LOCATION '{self.location(table)}'"
        )

    @contextmanager
    def _row_groups(self, rows: int | None) -> Iterator[None]:
        """Within it, Spark's Parquet writer closes a row group after exactly `rows` rows.

        The writer bounds a row group by bytes alone, but looks at its size only after so many rows: a
        size that is always exceeded, looked at every `rows` rows, is a limit in rows. Delta passes
        Parquet's settings on from the session only, not from a writer's options.
        """
        if rows is None:
            yield
            return
        settings = {
            "parquet.block.size": "1",
            "parquet.page.size.row.check.min": str(rows),
            "parquet.page.size.row.check.max": str(rows),
        }
        before = {key: self.spark.conf.get(key, None) for key in settings}
        for key, value in settings.items():
            self.spark.conf.set(key, value)
        try:
            yield
        finally:
            for key, previous in before.items():
                if previous is None:
                    self.spark.conf.unset(key)
                else:
                    self.spark.conf.set(key, previous)

    def _create(self, table: TableSchema) -> None:
        empty = self.spark.createDataFrame([], table.struct)
        writer = empty.write.format("delta").mode("ignore")
        if table.partition_by is not None:
            writer = writer.partitionBy(table.partition_by)
        writer.save(self.location(table))

    def _require(self, table: TableSchema) -> None:
        if not self.exists(table):
            raise InputError(
                f"table {table.name} does not exist under {self.storage.root}: run the job that writes it first"
            )


def local_path(location: str) -> str:
    """A location as this machine's file system shows it (`dbfs:/x` is mounted at `/dbfs/x`).

    >>> local_path("dbfs:/lbsf/tables/folds")
    '/dbfs/lbsf/tables/folds'
    """
    if location.startswith("dbfs:"):
        return "/dbfs/" + location.removeprefix("dbfs:").lstrip("/")
    return location.removeprefix("file://")


def has_rows(df: DataFrame) -> bool:
    """Whether there is at least one row."""
    return df.select(F.lit(1)).head() is not None
