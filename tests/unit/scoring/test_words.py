"""A reason's sentence: its numbers are the fold's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fold_rows import fold_row, pack, payment

from lbsf.schemas.scores import REASON_FIELDS
from lbsf.scoring.fields import NO_FIELD
from lbsf.scoring.words import reason_texts

AMOUNT, TIME, KIND = range(len(REASON_FIELDS))


def text(visits: list[dict[str, Any]], field: int, contribution: float = 0.4) -> str:
    """The sentence of merchant `shop`, whose user pays 20.00 elsewhere; as_of is 2025-07-01."""
    usual = [payment(day, 2_000) for day in (1, 2, 3, 4, 5, 6, 7)]
    packed = pack([fold_row("first", {"x": usual}), fold_row("u", {"a": usual, "shop": visits})])
    return reason_texts(packed, np.array([2]), ["The Shop"], np.array([contribution]), np.array([field]))[0]


def test_amounts_that_changed() -> None:
    visits = [payment(10.5, 50_000), payment(20.5, 150_000), payment(100, 10_050), payment(130, 9_950)]
    assert text(visits, AMOUNT) == (
        "The Shop: 4 payments of 550.00 on average, the last on 2025-06-20. Raises the risk, mostly by the amounts: "
        "1,000.00 on average in the last 60 days, 100.00 before."
    )


def test_amounts_beside_the_users_usual_one() -> None:
    visits = [payment(10.5, 50_000), payment(11.5, -50_000)]
    assert text(visits, AMOUNT, -0.1) == (
        "The Shop: 2 payments of 500.00 on average, the last on 2025-06-20, 1 of them incoming. Lowers the risk, "
        "mostly by the amounts: 500.00 on average, where this user's usual payment is 20.00."
    )


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ((40.5,), "a single payment 40 days before"),
        ((60.5, 70.5, 80.5), "none for 60 days, where there had been one every 10 days"),
        ((1.5, 8.5, 15.5), "one every 7 days, the last 1 day before"),
        ((1.2, 1.45, 1.7), "4 a day, the last 1 day before"),
        ((5.5, 15.5, 25.5, 35.5, 45.5, 55.5, 150.5), "3.0 a month in the last 60 days, 0.3 before"),
    ],
)
def test_times(days: tuple[float, ...], expected: str) -> None:
    assert text([payment(day) for day in days], TIME).endswith(f"Raises the risk, mostly by the times: {expected}.")


def test_kinds_and_merchants_that_no_field_explains() -> None:
    assert text([payment(3.5, -700)], KIND) == (
        "The Shop: one incoming payment of 7.00 on 2025-06-27. "
        "Raises the risk, mostly by what was paid for and to whom."
    )
    salary = text([payment(3.5, -700), payment(33.5, -700)], KIND, -0.2)
    assert salary.startswith("The Shop: 2 incoming payments of 7.00 on average, the last on 2025-06-27. Lowers")
    assert text([payment(3.5, 700)], NO_FIELD).endswith("Raises the risk, by being there at all.")
