"""Decide whether too much of a delivery was refused, and which limits would fit it."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lbsf.ingest.contract import BEYOND_AMOUNT, OTHER_CURRENCY, TOO_EARLY
from lbsf.ingest.delivery import in_line

# Largest number of currencies to name in a message.
_NAMED = 5


def too_many_refused(
    rows: int, refused: int, reasons: Mapping[str, int], limit: float, what: str = "rows"
) -> str | None:
    """Return a message with the reasons if a larger share than `limit` was refused, else None.

    >>> too_many_refused(4, 3, {"user_id is missing": 2, "currency is missing": 3}, 0.5)
    '3 of 4 rows were refused, more than ingest.max_refused_share (0.5): currency is missing 3, user_id is missing 2'
    >>> too_many_refused(4, 2, {"user_id is missing": 2}, 0.5)
    """
    if not rows or refused / rows <= limit:
        return None
    return (
        f"{refused:,} of {rows:,} {what} were refused, more than ingest.max_refused_share ({limit:g}): "
        f"{in_line(reasons)}"
    )


def fitting_limits(checked: DataFrame) -> list[str]:
    """Suggest limits that would accept the payments that they refused, alone or with other reasons.

    Args:
        checked: rows of `check_payments`.

    Returns:
        A text for each limit: the currencies found, the largest amount, the earliest day.
    """
    found = []
    currencies = _broken(checked, OTHER_CURRENCY).groupBy("currency").count().orderBy(F.desc("count"), "currency")
    # Name only values that look like a currency code, because a wrong mapping may have put anything here.
    named = currencies.where(F.col("currency").rlike("^[A-Za-z]{3}$")).limit(_NAMED).collect()
    if named:
        texts = ", ".join(f"{row['currency']} ({row['count']:,} rows)" for row in named)
        found.append(f"currencies found: {texts}; set ingest.currencies, or convert them in the mapping")
    largest = _broken(checked, BEYOND_AMOUNT).agg(F.max(F.abs("amount"))).head()
    if largest is not None and largest[0] is not None:
        found.append(f"largest amount found: {largest[0]:,}; set ingest.max_amount")
    earliest = _broken(checked, TOO_EARLY).agg(F.min("paid_on")).head()
    if earliest is not None and earliest[0] is not None:
        found.append(f"earliest day found: {earliest[0]}; set ingest.earliest_paid_on")
    return found


def _broken(checked: DataFrame, reason: str) -> DataFrame:
    return checked.where(F.array_contains("reasons", reason))
