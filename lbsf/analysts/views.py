"""Views over the tables: files of SQL, made known to a Spark session or to a catalog by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from lbsf.errors import InputError
from lbsf.schemas import ALL_TABLES, SYNTHETIC_TRUTH
from lbsf.tables import Warehouse

# Where storage.database is null: a database of the session's own catalog, which is in memory and ends with it.
LOCAL_DATABASE = "lbsf"
# What analysts see. The simulator's truth is for benchmarks alone.
SHOWN_TABLES = tuple(table for table in ALL_TABLES if table is not SYNTHETIC_TRUTH)

_NAME = re.compile(r"[a-z_]+")
_COLUMN = re.compile(r"-- (\w+): (.+)")
_SOURCE = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)", re.IGNORECASE)


class View(NamedTuple):
    """One view.

    Attributes:
        name: of the view and its file.
        purpose: what it shows, in a sentence.
        columns: what each column means, by name, in the order of the SELECT.
        sql: one SELECT over tables by their plain names.
    """

    name: str
    purpose: str
    columns: dict[str, str]
    sql: str

    @property
    def tables(self) -> list[str]:
        """Names of the tables that it reads."""
        return read_by(self.sql, [table.name for table in SHOWN_TABLES])


def load_views(folder: Path) -> list[View]:
    """Reads every `*.sql` file of a folder, in order of name.

    A file's first line is a comment that says what the view shows; lines `-- column: meaning` follow, one for each
    column in order; the rest is one SELECT.

    Raises:
        InputError: the folder has no such file, or a file has another form or a name that is no view's.
    """
    files = sorted(folder.glob("*.sql"))
    if not files:
        raise InputError(f"{folder}: no *.sql file")
    return [_read(file) for file in files]


def read_by(sql: str, names: list[str]) -> list[str]:
    """Those of `names` that stand behind a FROM or a JOIN, in the order of `names`.

    >>> read_by("SELECT users FROM scores JOIN labels", ["labels", "scores", "users"])
    ['labels', 'scores']
    """
    sources = {name.lower() for name in _SOURCE.findall(sql)}
    return [name for name in names if name in sources]


def publish(warehouse: Warehouse, views: list[View]) -> dict[str, str]:
    """Makes the tables that exist and the views over them known by name; their database is the session's from then on.

    With `storage.database` the tables are registered there and views created or replaced beside them. Without, both
    stand as views in `lbsf` of the session's own catalog: no statement by name can change a table through them.
    A view that reads a missing table is left out; one from before is dropped.

    Args:
        warehouse: the tables.
        views: as load_views gives them.

    Returns:
        The views left out, each with the first table that it misses.

    Raises:
        InputError: a view's columns are not those that its file describes, or its name is a table's.
    """
    spark = warehouse.spark
    there = [table for table in SHOWN_TABLES if warehouse.exists(table)]
    database = warehouse.storage.database or LOCAL_DATABASE
    spark.sql(f"CREATE SCHEMA IF NOT EXISTS {database}")
    spark.sql(f"USE {database}")
    for table in SHOWN_TABLES:
        if warehouse.storage.database is not None:
            if table in there:
                warehouse.register(table)
        elif table in there:
            location = warehouse.location(table).replace("`", "``")
            _create(warehouse, table.name, table.purpose, f"TABLE delta.`{location}`")
        else:
            spark.sql(f"DROP VIEW IF EXISTS {table.name}")
    names = {table.name for table in there}
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
        raise InputError(f"{file}: a view's name has lower-case letters and _ alone, and is no table's")
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
    """Text as SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
