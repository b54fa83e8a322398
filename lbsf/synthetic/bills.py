"""Monthly payments (salary, rent, utilities, subscriptions, loan instalments) and new small loans."""

from __future__ import annotations

from datetime import date

import numpy as np
from numpy.typing import NDArray

from lbsf.synthetic.catalogue import CATEGORIES, CODES
from lbsf.synthetic.events import (
    PAYOUT_CODE,
    REMINDER_CODE,
    Events,
    concatenate,
    draw_channels,
    draw_hours,
    draw_memos,
    draw_seconds,
    to_cents,
)
from lbsf.synthetic.health import PAST_WEEKS
from lbsf.synthetic.merchants import Merchants
from lbsf.synthetic.people import People

# (category, share of users who have it)
SLOTS = (
    ("salary", 0.9),
    ("rent", 0.7),
    ("utilities", 0.95),
    ("utilities", 0.75),
    ("utilities", 0.5),
    ("subscription", 0.75),
    ("subscription", 0.5),
    ("subscription", 0.3),
    ("subscription", 0.15),
    ("lender", 0.1),
)
LATE_DAYS = 4.0  # mean delay of a bill per unit of distress
MISSED = 0.02  # probability that a bill is not paid
MISSED_BY_DISTRESS = 0.04  # added to it per unit of distress
LOAN_PER_WEEK = 0.0015  # probability of a new loan
LOAN_PER_WEEK_BY_DISTRESS = 0.010
INSTALMENTS = 8
LOAN_EVERY_DAYS = 30


def month_starts(start_on: date, days: int) -> NDArray[np.int64]:
    """Return the day number of each month's first day, from the month before start_on to the last simulated month.

    Day 0 is start_on.
    """
    first = np.datetime64(start_on, "D")
    months = np.arange(first.astype("datetime64[M]") - 1, (first + days).astype("datetime64[M]") + 1)
    return np.asarray((months.astype("datetime64[D]") - first).astype(np.int64))


def simulate_bills(rng: np.random.Generator, people: People, merchants: Merchants, start_on: date, days: int) -> Events:
    """Simulate monthly payments. Distress delays bills and makes users miss some; salaries are always on time."""
    n, slots = len(people.activity), len(SLOTS)
    category = np.array([CODES[name] for name, _ in SLOTS])
    # Users with little activity at this bank pay few of their bills through it.
    reach = np.minimum(1.0, people.activity / 0.4)[:, None]
    held = rng.random((n, slots)) < np.array([share for _, share in SLOTS]) * reach
    merchant = merchants.draw(np.tile(category, n), rng.random(n * slots)).reshape(n, slots)
    due_day = np.where(category == CODES["salary"], rng.integers(24, 31, (n, slots)), rng.integers(0, 28, (n, slots)))
    base = np.array([CATEGORIES[code].amount for code in category]) * people.income[:, None] ** np.where(
        np.isin(category, [CODES["salary"], CODES["rent"]]), 1.0, 0.3
    )
    level = base * np.exp(rng.normal(0, 0.25, (n, slots)))
    # Subscription prices end in .99.
    level = np.where(category == CODES["subscription"], np.floor(level) + 0.99, level)

    months = month_starts(start_on, days)
    user, slot, month = (axis.ravel() for axis in np.indices((n, slots, len(months))))
    keep = held[user, slot]
    user, slot, month = user[keep], slot[keep], month[keep]
    kind = category[slot]
    salary = kind == CODES["salary"]
    due = months[month] + due_day[user, slot]
    weekday = (due + start_on.weekday()) % 7
    # Banks book on working days: a salary due at a weekend moves to Friday, a bill to Monday.
    due += np.where(weekday >= 5, np.where(salary, 4 - weekday, 7 - weekday), 0)

    distress = people.distress[user, np.clip(due // 7, 0, people.distress.shape[1] - 1)]
    late = people.lateness[user] * rng.gamma(2, 1 / 2, len(user))
    late += LATE_DAYS * people.shows_late[user] * distress * rng.gamma(3, 1 / 3, len(user))
    late = np.where(salary, 0, np.minimum(np.floor(late), 45)).astype(np.int64)
    missed = rng.random(len(user)) < np.minimum(0.6, MISSED + MISSED_BY_DISTRESS * people.shows_late[user] * distress)
    paid = due + late
    keep = (salary | ~missed) & (paid >= 0) & (paid < days)
    user, slot, kind, paid, late = user[keep], slot[keep], kind[keep], paid[keep], late[keep]

    spread = np.array([CATEGORIES[code].spread for code in category])[slot]
    # Loan instalments are all equal.
    spread = np.where(kind == CODES["lender"], 0.0, spread)
    amount = level[user, slot] * np.exp(rng.normal(0, 1, len(user)) * spread)
    reminded = (late > 12) & (rng.random(len(user)) < 0.2)
    return Events(
        user=user,
        merchant=merchants.open_on(merchant[user, slot], paid),
        second=draw_seconds(rng, paid, draw_hours(rng, kind)),
        cents=to_cents(amount) * np.where(kind == CODES["salary"], -1, 1),
        channel=draw_channels(rng, kind),
        memo=np.where(reminded, REMINDER_CODE, draw_memos(rng, kind)),
    )


def simulate_loans(rng: np.random.Generator, people: People, merchants: Merchants, days: int) -> Events:
    """Simulate new small loans: a payout, then instalments every 30 days. Distress makes a loan more likely."""
    distress = people.distress
    # Loans taken in the PAST_WEEKS before the first day may still be in repayment. They use the first week's distress.
    history = np.repeat(distress[:, :1], PAST_WEEKS, axis=1)
    distress = np.concatenate([history, distress], axis=1)
    hazard = LOAN_PER_WEEK + LOAN_PER_WEEK_BY_DISTRESS * people.shows_loans[:, None] * distress
    user, week = np.nonzero(rng.random(distress.shape) < hazard)
    lender = np.full(len(user), CODES["lender"])
    merchant = merchants.draw(lender, rng.random(len(user)))
    taken = (week - PAST_WEEKS) * 7 + rng.integers(0, 7, len(user))
    instalment = CATEGORIES[CODES["lender"]].amount * np.exp(rng.normal(0, 0.5, len(user)))
    count = rng.integers(3, INSTALMENTS + 1, len(user))

    parts = []
    for number in range(INSTALMENTS + 1):
        late = np.floor(people.lateness[user] * rng.gamma(2, 1 / 2, len(user))).astype(np.int64)
        paid = taken if number == 0 else taken + number * LOAN_EVERY_DAYS + np.minimum(late, 25)
        keep = (number <= count) & (paid >= 0) & (paid < days)
        kept = lender[keep]
        amount = to_cents(instalment[keep]) if number else -to_cents(0.85 * (count * instalment)[keep])
        parts.append(
            Events(
                user=user[keep],
                merchant=merchants.open_on(merchant[keep], paid[keep]),
                second=draw_seconds(rng, paid[keep], draw_hours(rng, kept)),
                cents=amount,
                channel=draw_channels(rng, kept),
                memo=draw_memos(rng, kept) if number else np.full(len(kept), PAYOUT_CODE),
            )
        )
    return concatenate(parts)
