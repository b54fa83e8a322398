"""Writes docs/tables.md, the data dictionary, from the declared schemas.

Usage: python -m lbsf.schemas.document docs/tables.md
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lbsf.schemas import ALL_TABLES, TableSchema

HEADER = """\
# Tables

Generated from lbsf/schemas by `make docs`: change the schemas, not this file.

Every table is a Delta table in the folder `storage.root`/tables/NAME. Where `storage.database` is
set, SQL knows it as `storage.database`.NAME. Timestamps are UTC; a date names the UTC day.
"""


def document(tables: Sequence[TableSchema]) -> str:
    """The data dictionary as Markdown: each table's purpose, key, partition and columns."""
    return "\n".join([HEADER, *(_section(table) for table in tables)])


def _section(table: TableSchema) -> str:
    partition = ", ".join(f"`{name}`" for name in table.partition_by) or "none"
    rows = [
        f"| `{column.name}` | `{column.type.simpleString()}` | {'yes' if column.nullable else 'no'} "
        f"| {_cell(column.comment)} |"
        for column in table.columns
    ]
    return "\n".join(
        [
            f"## {table.name}",
            "",
            table.purpose,
            "",
            f"Key: {', '.join(f'`{name}`' for name in table.key)}. Partition: {partition}.",
            "",
            "| column | type | null | meaning |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _cell(text: str) -> str:
    """Text that does not end a Markdown table's cell."""
    return text.replace("|", "\\|")


def main(argv: Sequence[str]) -> int:
    """Writes the file named by the only argument."""
    if len(argv) != 1:
        print("usage: python -m lbsf.schemas.document FILE", file=sys.stderr)
        return 2
    Path(argv[0]).write_text(document(ALL_TABLES), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
