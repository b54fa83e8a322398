"""Answers to the analysts' queries, as text and as the generated parts of docs/analysts.md."""

from __future__ import annotations

from typing import NamedTuple

from pyspark.sql import SparkSession

from lbsf.analysts.queries import Query
from lbsf.analysts.views import View, read_by

# An answer shows at most this many rows, and characters of a cell.
ROWS, CHARACTERS = 10, 60


class Answer(NamedTuple):
    """The answer to a query.

    Attributes:
        query: the question and its SQL.
        text: the rows as a text table, or why there are none.
    """

    query: Query
    text: str


def answer(spark: SparkSession, query: Query, left_out: dict[str, str]) -> Answer:
    """Run one query.

    Args:
        spark: a session whose current database has the views.
        query: the query to run.
        left_out: views that could not be created -> the table that is missing, as returned by `publish`.
    """
    for view in read_by(query.sql, list(left_out)):
        return Answer(query, f"no answer: table {left_out[view]} has not been written")
    rows = spark.sql(query.sql).limit(ROWS)
    cells = [rows.columns, *([_cell(value) for value in row] for row in rows.collect())]
    return Answer(query, _table(cells) if len(cells) > 1 else "no rows")


def as_markdown(answers: list[Answer]) -> str:
    """Format answers as Markdown: each question as a heading, then its SQL and its answer."""
    sections = [
        f"### {number}. {query.title}\n\n```sql\n{query.sql}\n```\n\n```text\n{text}\n```\n"
        for number, (query, text) in enumerate(answers, 1)
    ]
    return "\n".join(sections)


def describe(views: list[View]) -> str:
    """Describe the views and their columns in Markdown."""
    sections = []
    for view in views:
        rows = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in view.columns.items())
        reads = ", ".join(f"[{name}](tables.md#{name})" for name in view.tables)
        sections.append(
            f"### {view.name}\n\n{view.purpose} Reads {reads}.\n\n| column | meaning |\n|---|---|\n{rows}\n"
        )
    return "\n".join(sections)


def with_part(document: str, part: str, text: str) -> str:
    """Replace the text between a document's markers `<!-- part: begin -->` and `<!-- part: end -->`.

    Raises:
        ValueError: the document has no such markers.
    """
    head, begin, rest = document.partition(f"<!-- {part}: begin -->\n")
    _, end, tail = rest.partition(f"<!-- {part}: end -->")
    if not begin or not end:
        raise ValueError(f"no part {part} is marked in the document")
    return f"{head}{begin}{text}{end}{tail}"


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"


def _table(cells: list[list[str]]) -> str:
    """Align rows of cells in columns; the first row holds the headings."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
