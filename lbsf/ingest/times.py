"""Which text is a time, and which pattern reads one: only a full date is a time.

Spark takes `12:30` for today at 12:30, `2025` for 1 January and a pattern's missing fields for 1970-01-01 00:00, so
text is held to these forms before Spark reads it.
"""

from __future__ import annotations

import re
from enum import Enum

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

_DATE = r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_CLOCK = r"[0-9]{1,2}:[0-9]{1,2}(:[0-9]{1,2}([.][0-9]{1,9})?)?"
# Offsets alone: a zone's name in the text would hide which of two readings of an hour is meant.
_OFFSET = r"\s*(Z|(UTC|GMT)([+-][0-9]{1,2}(:?[0-9]{2})?)?|[+-][0-9]{1,2}(:?[0-9]{2})?)"
# A date, a blank and nothing else is a date joined to an empty time.
_LOCAL = rf"^\s*{_DATE}([ T]{_CLOCK}\s*)?\z"
_INSTANT = rf"^\s*{_DATE}[ T]{_CLOCK}{_OFFSET}\s*\z"
_TIME = rf"^\s*{_DATE}([ T]{_CLOCK}({_OFFSET})?\s*)?\z"
# The day of a time with an offset depends on where one stands; that of UTC does not.
_DAY = rf"^\s*{_DATE}([ T]{_CLOCK}Z?)?\s*\z"

_TOKEN = re.compile(
    r"""(?P<text>[rR]?'(?:[^'\\]|\\.)*'|[rR]?"(?:[^"\\]|\\.)*")|`[^`]*`|--[^\n]*|/\*.*?\*/|(?P<word>\w+)|\S""",
    re.DOTALL,
)
_TIME_TYPES = {"DATE": _DAY, "TIMESTAMP": _TIME, "TIMESTAMP_LTZ": _TIME, "TIMESTAMP_NTZ": _LOCAL}


class Clock(Enum):
    """How a text's time is meant where it stands."""

    ANY = "with an offset or without one, which is UTC"
    LOCAL = "without an offset"
    INSTANT = "with an offset"


def is_full(text: Column, to: str, clock: Clock = Clock.ANY) -> Column:
    """Whether a text is a full date, and a time of day with an offset where `to` and `clock` take them.

    Args:
        text: a column of text.
        to: the type that it becomes: DATE, TIMESTAMP or TIMESTAMP_NTZ.
        clock: which texts count.
    """
    form = _form(to, clock)
    return F.lit(False) if form is None else text.rlike(form)


def is_full_text(text: str, to: str, clock: Clock = Clock.ANY) -> bool:
    """`is_full` of one text."""
    form = _form(to, clock)
    return form is not None and re.search(form.replace(r"\z", r"\Z"), text) is not None


def _form(to: str, clock: Clock) -> str | None:
    if to == "TIMESTAMP":
        return {Clock.ANY: _TIME, Clock.LOCAL: _LOCAL, Clock.INSTANT: _INSTANT}[clock]
    return None if clock is Clock.INSTANT else _TIME_TYPES[to]


def pattern_fault(pattern: str) -> str | None:
    """Why a pattern of to_timestamp or to_date reads no full time; None where it does.

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
    """Whether a pattern reads an offset, if only where there is one.

    >>> reads_offset("yyyy-MM-dd HH:mm[XXX]"), reads_offset("yyyy-MM-dd'Z'")
    (True, False)
    """
    return bool(_letters(pattern)[1] & {"X", "x", "Z", "O"})


def _letters(pattern: str) -> tuple[set[str], set[str]]:
    """A pattern's letters outside quotes: those outside optional sections, and all."""
    everywhere = always = re.sub(r"'[^']*'", "", pattern)
    while (shorter := re.sub(r"\[[^\[\]]*\]", "", always)) != always:
        always = shorter
    return set(always), set(everywhere)


def literal_fault(expression: str) -> str | None:
    """Names a literal such as `date '2025'` or `timestamp 'now'`, which is no full date; None without one.

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
    """Whether a complex type, as SQL or as DDL, holds a date or a timestamp.

    >>> holds_time("STRUCT<a: DATE, b: STRING>"), holds_time("ARRAY<STRUCT<update: STRING>>")
    (True, False)
    """
    return re.search(r"[:<,]\s*(date|timestamp(_ntz|_ltz)?)\b(?!\s*:)", type_name, re.IGNORECASE) is not None


def time_columns(schema: StructType) -> list[str]:
    """The columns of a schema that are or hold dates or timestamps."""
    return [field.name for field in schema if holds_time(f"<{field.dataType.simpleString()}")]
