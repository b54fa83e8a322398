"""The analysts' views: loaded as written, described column by column, and right over small tables."""

from __future__ import annotations

import math
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from analyst_tables import EARLIER, FIRST, NIGHT, at, monitoring, scores
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from lbsf.analysts import load_views, publish
from lbsf.monitoring.findings import MEASURES
from lbsf.tables import Warehouse

VIEWS = Path("conf/views")
NAMES = (
    "band_migration_latest",
    "breaches",
    "drift",
    "latest_scores",
    "matured_performance",
    "nightly_status",
    "score_changes",
    "top_reasons",
)


@pytest.fixture(scope="module")
def sql(analyst_warehouse: Warehouse) -> Any:
    """Rows of a statement over the published views, as tuples."""
    assert publish(analyst_warehouse, load_views(VIEWS)) == {}
    return lambda text: [tuple(row) for row in analyst_warehouse.spark.sql(text).collect()]


def test_the_views_and_the_tables_that_they_read() -> None:
    views = {view.name: view.tables for view in load_views(VIEWS)}
    assert tuple(views) == NAMES
    assert {table for tables in views.values() for table in tables} == {
        "band_migration", "nightly_runs", "score_monitoring", "scores",
    }  # fmt: skip


def test_names_are_those_of_the_local_database(sql: Any, spark: SparkSession) -> None:
    assert spark.catalog.currentDatabase() == "lbsf"
    shown = {name for _, name, _ in sql("SHOW VIEWS IN lbsf")}
    assert shown == {*NAMES, "band_migration", "nightly_runs", "score_monitoring", "scores"}


def test_views_and_columns_carry_their_meaning(sql: Any, spark: SparkSession) -> None:
    for view in load_views(VIEWS):
        described = {name: comment for name, _, comment in sql(f"DESCRIBE {view.name}")}
        assert described == view.columns
        assert spark.catalog.getTable(view.name).description == view.purpose
    # Tables have the comments of their schema.
    assert {name: comment for name, _, comment in sql("DESCRIBE scores")}["user_id"] == "the scored user"


@pytest.mark.parametrize("statement", ["DELETE FROM scores", "INSERT INTO scores SELECT * FROM scores",
                                       "UPDATE scores SET band = 'A'", "TRUNCATE TABLE scores"])  # fmt: skip
def test_no_statement_by_name_changes_a_table(sql: Any, spark: SparkSession, statement: str) -> None:
    before = len(scores())
    with pytest.raises(AnalysisException):
        spark.sql(statement)
    assert sql("SELECT count(*) FROM scores") == [(before,)]


def test_latest_scores_are_one_a_user(sql: Any) -> None:
    rows = sql(
        "SELECT user_id, score_date, latest_night, band, percentile, thin_file, why FROM latest_scores ORDER BY 1"
    )
    both = "Shop loans raises the risk; Shop grocer lowers the risk"
    assert rows == [
        ("u1", NIGHT, True, "E", 75.0, False, both),
        ("u2", NIGHT, True, "thin", None, True, ""),
        ("u3", NIGHT, True, "B", 25.0, False, "bets raises the risk"),
        ("u4", NIGHT, True, "A", 0.0, False, ""),
        ("u5", NIGHT, True, "D", 50.0, False, both),
        ("u6", EARLIER, False, "E", 80.0, False, "bets raises the risk"),
    ]


def test_migration_is_that_of_the_latest_night(sql: Any) -> None:
    rows = sql("SELECT period, since, from_band, to_band, users, share_percent FROM band_migration_latest ORDER BY ALL")
    assert rows[:2] == [("month", FIRST, "B", "B", 1, 100.0), ("month", FIRST, "D", "E", 1, 100.0)]
    assert rows[4:6] == [("night", EARLIER, "E", "D", 1, 50.0), ("night", EARLIER, "E", "none", 1, 50.0)]
    assert len(rows) == 8  # the earlier night's is left out


