"""Why a row of a file cannot be read: the texts of the faults, and how to detect them in CSV rows."""

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
    """Return why a CSV row cannot be read; null where it can.

    Args:
        unparsed: the row's text where Spark could not parse it into the columns, else null.
        texts: the row's text columns.
        fields: number of fields in a row.
        quote: the quotation mark; empty: there is none.
        separator: the separator of fields.
        multi_line: whether a field may contain line breaks.
        unfit: message for a row that Spark could not parse.
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
    """Return whether a line's first quotation mark closes a field that was opened on an earlier line."""
    mark, between = re.escape(quote), re.escape(separator)
    return line.rlike(f"^(?:(?!{mark}).)+(?<!{between}){mark}(?:{between}|$)")


def _holds_rows(text: Column, quote: str, separator: str, fields: int) -> Column:
    """Return whether a field runs from one row into another.

    Such a field contains the separators of a whole row for each of its line breaks. Separators followed by a blank do
    not count, because prose has a blank after a comma. They do count in a field that keeps its opening quotation mark,
    because only a badly quoted field does.
    """
    between = re.escape(separator)
    # An unclosed field at the end of the file includes the file's last line break.
    trimmed = F.regexp_replace(text, r"\n+$", "")
    expected = F.regexp_count(trimmed, F.lit("\n")) * (fields - 1)
    opened = text.startswith(quote) & (F.regexp_count(trimmed, F.lit(between)) >= expected)
    in_rows = F.regexp_count(trimmed, F.lit(f"{between}(?! )")) == expected
    return text.contains("\n") & trimmed.contains("\n") & (opened | in_rows)
