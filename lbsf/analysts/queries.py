"""The analysts' questions about the scores, read from SQL files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lbsf.errors import InputError


class Query(NamedTuple):
    """One question and the SQL that answers it."""

    title: str
    sql: str


def load_queries(folder: Path) -> list[Query]:
    """Read every `*.sql` file of a folder, in order of name.

    The first line of a file is a comment with the question; the rest is one statement over the
    tables and the analysts' views.

    Raises:
        InputError: the folder has no `*.sql` file, or a file does not begin with a comment.
    """
    files = sorted(folder.glob("*.sql"))
    if not files:
        raise InputError(f"{folder}: no *.sql file")
    return [_read(file) for file in files]


def _read(file: Path) -> Query:
    first, _, rest = file.read_text(encoding="utf-8").partition("\n")
    if not first.startswith("--") or not rest.strip():
        raise InputError(f"{file}: the first line must be `-- the question`, the statement follows")
    return Query(first.removeprefix("--").strip(), rest.strip().rstrip(";"))
