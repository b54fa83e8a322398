"""The warehouse on real Delta: what each write leaves, at which version, and what it refuses."""

from __future__ import annotations

from datetime import date
from functools import partial
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pyarrow.parquet as pq
import pytest
from delta.exceptions import ConcurrentAppendException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DateType, IntegerType, StringType
from storage_faults import DAMAGES, damage

from lbsf.config.models import StorageConfig
from lbsf.errors import InputError, SchemaMismatchError
from lbsf.schemas import Column, TableSchema
from lbsf.tables import DataFile, Warehouse, explain, has_rows, local_path

VISITS = TableSchema(
    name="visits",
    purpose="One row a visit.",
    key=("visit_id",),
    partition_by=("day",),
    columns=(
        Column("visit_id", StringType(), "which"),
        Column("day", DateType(), "when"),
        Column("minutes", IntegerType(), "how long", nullable=True),
    ),
)
PLAIN = TableSchema(name="plain", purpose="No partition.", key=("visit_id", "day"), columns=VISITS.columns)
FIRST, SECOND = date(2025, 1, 1), date(2025, 1, 2)


def storage(root: Path | str, database: str | None = None) -> StorageConfig:
    return StorageConfig(root=str(root), database=database, user_buckets=2, history_days=30)


@pytest.fixture
def warehouse(spark: SparkSession, tmp_path: Path) -> Warehouse:
    return Warehouse(spark, storage(tmp_path / "store"))


@pytest.fixture
def visits(spark: SparkSession) -> Any:
    return lambda *rows: spark.createDataFrame(list(rows), VISITS.struct)


def held(df: DataFrame) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in df.collect())


def test_a_missing_table_says_which_job_is_due(warehouse: Warehouse) -> None:
    assert not warehouse.exists(VISITS)
    for use in (warehouse.read, warehouse.version):
        with pytest.raises(InputError, match=r"table visits does not exist under .*: run the job that writes it first"):
            use(VISITS)


@pytest.mark.parametrize("table", [VISITS, PLAIN], ids=["partitioned", "plain"])
def test_insert_new_keeps_the_first_delivery(warehouse: Warehouse, visits: Any, table: TableSchema) -> None:
    assert warehouse.insert_new(table, visits(("a", FIRST, 1), ("b", SECOND, None)), ["visit_id"]) == 2
    assert warehouse.version(table) == 0
    # `a` comes again with other values, `c` is new.
    assert warehouse.insert_new(table, visits(("a", SECOND, 9), ("c", FIRST, 3)), ["visit_id"]) == 1
    assert held(warehouse.read(table)) == [("a", FIRST, 1), ("b", SECOND, None), ("c", FIRST, 3)]
    assert warehouse.version(table) == 1


def test_insert_new_of_nothing_new_leaves_the_version(warehouse: Warehouse, visits: Any) -> None:
    rows = visits(("a", FIRST, 1), ("b", SECOND, 2))
    assert [warehouse.insert_new(VISITS, rows, ["visit_id"]) for _ in range(3)] == [2, 0, 0]
    assert warehouse.version(VISITS) == 0


def test_insert_new_of_no_rows_makes_an_empty_table(warehouse: Warehouse, visits: Any) -> None:
    assert warehouse.insert_new(VISITS, visits(), ["visit_id"]) == 0
    assert held(warehouse.read(VISITS)) == []
    assert warehouse.insert_new(VISITS, visits(("a", FIRST, 1)), ["visit_id"]) == 1


def test_insert_new_matches_on_all_columns_named(warehouse: Warehouse, visits: Any) -> None:
    warehouse.insert_new(PLAIN, visits(("a", FIRST, 1)), PLAIN.key)
    assert warehouse.insert_new(PLAIN, visits(("a", SECOND, 2), ("a", FIRST, 3)), PLAIN.key) == 1
    assert held(warehouse.read(PLAIN)) == [("a", FIRST, 1), ("a", SECOND, 2)]


