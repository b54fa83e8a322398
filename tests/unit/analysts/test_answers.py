"""The analysts' queries: loaded as written, answering right over small tables, and rendered for the document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from analyst_tables import EARLIER, FIRST, NIGHT
from pyspark.sql import SparkSession

from lbsf.analysts import answer, as_markdown, describe, load_views, publish, with_part
from lbsf.analysts.queries import Query, load_queries
from lbsf.errors import InputError
from lbsf.tables import Warehouse

QUERIES = Path("conf/queries")
# Question by question, what the tables of analyst_tables.py answer.
BOTH = "Shop loans raises the risk; Shop grocer lowers the risk"
EXPECTED: list[list[tuple[Any, ...]]] = [
    [("A", 1, 20.0, 0.005), ("B", 1, 20.0, 0.02), ("D", 1, 20.0, 0.08), ("E", 1, 20.0, 0.3), ("thin", 1, 20.0, 0.05)],
    [("loans", "Shop loans", 2, 1.82), ("bets", "", 1, 1.11)],
    [
        ("u1", 0.3, "E", 75.0, BOTH),
        ("u5", 0.08, "D", 50.0, BOTH),
        ("u3", 0.02, "B", 25.0, "bets raises the risk"),
        ("u4", 0.005, "A", 0.0, ""),
    ],
    [
        ("u1", 0.12, 0.3, "D -> E", 3.14, 4, "risk rose, mostly by 4 new payments"),
        ("u5", 0.16, 0.08, "E -> D", 0.46, 1, "risk fell, as old payments left the window"),
        ("u3", 0.02, 0.02, "B -> B", 1.0, 0, "nothing changed"),
    ],
    [
        (EARLIER, NIGHT, "D", "E", 1, 100.0),
        (EARLIER, NIGHT, "E", "D", 1, 50.0),
        (EARLIER, NIGHT, "E", "none", 1, 50.0),
        (EARLIER, NIGHT, "none", "A", 1, 100.0),
    ],
    [
        ("amount", "raises", 2, 1, 1.82),
        ("kind", "raises", 1, 1, 1.11),
        ("no single one", "lowers", 1, 1, 0.67),
        ("time", "lowers", 1, 1, 0.82),
    ],
    [("amount_cents", 0.31, 0.26, 0.25, True), ("score", 0.03, 0.01, 0.25, False)],
    [(NIGHT, 200, 9, 0.054, 0.045, 0.74, 0.41, 1.2)],
    [("late_share", "all", 0.03, 0.01, EARLIER, 2), ("input_psi", "amount_cents", 0.31, 0.25, NIGHT, 1)],
    [
        (NIGHT, "started", "1 of 2", 5.0, 0, {}),
        (EARLIER, "finding", "3 of 3", 7.0, 2, {"monitor": "late_share 0.02, at most 0.01"}),
        (FIRST, "failed", "1 of 2", 4.0, 10, {"fold": "no room on the disk"}),
    ],
]


@pytest.fixture(scope="module")
def spark_with_views(analyst_warehouse: Warehouse) -> SparkSession:
    publish(analyst_warehouse, load_views(Path("conf/views")))
    return analyst_warehouse.spark


def test_there_are_ten_queries_and_each_states_its_question() -> None:
    assert [query.title.endswith("?") for query in load_queries(QUERIES)] == [True] * 10


@pytest.mark.parametrize("number", range(10), ids=lambda number: str(number + 1))
def test_each_query_answers_right(spark_with_views: SparkSession, number: int) -> None:
    rows = spark_with_views.sql(load_queries(QUERIES)[number].sql).collect()
    assert [tuple(row) for row in rows] == EXPECTED[number]


def test_a_view_in_use_is_a_view_that_exists() -> None:
    used = " ".join(query.sql for query in load_queries(QUERIES))
    assert [view.name for view in load_views(Path("conf/views")) if view.name not in used] == []


def test_an_answer_is_a_table_of_text(spark_with_views: SparkSession) -> None:
    sql = "SELECT * FROM VALUES ('a', 0.123456789D, NULL), (repeat('x', 99), 2D, 3) AS t(name, share, count)"
    given = answer(spark_with_views, Query("What?", sql), {})
    assert given.text.splitlines() == [
        "name".ljust(60) + "  share     count",
        "-" * 60 + "  --------  -----",
        "a".ljust(60) + "  0.123457",
        "x" * 59 + "…  2         3",
    ]
    assert as_markdown([given]) == f"### 1. What?\n\n```sql\n{sql}\n```\n\n```text\n{given.text}\n```\n"


def test_an_answer_without_rows_or_without_its_table_says_so(spark_with_views: SparkSession) -> None:
    assert answer(spark_with_views, Query("Any?", "SELECT 1 FROM scores WHERE false"), {}).text == "no rows"
    query = Query("Open?", "SELECT * FROM breaches")
    missing = answer(spark_with_views, query, {"breaches": "score_monitoring"})
    assert missing.text == "no answer: table score_monitoring has not been written"


def test_a_marked_part_of_a_document_is_replaced_alone() -> None:
    document = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n<!-- y: begin -->\nkept\n<!-- y: end -->\n"
    assert with_part(document, "x", "new\n") == document.replace("old", "new")
    with pytest.raises(ValueError, match="no part z is marked"):
        with_part(document, "z", "new")


def test_the_document_describes_the_views_as_they_are() -> None:
    document = Path("docs/analysts.md").read_text(encoding="utf-8")
    assert with_part(document, "views", describe(load_views(Path("conf/views")))) == document, "run `make docs`"


def test_the_document_has_the_questions_and_the_sql_as_they_are() -> None:
    document = Path("docs/analysts.md").read_text(encoding="utf-8")
    for number, query in enumerate(load_queries(QUERIES), 1):
        assert f"### {number}. {query.title}\n\n```sql\n{query.sql}\n```\n\n```text\n" in document, (
            "run `make docs-answers`"
        )


def test_a_folder_without_queries_and_a_query_without_its_question_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \*.sql file"):
        load_queries(tmp_path)
    (tmp_path / "bare.sql").write_text("SELECT 1")
    with pytest.raises(InputError, match="first line must be"):
        load_queries(tmp_path)
