"""Why a row of a file cannot be taken as it stands there: the texts, and how CSV rows are told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from operator import or_

from pyspark.sql import Column
from pyspark.sql import functions as F

FIELD_COUNT = "the row has another number of fields than the header"
FIRST_ROW_COUNT = "the row has another number of fields than the first row"
NOT_OF_SCHEMA = "the row does not fit the schema: another number of fields, or a value of another type"
OPEN_QUOTE = "a quotation mark is not closed: a field holds parts of other rows"
CUT_FIELD = "the row is the end of a quoted field that began on a line before"
NOT_JSON = "the row is not JSON of the schema"
BAD_CHARACTER = "a character is not of the file's encoding"


def csv_fault(
    unparsed: Column,
    texts: Sequence[Column],
    *,
    fields: int,
    quote: str,
    separator: str,
    multi_line: bool,
    unfit: str,
) -> Column:
    """Null, or why a CSV row cannot be taken.

    Args:
        unparsed: the row's text where Spark could not fit it to its columns, else null.
        texts: the row's columns that hold text.
        fields: how many fields a row has.
        quote: the quotation mark; empty: there is none.
        separator: what stands between two fields.
        multi_line: whether a field may hold line breaks.
        unfit: what to say of a row that Spark could not fit.
    """
    fault = F.when(unparsed.isNotNull(), F.lit(unfit))
    if not quote:
        return fault
    if not multi_line:
        return F.when(_ends_a_field(unparsed, quote, separator), F.lit(CUT_FIELD)).otherwise(fault)
    if not texts or fields < 2:
        return fault
    holds_rows = [_holds_rows(text, quote, separator, fields) for text in texts]
    return fault.when(reduce(or_, holds_rows), F.lit(OPEN_QUOTE))


def _ends_a_field(line: Column, quote: str, separator: str) -> Column:
    """Whether a line's first quotation mark closes a field that the line did not open."""
    mark, between = re.escape(quote), re.escape(separator)
    return line.rlike(f"^(?:(?!{mark}).)+(?<!{between}){mark}(?:{between}|$)")


def _holds_rows(text: Column, quote: str, separator: str, fields: int) -> Column:
    """Whether a field runs from one row into another.

    It then holds the separators of a whole row for each of its line breaks. Prose has a blank behind a comma, so those
    do not count; they do in a field that keeps its opening mark, as only a badly quoted one does.
    """
    between = re.escape(separator)
    # An unclosed field at the file's end takes the file's last line break too.
    trimmed = F.regexp_replace(text, r"\n+$", "")
    expected = F.regexp_count(trimmed, F.lit("\n")) * (fields - 1)
    opened = text.startswith(quote) & (F.regexp_count(trimmed, F.lit(between)) >= expected)
    in_rows = F.regexp_count(trimmed, F.lit(f"{between}(?! )")) == expected
    return text.contains("\n") & trimmed.contains("\n") & (opened | in_rows)
