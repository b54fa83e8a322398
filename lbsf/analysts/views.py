"""Views over the tables, read from SQL files and created in a Spark session or a catalog."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from lbsf.errors import InputError
from lbsf.schemas import ALL_TABLES, SYNTHETIC_TRUTH
from lbsf.tables import Warehouse

# The database used if storage.database is null. It is in the session's in-memory catalog and ends with the session.
LOCAL_DATABASE = "lbsf"
# The tables that analysts see. The simulator's true probabilities are for benchmarks only.
SHOWN_TABLES = tuple(table for table in ALL_TABLES if table is not SYNTHETIC_TRUTH)

_NAME = re.compile(r"[a-z_]+")
_COLUMN = re.compile(r"-- (\w+): (.+)")
_SOURCE = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)", re.IGNORECASE)


class View(NamedTuple):
    """One view.

    Attributes:
        name: of the view and its file.
        purpose: what it shows, in a sentence.
        columns: name -> meaning, in the order of the SELECT.
        sql: one SELECT over tables by their unqualified names.
    """

    name: str
    purpose: str
    columns: dict[str, str]
    sql: str

    @property
    def tables(self) -> list[str]:
        """Return the names of the tables that the view reads."""
        return read_by(self.sql, [table.name for table in SHOWN_TABLES])


def load_views(folder: Path) -> list[View]:
    """Read every `*.sql` file of a folder, in order of name.

    The first line of a file is a comment that says what the view shows. Lines `-- column: meaning` follow, one for each
    column in order. The rest is one SELECT.

    Raises:
        InputError: the folder has no `*.sql` file, or a file has another form or an invalid name.
    """
    files = sorted(folder.glob("*.sql"))
    if not files:
        raise InputError(f"{folder}: no *.sql file")
    return [_read(file) for file in files]


def read_by(sql: str, names: list[str]) -> list[str]:
    """Return those of `names` that follow a FROM or a JOIN, in the order of `names`.

    >>> read_by("SELECT users FROM scores JOIN labels", ["labels", "scores", "users"])
    ['labels', 'scores']
    """
    sources = {name.lower() for name in _SOURCE.findall(sql)}
    return [name for name in names if name in sources]


def publish(warehouse: Warehouse, views: list[View]) -> dict[str, str]:
    """Make the existing tables and the views over them available by name, and make their database the current one.

    With `storage.database`, the tables are registered there, and the views are created or replaced beside them.
    Without it, both are created as views in the database `lbsf` of the session's own catalog, through which no
    statement can change a table. A view that reads a missing table is left out, and dropped if it exists.

    Args:
        warehouse: the tables.
        views: as returned by `load_views`.

    Returns:
        The views left out -> the first table that is missing.

    Raises:
        InputError: a view's columns differ from those that its file describes.
    """
    spark = warehouse.spark
    existing = [table for table in SHOWN_TABLES if warehouse.exists(table)]
    database = warehouse.storage.database or LOCAL_DATABASE
    spark.sql(f"CREATE SCHEMA IF NOT EXISTS {database}")
    spark.sql(f"USE {database}")
    for table in SHOWN_TABLES:
        if warehouse.storage.database is not None:
            if table in existing:
                warehouse.register(table)
        elif table in existing:
            location = warehouse.location(table).replace("`", "``")
            _create(warehouse, table.name, table.purpose, f"TABLE delta.`{location}`")
        else:
            spark.sql(f"DROP VIEW IF EXISTS {table.name}")
    names = {table.name for table in existing}
    left_out = {}
    for view in views:
        missing = [table for table in view.tables if table not in names]
        if missing:
            spark.sql(f"DROP VIEW IF EXISTS {view.name}")
            left_out[view.name] = missing[0]
        else:
            _create_view(warehouse, view)
    return left_out


def _read(file: Path) -> View:
    if not _NAME.fullmatch(file.stem) or file.stem in {table.name for table in ALL_TABLES}:
        raise InputError(f"{file}: a view's name consists of lower-case letters and _, and must not be a table's")
    first, *lines = file.read_text(encoding="utf-8").splitlines()
    columns = {}
    while lines and (described := _COLUMN.fullmatch(lines[0])):
        columns[described[1]] = described[2]
        lines.pop(0)
    sql = "\n".join(lines).strip()
    if not first.startswith("-- ") or not columns or not sql.startswith("SELECT"):
        raise InputError(f"{file}: `-- what it shows`, lines `-- column: meaning`, then one SELECT are expected")
    return View(file.stem, first.removeprefix("-- "), columns, sql)


def _create_view(warehouse: Warehouse, view: View) -> None:
    found = warehouse.spark.sql(view.sql).columns
    if found != list(view.columns):
        raise InputError(f"view {view.name}: its SELECT gives {', '.join(found)}; its comments describe other columns")
    described = ", ".join(f"{name} COMMENT {_literal(meaning)}" for name, meaning in view.columns.items())
    _create(warehouse, f"{view.name} ({described})", view.purpose, view.sql)


def _create(warehouse: Warehouse, what: str, purpose: str, sql: str) -> None:
    warehouse.spark.sql(f"CREATE OR REPLACE VIEW {what} COMMENT {_literal(purpose)} AS {sql}")


def _literal(text: str) -> str:
    """Quote a text as an SQL literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
