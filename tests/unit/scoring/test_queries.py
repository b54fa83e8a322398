"""The analysts' queries: loaded as written, and answering right over a small score table."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lbsf.errors import InputError
from lbsf.schemas import SCORES
from lbsf.scoring import load_queries

QUERIES = Path("conf/queries")
NIGHT, EARLIER = date(2025, 7, 2), date(2025, 7, 1)


def reason(merchant: str, contribution: float, name: str | None = None) -> dict[str, object]:
    direction = "raises" if contribution > 0 else "lowers"
    name = f"Shop {merchant}" if name is None else name
    return {"merchant_id": merchant, "merchant_name": name, "direction": direction, "contribution": contribution}


@pytest.fixture
def answers(spark: SparkSession) -> list[list[tuple[object, ...]]]:
    rows = [
        (NIGHT, "u1", 0.30, "E", 75.0, False, [reason("loans", 0.7), reason("grocer", -0.2)]),
        (NIGHT, "u2", 0.20, "E", 50.0, True, [reason("loans", 0.5)]),  # a thin file
        (NIGHT, "u3", 0.02, "B", 25.0, False, [reason("bets", 0.1, name="")]),
        (NIGHT, "u4", 0.005, "A", 0.0, False, []),
        (EARLIER, "u5", 0.90, "E", 0.0, False, [reason("bets", 2.0)]),  # another night
    ]
    at = datetime(2025, 7, 2, 3, tzinfo=UTC)
    spark.createDataFrame([(*row, "lbsf", "1", 0, at) for row in rows], SCORES.struct).createOrReplaceTempView("scores")
    return [[tuple(row) for row in spark.sql(query.sql).collect()] for query in load_queries(QUERIES)]


def test_each_query_states_its_question() -> None:
    assert [query.title.endswith("?") for query in load_queries(QUERIES)] == [True] * 3


def test_users_by_band(answers: list[list[tuple[object, ...]]]) -> None:
    assert answers[0] == [("A", 1, 25.0, 0.005, 0), ("B", 1, 25.0, 0.02, 0), ("E", 2, 50.0, 0.25, 1)]


def test_merchants_that_raise_risk(answers: list[list[tuple[object, ...]]]) -> None:
    assert answers[1] == [("loans", "Shop loans", 2, 0.6), ("bets", "", 1, 0.1)]


def test_the_riskiest_users_that_are_no_thin_files(answers: list[list[tuple[object, ...]]]) -> None:
    assert answers[2] == [
        ("u1", 0.3, "E", 75.0, "Shop loans raises risk (odds x2.01); Shop grocer lowers risk (odds x0.82)"),
        ("u3", 0.02, "B", 25.0, "bets raises risk (odds x1.11)"),
        ("u4", 0.005, "A", 0.0, ""),
    ]


def test_a_folder_without_queries_and_a_query_without_its_question_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \*.sql file"):
        load_queries(tmp_path)
    (tmp_path / "bare.sql").write_text("SELECT 1")
    with pytest.raises(InputError, match="first line must be"):
        load_queries(tmp_path)
