"""docs/analysts.md: its Python is run as it stands, on tables at the place that it names."""

from __future__ import annotations

import re
from datetime import UTC, date
from pathlib import Path
from typing import Any

import pytest
from analyst_tables import NIGHT
from small import PROJECT

from lbsf.analysts.document import main
from lbsf.tables import Warehouse

DOCUMENT = Path("docs/analysts.md")


@pytest.fixture
def ran(analyst_warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the document's Python block that has a text in it, where the warehouse is `warehouse`; gives its names."""
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "warehouse").symlink_to(analyst_warehouse.storage.root)
    (tmp_path / "conf").symlink_to(PROJECT / "conf")
    monkeypatch.chdir(tmp_path)

    def run(text: str) -> dict[str, Any]:
        (block,) = [block for block in blocks if text in block]
        names: dict[str, Any] = {}
        exec(compile(block, DOCUMENT.name, "exec"), names)
        return names

    return run


def test_a_spark_session(ran: Any, capsys: pytest.CaptureFixture[str]) -> None:
    ran("publish(")
    printed = capsys.readouterr().out
    assert "u1" in printed and "u5" not in printed


def test_pandas(ran: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names = ran("to_pandas()")
    latest, scores, days = names["latest"], names["scores"], names["ds"]
    assert sorted(latest["user_id"]) == ["u1", "u2", "u3", "u4", "u5"]
    assert str(latest["scored_at"].dtype) == "datetime64[us, UTC]"
    assert re.search(r"^E +1 +0\.30*$", capsys.readouterr().out, re.MULTILINE)
    # Other nights' files are not opened.
    assert len(list(scores.get_fragments(days.field("score_date") == NIGHT))) == 1 < len(scores.files)


def test_polars(ran: Any) -> None:
    names = ran("scan_delta")
    assert names["night"] == NIGHT
    merchants = names["reasons"].collect()
    assert sorted(merchants["merchant_id"]) == ["bets", "grocer", "grocer", "loans", "loans"]
    plan = names["reasons"].explain()
    assert f"score_date={NIGHT}" in plan and "score_date=2025-07-01" not in plan
    assert names["scores"].collect_schema()["scored_at"].time_zone == "UTC"


def test_duckdb(ran: Any, capfd: pytest.CaptureFixture[str]) -> None:
    names = ran("import duckdb")
    printed = capfd.readouterr().out
    assert "2025-07-02" in printed and "2025-06-01" not in printed
    connection, files = names["connection"], names["files"]
    scores = connection.read_parquet(files, hive_partitioning=True)
    (row,) = scores.filter("user_id = 'u4'").project("score_date, scored_at").fetchall()
    assert (row[0], row[1].astimezone(UTC).hour, type(row[0])) == (NIGHT, 2, date)
    plan = scores.filter(f"score_date = DATE '{NIGHT}'").explain("analyze")
    assert f"Scanning Files: 1/{len(files)}" in plan


def test_the_command_writes_the_views_into_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- views: begin -->\n<!-- views: end -->\nafter\n")
    assert main(["conf/views", str(file)]) == 0
    text = file.read_text()
    assert text.startswith("before\n<!-- views: begin -->\n### band_migration_latest\n\nFrom which band")
    assert "| `open_since` | the first night of the breach that is open now |" in text
    assert text.endswith("<!-- views: end -->\nafter\n")
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err
