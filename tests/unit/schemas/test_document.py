"""docs/tables.md, the generated data dictionary."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql.types import ArrayType, LongType, StringType

from lbsf.schemas import ALL_TABLES, Column, TableSchema
from lbsf.schemas.document import document, main

TABLE = TableSchema(
    name="visits",
    purpose="One row a visit.",
    key=("user_id", "day"),
    partition_by=("day",),
    columns=(
        Column("user_id", StringType(), "who | where"),
        Column("lengths", ArrayType(LongType()), "seconds", nullable=True),
    ),
)


def test_a_table_is_described_with_key_partition_types_and_meaning() -> None:
    text = document([TABLE])
    assert "## visits\n\nOne row a visit.\n\nKey: `user_id`, `day`. Partition: `day`.\n" in text
    # A bar would end the cell, and <bigint> outside code would be read as an HTML tag.
    assert "| `user_id` | `string` | no | who \\| where |" in text
    assert "| `lengths` | `array<bigint>` | yes | seconds |" in text


def test_each_declared_table_and_column_is_described() -> None:
    sections = document(ALL_TABLES).split("\n## ")[1:]
    assert [section.split("\n")[0] for section in sections] == [table.name for table in ALL_TABLES]
    for section, table in zip(sections, ALL_TABLES, strict=True):
        described = [line.split("`")[1] for line in section.split("\n") if line.startswith("| `")]
        assert described == table.column_names


def test_the_committed_file_is_current() -> None:
    committed = Path("docs/tables.md").read_text(encoding="utf-8")
    assert committed == document(ALL_TABLES), "run `make docs`"


def test_the_command_writes_the_file_it_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "tables.md")]) == 0
    assert (tmp_path / "tables.md").read_text(encoding="utf-8") == document(ALL_TABLES)
    assert main([]) == 2
    assert capsys.readouterr().err == "usage: python -m lbsf.schemas.document FILE\n"
