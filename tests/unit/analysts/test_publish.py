"""Publishing views: what is made known where, what is left out, what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from analyst_tables import FIRST, NIGHT, at, scores
from pyspark.sql import SparkSession

from lbsf.analysts import View, load_views, publish
from lbsf.config import Config
from lbsf.config.models import StorageConfig
from lbsf.errors import InputError
from lbsf.schemas import SCORE_MONITORING, SCORES
from lbsf.tables import Warehouse

VIEWS = Path("conf/views")
DATABASE = "lbsf_test_analysts"


def test_a_view_without_its_table_is_left_out_and_an_old_one_dropped(
    analyst_warehouse: Warehouse, spark: SparkSession, config: Config
) -> None:
    assert publish(analyst_warehouse, load_views(VIEWS)) == {}
    warehouse = Warehouse(spark, config.storage)  # another one, with scores alone
    warehouse.overwrite(SCORES, spark.createDataFrame(scores(), SCORES.struct))
    assert publish(warehouse, load_views(VIEWS)) == {
        "band_migration_latest": "band_migration",
        "breaches": "score_monitoring",
        "matured_performance": "score_monitoring",
        "nightly_status": "nightly_runs",
        "drift": "score_monitoring",
    }
    shown = {row.viewName for row in spark.sql("SHOW VIEWS IN lbsf").collect()}
    assert shown == {"latest_scores", "score_changes", "scores", "top_reasons"}


@pytest.fixture
def with_database(analyst_warehouse: Warehouse, spark: SparkSession) -> Iterator[Warehouse]:
    """The same tables, of a configuration that names a database."""
    storage = StorageConfig(**{**analyst_warehouse.storage.model_dump(), "database": DATABASE})
    yield Warehouse(spark, storage)
    spark.sql("USE default")
    spark.sql(f"DROP SCHEMA IF EXISTS {DATABASE} CASCADE")


def test_a_configured_database_holds_the_tables_and_the_views(with_database: Warehouse, spark: SparkSession) -> None:
    for _ in range(2):  # created, then replaced
        assert publish(with_database, load_views(VIEWS)) == {}
        kinds = {table.name: table.tableType for table in spark.catalog.listTables(DATABASE)}
        assert kinds["scores"] == "EXTERNAL"
        assert {name for name, kind in kinds.items() if kind == "VIEW"} == {view.name for view in load_views(VIEWS)}
    spark.sql("USE default")
    # A view finds its tables whatever database a session is in.
    assert spark.table(f"{DATABASE}.breaches").count() == 2


def test_a_user_who_was_scored_last_over_a_month_ago_has_no_latest_score(spark: SparkSession, config: Config) -> None:
    warehouse = Warehouse(spark, config.storage)
    rows = [row for row in scores() if (row[0], row[1]) in {(NIGHT, "u1"), (FIRST, "u3")}]
    warehouse.overwrite(SCORES, spark.createDataFrame(rows, SCORES.struct))
    publish(warehouse, load_views(VIEWS))
    assert [row.user_id for row in spark.table("latest_scores").collect()] == ["u1"]


def test_a_breach_that_comes_again_is_open_since_it_came_again(spark: SparkSession, config: Config) -> None:
    warehouse = Warehouse(spark, config.storage)
    days = [(1, True), (2, False), (3, True), (4, True)]
    rows = [
        (NIGHT.replace(day=day), "late_share", "all", 0.5, 0.1, breached, 9, at(NIGHT, 0)) for day, breached in days
    ]
    warehouse.overwrite(SCORE_MONITORING, spark.createDataFrame(rows, SCORE_MONITORING.struct))
    publish(warehouse, load_views(VIEWS))
    (found,) = spark.table("breaches").collect()
    assert (found.open_since, found.score_date, found.nights) == (NIGHT.replace(day=3), NIGHT.replace(day=4), 2)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Bad-Name.sql", "-- x\n-- a: b\nSELECT 1 AS a", "lower-case letters"),
        ("scores.sql", "-- x\n-- a: b\nSELECT 1 AS a", "must not be a table's"),
        ("bare.sql", "SELECT 1 AS a", "what it shows"),
        ("undescribed.sql", "-- x\nSELECT 1 AS a", "what it shows"),
        ("other.sql", "-- x\n-- a: b\nDROP TABLE scores", "then one SELECT"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        load_views(tmp_path)


def test_a_folder_without_views_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \*.sql file"):
        load_views(tmp_path)


def test_columns_that_are_described_in_another_order_are_refused(analyst_warehouse: Warehouse) -> None:
    view = View("swapped", "x", {"band": "b", "user_id": "u"}, "SELECT user_id, band FROM scores")
    with pytest.raises(InputError, match="view swapped: its SELECT gives user_id, band; its comments describe"):
        publish(analyst_warehouse, [view])


def test_text_with_quotes_is_kept(analyst_warehouse: Warehouse, spark: SparkSession) -> None:
    view = View("quoted", "a 'b' \\ c", {"one": "it's \\n"}, "SELECT 1 AS one FROM scores")
    publish(analyst_warehouse, [view])
    try:
        assert spark.catalog.getTable("quoted").description == "a 'b' \\ c"
        assert spark.sql("DESCRIBE quoted").first()["comment"] == "it's \\n"  # type: ignore[index]
    finally:
        spark.sql("DROP VIEW quoted")
