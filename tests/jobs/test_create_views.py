"""create_views and answer_queries as whole jobs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small import SMALL

from jobs import answer_queries, create_views
from jobs.common import Job
from lbsf.analysts.queries import load_queries
from lbsf.tables import Warehouse

DATABASE = "lbsf_test_create_views"


@pytest.fixture
def arguments(analyst_warehouse: Warehouse) -> list[str]:
    settings = [*SMALL, f"storage.root={analyst_warehouse.storage.root}"]
    return [part for setting in settings for part in ("--set", setting)]


def test_the_views_are_created_in_the_configured_database(
    arguments: list[str], analyst_warehouse: Warehouse, capsys: pytest.CaptureFixture[str]
) -> None:
    spark = analyst_warehouse.spark
    try:
        assert create_views.main([*arguments, "--set", f"storage.database={DATABASE}"]) == 0
        assert f"create_views       database {DATABASE} | views 8 | " in capsys.readouterr().out
        assert spark.table(f"{DATABASE}.latest_scores").count() == 6
    finally:
        spark.sql("USE default")
        spark.sql(f"DROP SCHEMA IF EXISTS {DATABASE} CASCADE")


def test_an_empty_warehouse_has_no_views_and_the_job_says_so(job: Job) -> None:
    summary = create_views.run(job)
    assert summary.details["views"] == 0
    assert "latest_scores (no table scores)" in summary.details["left out"]


def test_a_view_that_is_no_view_is_one_line(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.sql").write_text("DROP TABLE scores")
    assert create_views.main([*arguments, "--views", str(tmp_path)]) == 2
    assert "x.sql: `-- what it shows`" in capsys.readouterr().err


def test_the_queries_are_printed_and_written_into_a_document(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- answers: begin -->\nfrom before\n<!-- answers: end -->\nafter\n")
    assert answer_queries.main([*arguments, "--document", str(document)]) == 0
    printed, text = capsys.readouterr().out, document.read_text()
    for number, query in enumerate(load_queries(Path("conf/queries")), 1):
        assert f"\n-- {query.title}\n{query.sql}\n" in printed
        assert f"### {number}. {query.title}\n\n```sql\n{query.sql}\n```\n\n```text\n" in text
    assert re.search(r"^E +1 +20 +0\.3$", printed, re.MULTILINE)
    assert re.search(r"^late_share +all +0\.03 +0\.01 +2025-07-01 +2$", text, re.MULTILINE)
    assert "from before" not in text and text.endswith("after\n")


def test_without_scores_there_is_no_answer(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [part for setting in job.overrides for part in ("--set", setting)]
    assert answer_queries.main(settings) == 2
    assert "table scores does not exist" in capsys.readouterr().err