def test_drift_by_night_with_what_changed(sql: Any) -> None:
    rows = sql("SELECT score_date, input, psi, round(change, 6), breached FROM drift ORDER BY input, score_date")
    assert rows == [
        (EARLIER, "amount_cents", 0.05, None, False),
        (NIGHT, "amount_cents", 0.31, 0.26, True),
        (EARLIER, "channel", 0.04, None, False),
        (NIGHT, "channel", None, None, False),
        (EARLIER, "score", 0.02, None, False),
        (NIGHT, "score", 0.03, 0.01, False),
    ]


def test_matured_performance_stands_in_one_row_a_night_and_band(sql: Any) -> None:
    assert sql("SELECT * FROM matured_performance ORDER BY segment DESC") == [
        (NIGHT, "all", 200, 9, 0.054, 0.045, 0.74, 0.41, 1.2, False),
        (NIGHT, "E", 20, 5, 0.2, 0.25, None, None, None, False),
    ]


def test_views_name_measures_that_are_written() -> None:
    sql = " ".join(view.sql for view in load_views(VIEWS) if view.tables == ["score_monitoring"])
    named = set(re.findall(r"'(\w+_psi|matured_\w+)'", sql))
    assert len(named) == 7 and named <= set(MEASURES)
    assert {row[1] for row in monitoring()} <= set(MEASURES)


def test_top_reasons_by_night_merchant_field_and_direction(sql: Any) -> None:
    rows = sql("SELECT * FROM top_reasons WHERE score_date = DATE '2025-07-02' ORDER BY merchant_id, field")
    assert rows == [
        (NIGHT, "bets", "", "kind", "raises", 1, pytest.approx(math.exp(0.1))),
        (NIGHT, "grocer", "Shop grocer", None, "lowers", 1, pytest.approx(math.exp(-0.4))),
        (NIGHT, "grocer", "Shop grocer", "time", "lowers", 1, pytest.approx(math.exp(-0.2))),
        (NIGHT, "loans", "Shop loans", "amount", "raises", 2, pytest.approx(math.exp(0.6))),
    ]


def test_score_changes_tell_who_moved_how_far(sql: Any) -> None:
    rows = sql("SELECT * FROM score_changes ORDER BY moved DESC")
    assert rows[0] == (
        "u1", EARLIER, NIGHT, 0.12, 0.3, "D", "E", pytest.approx(math.exp(1.1451)), 1.1451, 4,
        pytest.approx(math.exp(0.9)), "risk rose, mostly by 4 new payments",
    )  # fmt: skip
    assert [(row[0], row[5], row[6], row[8]) for row in rows[1:]] == [("u5", "E", "D", 0.7841), ("u3", "B", "B", 0.0)]


def test_nightly_status_tells_how_a_night_ended(sql: Any) -> None:
    rows = [row[:-1] for row in sql("SELECT * FROM nightly_status ORDER BY as_of")]  # without code_version

    def utc(night: Any, second: int) -> datetime:
        # collect() gives instants in the zone of the machine, without naming it.
        return at(night, second).astimezone().replace(tzinfo=None)

    assert rows == [
        (FIRST, "failed", 2, 1, utc(FIRST, 10), utc(FIRST, 21), 4.0, 3, 10, {"fold": "no room on the disk"}, {}),
        (EARLIER, "finding", 3, 3, utc(EARLIER, 10), utc(EARLIER, 31), 7.0, 1, 2,
         {"monitor": "late_share 0.02, at most 0.01"},
         {"ingest": '{"payments version": 7}', "fold": '{"folds version": 3}'}),
        (NIGHT, "started", 2, 1, utc(NIGHT, 10), utc(NIGHT, 15), 5.0, 1, 0, {}, {}),
    ]  # fmt: skip


def test_breaches_are_those_that_are_open(sql: Any) -> None:
    rows = sql(
        "SELECT measure, segment, value, threshold, counted, score_date, open_since, nights FROM breaches ORDER BY 1"
    )
    assert rows == [
        ("input_psi", "amount_cents", 0.31, 0.25, 900, NIGHT, NIGHT, 1),
        ("late_share", "all", 0.03, 0.01, 900, NIGHT, EARLIER, 2),
    ]