def test_insert_new_within_a_range_finds_the_stored_rows_of_the_range(warehouse: Warehouse, visits: Any) -> None:
    warehouse.insert_new(VISITS, visits(*((f"v{number}", FIRST, number) for number in range(10))), ["visit_id"])
    rows = visits(("v3", SECOND, 0), ("v5", SECOND, 0), ("v55", SECOND, 0))
    assert warehouse.insert_new(VISITS, rows, ["visit_id"], within=("v3", "v55")) == 1
    assert len(held(warehouse.read(VISITS))) == 11


def test_insert_new_writes_one_file_a_day(warehouse: Warehouse, visits: Any) -> None:
    rows = [(f"v{number}", date(2025, 1, 1 + number % 3), number) for number in range(300)]
    warehouse.insert_new(VISITS, visits(*rows).repartition(8), ["visit_id"])
    assert [(file.partition["day"], file.rows) for file in warehouse.data_files(VISITS, 0)] == [
        ("2025-01-01", 100),
        ("2025-01-02", 100),
        ("2025-01-03", 100),
    ]


def test_a_killed_first_write_leaves_no_table_and_no_hindrance(warehouse: Warehouse, visits: Any) -> None:
    # What a writer leaves that dies before its commit: data files without a log.
    visits(("x", FIRST, 1)).write.parquet(f"{warehouse.location(VISITS)}/day=2025-01-01")
    assert not warehouse.exists(VISITS)
    assert warehouse.insert_new(VISITS, visits(("a", FIRST, 1)), ["visit_id"]) == 1
    assert held(warehouse.read(VISITS)) == [("a", FIRST, 1)]


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries=st.lists(st.sets(st.integers(0, 8), max_size=6), min_size=1, max_size=4))
def test_any_split_into_deliveries_stores_each_row_once(
    spark: SparkSession, visits: Any, tmp_path_factory: pytest.TempPathFactory, deliveries: list[set[int]]
) -> None:
    warehouse = Warehouse(spark, storage(tmp_path_factory.mktemp("store")))
    added = 0
    for number, delivery in enumerate(deliveries):
        # Each delivery has its own day: the same visit comes again on another one.
        rows = visits(*((f"v{visit}", date(2025, 1, 1 + number), number) for visit in delivery))
        within = (f"v{min(delivery)}", f"v{max(delivery)}") if delivery else None
        added += warehouse.insert_new(VISITS, rows, ["visit_id"], within)
    stored = [row[0] for row in held(warehouse.read(VISITS))]
    assert stored == sorted({f"v{visit}" for delivery in deliveries for visit in delivery})
    assert added == len(stored)


def test_other_columns_are_refused_before_anything_is_written(warehouse: Warehouse, spark: SparkSession) -> None:
    rows = spark.sql("SELECT 'a' AS visit_id, date'2025-01-01' AS day, 1L AS minutes, 2 AS more")
    problems = "column minutes is bigint, not int; column more is not declared"
    for write in (
        lambda: warehouse.insert_new(VISITS, rows, ["visit_id"]),
        lambda: warehouse.overwrite(VISITS, rows),
        lambda: warehouse.replace_day(VISITS, rows, FIRST),
    ):
        with pytest.raises(SchemaMismatchError, match=problems):
            write()
    assert not Path(warehouse.location(VISITS)).exists()


def test_replace_day_replaces_that_day_alone(warehouse: Warehouse, visits: Any) -> None:
    warehouse.replace_day(VISITS, visits(("a", FIRST, 1)), FIRST)
    warehouse.replace_day(VISITS, visits(("b", SECOND, 2), ("c", SECOND, 3)), SECOND)
    warehouse.replace_day(VISITS, visits(("d", SECOND, 4)), SECOND)
    assert held(warehouse.read(VISITS)) == [("a", FIRST, 1), ("d", SECOND, 4)]


