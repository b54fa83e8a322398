"""Reasons as sentences, with amounts and dates taken from the fold."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from lbsf.folds.packed import SECONDS_PER_DAY, Ints, PackedFolds
from lbsf.schemas.scores import REASON_FIELDS
from lbsf.scoring.fields import NO_FIELD, Floats, usual_cents

# Recent payments are compared with earlier ones, as in the network's statistics of a merchant.
RECENT_DAYS = 60
# A silence longer than this many mean gaps is mentioned.
LONG_SILENCE = 2.0
# Amounts or frequencies that changed by a smaller factor count as unchanged.
CHANGED = 1.25


def reason_texts(
    packed: PackedFolds, merchants: Ints, names: list[str], contribution: Floats, field: Ints
) -> list[str]:
    """Describe each reason in one or two sentences: merchant, number and size of payments, last day, what is unusual.

    Args:
        packed: folds of n users with M merchants.
        merchants: (R,) positions of the merchants that are reasons.
        names: R names of these merchants or, for those without a name, their ids.
        contribution: (R,) log-odds.
        field: (R,) positions in REASON_FIELDS, or NO_FIELD.

    Returns:
        R texts. Amounts are in the payments' own currency, without signs; days are UTC.
    """
    begin = np.cumsum(packed.merchant_len) - packed.merchant_len
    usual = usual_cents(packed)
    texts = []
    for position, merchant in enumerate(merchants.tolist()):
        visits = slice(begin[merchant], begin[merchant] + packed.merchant_len[merchant])
        owner = packed.user_of_merchant[merchant]
        paid_at, cents = packed.paid_at[visits], packed.amount_cents[visits]
        verb = "Raises" if contribution[position] > 0 else "Lowers"
        why = _why(int(field[position]), paid_at, cents, int(packed.as_of[owner]), int(usual[owner]))
        texts.append(f"{_summary(names[position], paid_at, cents)}. {verb} the risk, {why}.")
    return texts


def _why(field: int, paid_at: Ints, cents: Ints, as_of: int, usual: int) -> str:
    if field == NO_FIELD:
        return "by being there at all"
    name = REASON_FIELDS[field]
    if name == "amount":
        return "mostly by the amounts: " + _amounts(paid_at, cents, as_of, usual)
    if name == "time":
        return "mostly by the times: " + _times(paid_at, as_of)
    return "mostly by what was paid for and to whom"


def _summary(name: str, paid_at: Ints, cents: Ints) -> str:
    last = _day(paid_at[-1])
    if len(cents) == 1:
        kind = "incoming payment" if cents[0] < 0 else "payment"
        return f"{name}: one {kind} of {_money(abs(cents[0]))} on {last}"
    # Incoming payments are refunds, salaries and loan payouts.
    incoming = int((cents < 0).sum())
    also = f", {incoming:,} of them incoming" if 0 < incoming < len(cents) else ""
    kind = "incoming payments" if incoming == len(cents) else "payments"
    return f"{name}: {len(cents):,} {kind} of {_money(np.abs(cents).mean())} on average, the last on {last}{also}"


def _amounts(paid_at: Ints, cents: Ints, as_of: int, usual: int) -> str:
    size = np.abs(cents)
    late = paid_at >= as_of - RECENT_DAYS * SECONDS_PER_DAY
    if late.any() and not late.all():
        now, before = size[late].mean(), size[~late].mean()
        if _differ(now, before):
            return f"{_money(now)} on average in the last {RECENT_DAYS} days, {_money(before)} before"
    return f"{_money(size.mean())} on average, where this user's usual payment is {_money(usual)}"


def _times(paid_at: Ints, as_of: int) -> str:
    silent = (as_of - int(paid_at[-1])) // SECONDS_PER_DAY
    if len(paid_at) == 1:
        return f"a single payment {_days(silent)} before"
    gap = (int(paid_at[-1]) - int(paid_at[0])) / SECONDS_PER_DAY / (len(paid_at) - 1)
    every = f"one every {_days(round(gap))}" if gap >= 1 else f"{1 / max(gap, 1e-3):.0f} a day"
    if silent > max(LONG_SILENCE * gap, 7):
        return f"none for {_days(silent)}, where there had been {every}"
    days = (as_of - int(paid_at[0])) / SECONDS_PER_DAY
    if days > 2 * RECENT_DAYS:
        late = int((paid_at >= as_of - RECENT_DAYS * SECONDS_PER_DAY).sum()) / RECENT_DAYS * 30
        before = (len(paid_at) - late * RECENT_DAYS / 30) / (days - RECENT_DAYS) * 30
        if _differ(late, before):
            return f"{late:.1f} a month in the last {RECENT_DAYS} days, {before:.1f} before"
    return f"{every}, the last {_days(silent)} before"


def _differ(now: float, before: float) -> bool:
    return bool(now > CHANGED * before or before > CHANGED * now)


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days:,} days"


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).date().isoformat()


def _money(cents: float) -> str:
    return f"{cents / 100:,.2f}"
