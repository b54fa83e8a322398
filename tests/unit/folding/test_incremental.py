"""From one night to the next: equal to a full fold in every bit, whatever arrived, changed or was missed."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pytest
from fold_oracle import AS_OF, DAY, FOLD, USERS, midnight, payment, payments_strategy
from hypothesis import given, settings
from hypothesis import strategies as st

from lbsf.folding.cut import fold_days
from lbsf.folding.incremental import incremental_folds
from lbsf.folding.rows import PaymentRows

Row = dict[str, Any]
TYPES = {"paid_at": pa.timestamp("us", "UTC"), "amount": pa.decimal128(18, 2)}
NAMES = ("user_id", "merchant_id", "category", "channel", "merchant_name", "description", "payment_id", *TYPES)
SCHEMA = pa.schema([(name, TYPES.get(name, pa.string())) for name in NAMES])


def ordered(payments: list[Row]) -> PaymentRows:
    table = pa.Table.from_pylist([{name: p[name] for name in NAMES} for p in payments], SCHEMA)
    rows = PaymentRows.from_payments(table, FOLD)
    return rows.take(rows.order(table["payment_id"].combine_chunks))


def full(payments: list[Row], as_of: date) -> pa.Table:
    (folds,) = fold_days(ordered(payments), [as_of], FOLD)
    return folds


def in_window(payments: list[Row], as_of: date) -> list[Row]:
    begin = midnight(as_of) - FOLD.window_days * DAY
    return [p for p in payments if begin <= p["paid_at"] < midnight(as_of)]


def advance(folds: pa.Table, night: date, before: list[Row], after: list[Row], as_of: date) -> tuple[pa.Table, int]:
    """What the files' reader hands to the kernel: what is new in the window, and who was changed."""
    known = {p["payment_id"]: p for p in before}
    present = {p["payment_id"]: p for p in after}
    changed = {p["user_id"] for key, p in known.items() if present.get(key) != p}
    changed |= {p["user_id"] for key, p in present.items() if key in known and known[key] != p}
    arrived = [
        p
        for p in in_window(after, as_of)
        if p["paid_at"] >= midnight(night) or (p["payment_id"] not in known and p["paid_at"] < midnight(night))
    ]

    def payments_of(users: pa.StringArray) -> PaymentRows:
        return ordered([p for p in in_window(after, as_of) if p["user_id"] in users.to_pylist()])

    return incremental_folds(folds, ordered(arrived), changed, payments_of, as_of, FOLD)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[list[Row], date]]:
    """The payments as they stood at some nights, which may be missed, run twice, and see late rows and corrections."""
    # Few users with many payments, so that caps cut.
    payments = draw(payments_strategy(60, min_size=25, users=USERS[:3]))
    known = [p for p in payments if draw(st.booleans())]
    night = AS_OF - DAY
    states = [(known, night)]
    for _ in range(draw(st.integers(1, 3))):
        arriving = [p for p in payments if p not in known and draw(st.booleans())]
        corrected = [
            p | {"merchant_id": "shop", "description": "corrected"} if draw(st.integers(0, 9)) == 0 else p
            for p in known
            if draw(st.integers(0, 14)) > 0
        ]
        known = corrected + [p for p in arriving if p["payment_id"] not in {q["payment_id"] for q in known}]
        night += timedelta(days=draw(st.integers(0, 2)))
        states.append((known, night))
    return states


@settings(deadline=None, max_examples=200)
@given(states=histories())
def test_each_night_equals_a_full_fold(states: list[tuple[list[Row], date]]) -> None:
    (before, night), *later = states
    folds = full(before, night)
    for after, as_of in later:
        folds, _ = advance(folds, night, before, after, as_of)
        assert folds.equals(full(after, as_of))
        before, night = after, as_of


HOUR = timedelta(hours=1)
LAST_DAY = midnight(AS_OF) - 20 * HOUR
TONIGHT = midnight(AS_OF) + HOUR


@pytest.mark.parametrize(
    ("before", "arrives", "refolded"),
    [
        pytest.param([payment(1, paid_at=LAST_DAY)], [payment(2, paid_at=TONIGHT)], 0, id="a new payment is added"),
        pytest.param(
            [payment(1, paid_at=LAST_DAY)], [payment(2, paid_at=LAST_DAY - HOUR)], 0, id="a late one goes before"
        ),
        pytest.param([payment(1, paid_at=LAST_DAY - 2 * DAY)], [], 0, id="an expired one leaves no fold"),
        pytest.param(
            [payment(1, paid_at=LAST_DAY)],
            [payment(0, paid_at=LAST_DAY + timedelta(microseconds=1))],
            1,
            id="within the same second only the payments tell the order",
        ),
        pytest.param(
            [payment(n, paid_at=LAST_DAY + n * HOUR) for n in range(3)], [], 1, id="who was cut is folded again"
        ),
        pytest.param(
            [payment(n, paid_at=LAST_DAY + n * HOUR) for n in range(2)],
            [payment(3, paid_at=TONIGHT), payment(4, "b", paid_at=TONIGHT)],
            0,
            id="a cap on payments that tonight's reaches",
        ),
        pytest.param(
            [
                payment(1, merchant_id="a", paid_at=LAST_DAY),
                payment(2, merchant_id="b", paid_at=LAST_DAY + timedelta(microseconds=1)),
                payment(3, merchant_id="c", paid_at=LAST_DAY + HOUR),
            ],
            [payment(4, merchant_id="d", paid_at=TONIGHT)],
            1,
            id="merchants that compete within a second",
        ),
    ],
)
def test_users_folded_from_their_payments_again(before: list[Row], arrives: list[Row], refolded: int) -> None:
    tonight = AS_OF + DAY
    folds, again = advance(full(before, AS_OF), AS_OF, before, before + arrives, tonight)
    assert again == refolded
    assert folds.equals(full(before + arrives, tonight))


def test_users_who_are_untouched_are_not_read_again() -> None:
    before = [payment(1, "a", paid_at=LAST_DAY), payment(2, "b", paid_at=LAST_DAY)]
    asked: list[list[str]] = []

    def payments_of(users: pa.StringArray) -> PaymentRows:
        asked.append(users.to_pylist())
        return ordered([p for p in before if p["user_id"] in users.to_pylist()])

    folds = incremental_folds(full(before, AS_OF), ordered([]), {"b"}, payments_of, AS_OF + DAY, FOLD)[0]
    assert asked == [["b"]]
    assert folds.equals(full(before, AS_OF + DAY))