def test_replace_day_refuses_rows_of_another_day(warehouse: Warehouse, visits: Any) -> None:
    warehouse.replace_day(VISITS, visits(("a", FIRST, 1)), FIRST)
    with pytest.raises(PySparkException, match="day IN \\('2025-01-02'\\)"):
        warehouse.replace_day(VISITS, visits(("b", FIRST, 2)), SECOND)
    assert held(warehouse.read(VISITS)) == [("a", FIRST, 1)]


def test_replace_day_needs_a_partition(warehouse: Warehouse, visits: Any) -> None:
    with pytest.raises(ValueError, match="table plain has no partition"):
        warehouse.replace_day(PLAIN, visits(), FIRST)


def test_overwrite_replaces_all_and_older_versions_stay_readable(warehouse: Warehouse, visits: Any) -> None:
    warehouse.overwrite(VISITS, visits(("a", FIRST, 1)))
    warehouse.overwrite(VISITS, visits(("b", SECOND, 2)))
    assert warehouse.version(VISITS) == 1
    assert held(warehouse.read(VISITS)) == [("b", SECOND, 2)]
    assert held(warehouse.read(VISITS, version=0)) == [("a", FIRST, 1)]


def test_reading_a_version_that_is_not_there_is_one_clear_line(warehouse: Warehouse, visits: Any) -> None:
    warehouse.overwrite(VISITS, visits(("a", FIRST, 1)))
    with pytest.raises(InputError, match="table visits has no version 7"):
        warehouse.read(VISITS, version=7)


def test_a_table_with_other_columns_than_declared_is_refused(warehouse: Warehouse, visits: Any) -> None:
    warehouse.overwrite(VISITS, visits(("a", FIRST, 1)))
    wider = TableSchema(
        name="visits", purpose="", key=(), columns=(*VISITS.columns, Column("place", StringType(), "where"))
    )
    with pytest.raises(SchemaMismatchError, match="table visits: column place is missing"):
        warehouse.read(wider)


def test_data_files_are_the_snapshots_own(warehouse: Warehouse, visits: Any) -> None:
    warehouse.overwrite(VISITS, visits(("a", FIRST, 1), ("b", SECOND, 2), ("c", SECOND, 3)).coalesce(1))
    warehouse.overwrite(VISITS, visits(("d", FIRST, 4)).coalesce(1))
    old, new = warehouse.data_files(VISITS, 0), warehouse.data_files(VISITS, 1)
    assert [(file.rows, file.partition["day"]) for file in old] == [(1, "2025-01-01"), (2, "2025-01-02")]
    assert [(file.rows, file.partition["day"]) for file in new] == [(1, "2025-01-01")]
    assert all(isinstance(file, DataFile) and Path(file.path).is_file() for file in old + new)


def test_a_row_group_holds_the_rows_asked_for(warehouse: Warehouse, visits: Any, spark: SparkSession) -> None:
    before = spark.conf.get("parquet.block.size", None)
    rows = visits(*((f"v{number}", FIRST, number) for number in range(250))).coalesce(1)
    warehouse.replace_day(VISITS, rows, FIRST, row_group_rows=100)
    parquet = pq.ParquetFile(warehouse.data_files(VISITS, 0)[0].path).metadata
    assert [parquet.row_group(group).num_rows for group in range(parquet.num_row_groups)] == [100, 100, 50]
    assert spark.conf.get("parquet.block.size", None) == before


def test_a_database_makes_tables_known_to_sql(spark: SparkSession, visits: Any, tmp_path: Path) -> None:
    warehouse = Warehouse(
        spark,
        StorageConfig(
            root=str(tmp_path / "a store's"), database="lbsf_test_warehouse", user_buckets=2, history_days=30
        ),
    )
    try:
        warehouse.insert_new(VISITS, visits(("a", FIRST, 1)), ["visit_id"])
        warehouse.insert_new(VISITS, visits(("b", FIRST, 2)), ["visit_id"])
        assert held(spark.table("lbsf_test_warehouse.visits")) == [("a", FIRST, 1), ("b", FIRST, 2)]
        assert spark.table("lbsf_test_warehouse.visits").schema["minutes"].metadata == {"comment": "how long"}
    finally:
        spark.sql("DROP SCHEMA IF EXISTS lbsf_test_warehouse CASCADE")


