"""Check that text, patterns and literals give a full date before Spark reads them as times.

Spark reads `12:30` as today at 12:30 and `2025` as 1 January, and fills a pattern's missing fields from
1970-01-01 00:00. Text must therefore match one of the forms below.
"""

from __future__ import annotations

import re
from enum import Enum

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

_DATE = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_CLOCK = r"[0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2}([.][0-9]{1,9})?)?"
# Only offsets: a zone's name does not tell which occurrence of a repeated hour is meant.
_OFFSET = r"\s*(Z|(UTC|GMT)([+-][0-9]{1,2}(:?[0-9]{2})?)?|[+-][0-9]{1,2}(:?[0-9]{2})?)"
# A date followed only by a blank is refused: it is a date joined to an empty time.
_LOCAL = rf"^\s*{_DATE}([ T]{_CLOCK}\s*)?\z"
_INSTANT = rf"^\s*{_DATE}[ T]{_CLOCK}{_OFFSET}\s*\z"
_TIME = rf"^\s*{_DATE}([ T]{_CLOCK}({_OFFSET})?\s*)?\z"
# UTC is the only offset allowed here, because with another one the day depends on the time zone.
_DAY = rf"^\s*{_DATE}([ T]{_CLOCK}Z?)?\s*\z"

_TOKEN = re.compile(
    r"""(?P<text>[rR]?'(?:[^'\\]|\\.)*'|[rR]?"(?:[^"\\]|\\.)*")|`[^`]*`|--[^\n]*|/\*.*?\*/|(?P<word>\w+)|\S""",
    re.DOTALL,
)
_TIME_TYPES = {"DATE": _DAY, "TIMESTAMP": _TIME, "TIMESTAMP_LTZ": _TIME, "TIMESTAMP_NTZ": _LOCAL}


class Clock(Enum):
    """Which times a text may hold: with an offset, without one, or both."""

    ANY = "with an offset or without one, which is UTC"
    LOCAL = "without an offset"
    INSTANT = "with an offset"


def is_full(text: Column, to: str, clock: Clock = Clock.ANY) -> Column:
    """Return whether a text is a full date, with a time of day and an offset where `to` and `clock` allow them.

    Args:
        text: a column of text.
        to: target type: DATE, TIMESTAMP or TIMESTAMP_NTZ.
        clock: which times are accepted.
    """
    form = _form(to, clock)
    return F.lit(False) if form is None else text.rlike(form)


def is_full_text(text: str, to: str, clock: Clock = Clock.ANY) -> bool:
    """Return `is_full` for one text."""
    form = _form(to, clock)
    return form is not None and re.search(form.replace(r"\z", r"\Z"), text) is not None


def _form(to: str, clock: Clock) -> str | None:
    if to == "TIMESTAMP":
        return {Clock.ANY: _TIME, Clock.LOCAL: _LOCAL, Clock.INSTANT: _INSTANT}[clock]
    return None if clock is Clock.INSTANT else _TIME_TYPES[to]


def pattern_fault(pattern: str) -> str | None:
    """Return why a pattern of to_timestamp or to_date does not read a full time; None where it does.

    >>> pattern_fault("dd.MM.yyyy HH:mm"), pattern_fault("yyyy-DDD"), pattern_fault("yyyyMMdd['T'HHmm]")
    (None, None, None)
    >>> pattern_fault("HH:mm")
    "pattern 'HH:mm' has no full date (year, month and day)"
    """
    always, everywhere = _letters(pattern)
    if not (always & {"y", "u"} and ("D" in always or (always & {"M", "L"} and "d" in always))):
        return f"pattern {pattern!r} has no full date (year, month and day)"
    if everywhere & {"h", "K"} and "a" not in always:
        return f"pattern {pattern!r} has an hour of the half day (h) without a (AM or PM): HH is the hour of the day"
    if everywhere & {"V", "v", "z"}:
        return f"pattern {pattern!r} reads a zone's name: read an offset (XXX), or local time with to_utc_timestamp"
    return None


def reads_offset(pattern: str) -> bool:
    """Return whether a pattern reads an offset, required or optional.

    >>> reads_offset("yyyy-MM-dd HH:mm[XXX]"), reads_offset("yyyy-MM-dd'Z'")
    (True, False)
    """
    return bool(_letters(pattern)[1] & {"X", "x", "Z", "O"})


def _letters(pattern: str) -> tuple[set[str], set[str]]:
    """Return a pattern's letters outside quotes: those outside optional sections, and all of them."""
    everywhere = always = re.sub(r"'[^']*'", "", pattern)
    while (shorter := re.sub(r"\[[^\[\]]*\]", "", always)) != always:
        always = shorter
    return set(always), set(everywhere)


def literal_fault(expression: str) -> str | None:
    """Name a literal that is not a full date, such as `date '2025'` or `timestamp 'now'`; None without one.

    >>> literal_fault("if(day > date '2025-01-01', 'date', x)")
    >>> literal_fault("greatest(day, date 'today')")
    "'today' is no full date"
    """
    before = ""
    for token in _TOKEN.finditer(expression):
        form = _TIME_TYPES.get(before)
        if token["text"] and form and re.search(form.replace(r"\z", r"\Z"), token["text"].lstrip("rR")[1:-1]) is None:
            return f"{token['text']} is no full date"
        before = (token["word"] or "").upper()
    return None


def holds_time(type_name: str) -> bool:
    """Return whether a complex type, as SQL or as DDL, contains a date or a timestamp.

    >>> holds_time("STRUCT<a: DATE, b: STRING>"), holds_time("ARRAY<STRUCT<update: STRING>>")
    (True, False)
    """
    return re.search(r"[:<,]\s*(date|timestamp(_ntz|_ltz)?)\b(?!\s*:)", type_name, re.IGNORECASE) is not None


def time_columns(schema: StructType) -> list[str]:
    """Return the columns of a schema that are or contain dates or timestamps."""
    return [field.name for field in schema if holds_time(f"<{field.dataType.simpleString()}")]
