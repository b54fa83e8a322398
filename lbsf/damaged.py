"""Messages for damaged Parquet files: which file of which table, what is wrong, and how to repair it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from lbsf.errors import InputError

# Exceptions that PyArrow raises where a file is missing or damaged.
UNREADABLE = (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError)
_TABLE = re.compile(r"/tables/(\w+)/")
_DAY = re.compile(r"(?:as_of|score_date)=(\d{4}-\d{2}-\d{2})")
_FROM_COPY = (
    "restore it from a copy; without one, take it out of the table and ingest its deliveries again "
    "(docs/operations.md, A damaged file)"
)
_REMEDIES = {
    "folds": "fold that day anew: fold_payments --as-of {day} --full",
    "fold_loss": "write it anew: fold_payments --as-of {day} --full, or build_examples for that of examples",
    "examples": "build the examples anew: build_examples",
    "scores": "score that day anew: score_users --as-of {day}",
    "score_monitoring": "watch that day anew: monitor_scores --as-of {day}",
    "band_migration": "watch that day anew: monitor_scores --as-of {day}",
    "synthetic_truth": "simulate anew: generate_payments",
}


def damaged(path: str, problem: str) -> str:
    """Return the message for a damaged file.

    Args:
        path: a file of one of the tables.
        problem: what is wrong, as the end of a sentence.

    Returns:
        One line with the table, the file, the problem and the remedy.
    """
    table = _TABLE.search(path)
    if table is None:
        return f"file {path} {problem}"
    day = _DAY.search(path)
    remedy = _REMEDIES.get(table[1], _FROM_COPY).format(day=day[1] if day else "DAY")
    return f"table {table[1]}: file {path} {problem}; {remedy}"


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn errors of PyArrow's reader within the block into an InputError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(damaged(path, "is missing")) from None
    except UNREADABLE as error:
        raise InputError(damaged(path, f"cannot be read ({' '.join(str(error).split())[:200]})")) from None