def test_locations(spark: SparkSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    def location(root: str) -> str:
        return Warehouse(spark, storage(root)).location(VISITS)

    assert location("store") == f"{tmp_path}/store/tables/visits"
    assert location("dbfs:/mnt/lbsf") == "dbfs:/mnt/lbsf/tables/visits"
    assert location("file:///data/lbsf") == "file:///data/lbsf/tables/visits"
    assert local_path("dbfs:/mnt/lbsf") == "/dbfs/mnt/lbsf"
    assert local_path("file:///data") == "/data"
    assert local_path("/data") == "/data"


def test_has_rows(spark: SparkSession) -> None:
    assert has_rows(spark.range(1))
    assert not has_rows(spark.range(0))


def at_once(writers: list[Any]) -> list[Any]:
    """What each writer returned or raised."""
    barrier, results = Barrier(len(writers)), [None] * len(writers)

    def write(number: int) -> None:
        barrier.wait()
        try:
            results[number] = writers[number]()
        except Exception as error:
            results[number] = error

    threads = [Thread(target=write, args=(number,)) for number in range(len(writers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("stored", [False, True], ids=["into nothing", "into a table"])
def test_of_deliveries_at_once_each_row_is_stored_once(spark: SparkSession, tmp_path: Path, stored: bool) -> None:
    # Sessions of their own, as jobs have.
    warehouses = [Warehouse(spark.newSession(), storage(tmp_path / "store")) for _ in range(3)]

    def rows(number: int) -> DataFrame:
        own = [(f"w{number}-{row}", FIRST, row) for row in range(20)]
        return warehouses[number].spark.createDataFrame([*own, ("same", FIRST, number)], VISITS.struct)

    if stored:
        warehouses[0].insert_new(
            VISITS, warehouses[0].spark.createDataFrame([("a", FIRST, 1)], VISITS.struct), ["visit_id"]
        )
    added = at_once([partial(w.insert_new, VISITS, rows(n), ["visit_id"]) for n, w in enumerate(warehouses)])
    assert sorted(added) == [20, 20, 21]
    found = [row["visit_id"] for row in warehouses[0].read(VISITS).collect()]
    assert len(found) == len(set(found)) == 61 + stored


def test_of_two_writers_of_a_day_the_second_is_refused_in_one_line(spark: SparkSession, tmp_path: Path) -> None:
    warehouses = [Warehouse(spark.newSession(), storage(tmp_path / "store")) for _ in range(2)]
    first = warehouses[0].spark.createDataFrame([("a", FIRST, 1)], VISITS.struct)
    warehouses[0].replace_day(VISITS, first, FIRST)

    def day(number: int) -> DataFrame:
        return warehouses[number].spark.createDataFrame([(f"w{number}", FIRST, row) for row in range(2)], VISITS.struct)

    results = at_once([partial(w.replace_day, VISITS, day(n), FIRST) for n, w in enumerate(warehouses)])
    for error in filter(None, results):
        assert isinstance(error, InputError)
        assert str(error) == "table visits: another job wrote the table meanwhile; run this again"
    assert results.count(None) >= 1
    assert held(warehouses[0].read(VISITS)) in [sorted(map(tuple, day(number).collect())) for number in range(2)]


def test_a_delivery_that_is_always_overtaken_gives_up(
    warehouse: Warehouse, visits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def overtaken(*arguments: Any) -> None:
        tries.append(arguments)
        raise ConcurrentAppendException("Files were added by a concurrent update.", "", None)

    monkeypatch.setattr(warehouse, "_insert", overtaken)
    with pytest.raises(InputError, match="table visits: another job wrote the table meanwhile"):
        warehouse.insert_new(VISITS, visits(("a", FIRST, 1)), ["visit_id"])
    assert 1 < len(tries) < 10


def commit_file(warehouse: Warehouse, version: int) -> Path:
    return Path(warehouse.location(VISITS), "_delta_log", f"{version:020d}.json")


@pytest.mark.parametrize(
    ("version", "how", "problem"),
    [
        (
            2,
            "cut",
            f"is cut off; restore it from a copy, or remove it and its checksum {2:020d}.crc, and run the job again",
        ),
        (2, "empty", "is empty; restore it from a copy, or remove it"),
        (1, "cut", "is cut off; restore it from a copy (docs"),
        (1, "missing", "is missing; restore it from a copy (docs"),
        (0, "missing", "is missing; restore it from a copy (docs"),
    ],
)
def test_a_damaged_commit_is_named(warehouse: Warehouse, visits: Any, version: int, how: str, problem: str) -> None:
    for number in range(3):
        warehouse.insert_new(VISITS, visits((f"v{number}", FIRST, number)), ["visit_id"])
    whole = commit_file(warehouse, version).read_bytes()
    damage(commit_file(warehouse, version), how)
    for use in (
        lambda: warehouse.read(VISITS),
        lambda: warehouse.version(VISITS),
        lambda: warehouse.insert_new(VISITS, visits(("a", FIRST, 1)), ["visit_id"]),
        lambda: warehouse.replace_day(VISITS, visits(("a", FIRST, 1)), FIRST),
    ):
        with pytest.raises(InputError) as refusal:
            use()
        assert str(refusal.value).startswith(f"table visits: commit {commit_file(warehouse, version)} {problem}")
    if version == 2:
        commit_file(warehouse, version).unlink()
        commit_file(warehouse, version).with_suffix(".crc").unlink()
        assert warehouse.insert_new(VISITS, visits(("v2", FIRST, 2)), ["visit_id"]) == 1
    else:
        commit_file(warehouse, version).write_bytes(whole)
    assert len(held(warehouse.read(VISITS))) == 3


def test_commits_before_a_checkpoint_are_nobodys_need(warehouse: Warehouse, visits: Any) -> None:
    for number in range(12):
        warehouse.overwrite(VISITS, visits((f"v{number}", FIRST, number)))
    commit_file(warehouse, 3).unlink()
    assert held(warehouse.read(VISITS)) == [("v11", FIRST, 11)]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_named(warehouse: Warehouse, visits: Any, tmp_path: Path, how: str) -> None:
    warehouse.overwrite(VISITS, visits(*((f"v{number}", FIRST, number) for number in range(50))).coalesce(1))
    file = damage(warehouse.data_files(VISITS, 0)[0].path, how)
    problem = "is missing" if how == "missing" else "is damaged ("
    if how != "garbled":
        with pytest.raises(InputError) as refusal:
            warehouse.readable_files(VISITS, 0)
        assert str(refusal.value).startswith(f"table visits: file {file} {problem}")
    # Read by Spark, and searched by the next delivery.
    for use in (
        lambda: warehouse.read(VISITS).collect(),
        lambda: warehouse.insert_new(VISITS, visits(("v3", FIRST, 3)), ["visit_id"]),
    ):
        with pytest.raises((Py4JJavaError, PySparkException)) as fault:
            use()
        line = explain(fault.value, str(tmp_path / "store"))
        assert line is not None and "\n" not in line
        assert line.startswith(f"table visits: file {file} {'is missing' if how == 'missing' else 'cannot be read ('}")


def test_a_fault_of_the_product_is_not_explained_away(warehouse: Warehouse, visits: Any, tmp_path: Path) -> None:
    warehouse.overwrite(VISITS, visits(("a", FIRST, 1)))
    with pytest.raises(PySparkException) as fault:
        warehouse.read(VISITS).select("nowhere").collect()
    for error in (
        fault.value,
        ConnectionRefusedError(111, "Connection refused"),
        ValueError("No space left on device"),
    ):
        assert explain(error, str(tmp_path / "store")) is None
