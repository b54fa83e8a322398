"""Views of packed folds: against folds of that window, against nested lists, field by field."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fold_oracle import AS_OF, DAY, FOLD, MICROSECOND, USERS, fold_of, midnight, payment, payments_strategy
from fold_rows import arrow, pack, random_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lbsf.folds.packed import PackedFolds
from lbsf.folds.views import FIELDS, View, blank, last_days, unfold

Row = dict[str, Any]
Visit = tuple[int, int, int, int, list[int]]
# Six days, so that the generated payments lie in the window of some days and not of others; no cap binds.
ROOMY = FOLD.model_copy(update={"window_days": 6, "max_merchants": 9, "max_payments_per_merchant": 99})


def labelled(rows: list[Row]) -> PackedFolds:
    labels = pa.array([place % 2 for place in range(len(rows))], pa.int32())
    return PackedFolds.from_arrow(arrow(rows).append_column("label", labels))


def same(one: PackedFolds, other: PackedFolds) -> None:
    one.check()
    for field in fields(PackedFolds):
        mine, others = getattr(one, field.name), getattr(other, field.name)
        if mine is None:
            assert others is None, field.name
            continue
        assert mine.dtype == others.dtype == np.int64, field.name
        assert mine.tolist() == others.tolist(), field.name


def visits(packed: PackedFolds, user: int) -> list[tuple[list[int], Visit]]:
    """The payments of one user, merchant by merchant, each with its merchant's words."""
    one = packed.take(np.array([user]))
    names = np.split(one.merchant_token, np.cumsum(one.merchant_token_len)[:-1]) if one.merchant_len.size else []
    name_of = [name.tolist() for name, count in zip(names, one.merchant_len, strict=True) for _ in range(count)]
    words = np.split(one.description_token, np.cumsum(one.description_token_len)[:-1]) if one.payments else []
    columns = (one.paid_at, one.amount_cents, one.category, one.channel)
    return [
        (name, (*(int(column[place]) for column in columns), word.tolist()))  # type: ignore[misc]
        for place, (name, word) in enumerate(zip(name_of, words, strict=True))
    ]


@settings(deadline=None, max_examples=60)
@given(payments=payments_strategy(40), days=st.integers(1, 7))
def test_the_last_days_are_the_fold_of_that_window(payments: list[Row], days: int) -> None:
    def folds(window_days: int) -> PackedFolds:
        config = ROOMY.model_copy(update={"window_days": window_days})
        return labelled([fold_of(payments, user, AS_OF, config) for user in USERS])

    # A merchant's name is that of its last payment, which every window that sees the merchant has.
    same(last_days(folds(6), days), folds(min(days, 6)))


def test_a_window_begins_with_its_first_midnight() -> None:
    start = midnight(AS_OF) - 2 * DAY
    payments = [payment(1, paid_at=start - 1_000_000 * MICROSECOND), payment(2, paid_at=start)]
    packed = labelled([fold_of(payments, "a", AS_OF, ROOMY)])
    assert last_days(packed, 2).paid_at.tolist() == [int(start.timestamp())]


def test_unfolding_keeps_every_payment_in_order_of_time_with_its_merchants_words() -> None:
    packed = labelled(random_rows(30, seed=1))
    unfolded = unfold(packed)
    unfolded.check()
    assert unfolded.merchant_count.tolist() == (packed.merchant_count > 0).astype(int).tolist()
    assert unfolded.merchant_token.size == 0 and unfolded.label is packed.label
    for user in range(len(packed)):
        expected = [(at, *rest, [*name, *words]) for name, (at, *rest, words) in visits(packed, user)]
        expected.sort(key=lambda visit: visit[0])  # stable: payments of one second keep the merchants' order
        assert [visit for _, visit in visits(unfolded, user)] == expected
    names = sum(len(name) for user in range(len(packed)) for name, _ in visits(packed, user))
    assert names > 100 and unfolded.description_token.size == packed.description_token.size + names


def test_payments_of_one_second_keep_the_merchants_order() -> None:
    at = midnight(AS_OF) - DAY
    rows = [payment(n, merchant_id=m, paid_at=at, amount=n) for n, m in ((1, "z"), (2, "a"), (3, "z"), (4, "m"))]
    unfolded = unfold(labelled([fold_of(rows, "a", AS_OF, ROOMY)]))
    assert unfolded.amount_cents.tolist() == [200, 400, 100, 300]


def test_unfolding_twice_changes_nothing_more() -> None:
    once = unfold(labelled(random_rows(8, seed=2)))
    same(unfold(once), once)


@pytest.mark.parametrize("users", [0, 3])
@pytest.mark.parametrize("view", [View(days=45), View(unfolded=True), *(View(without=field) for field in FIELDS)])
def test_folds_without_users_or_payments_have_views(view: View, users: int) -> None:
    packed = labelled(random_rows(5, seed=3)).take(np.zeros(users, np.int64))  # user 0 has no payments
    assert packed.payments == 0
    same(view.of(packed), packed)


BLANK = {
    "amount": {"amount_cents"},
    "time": {"paid_at"},
    "category": {"category"},
    "channel": {"channel"},
    "description": {"description_token_len", "description_token"},
    "merchant_name": {"merchant_token_len", "merchant_token"},
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_blank_field_says_nothing_and_the_others_stay(field: Any) -> None:
    packed = labelled(random_rows(12, seed=4))
    blanked = blank(packed, field)
    blanked.check()
    changed = {f.name for f in fields(PackedFolds) if getattr(blanked, f.name) is not getattr(packed, f.name)}
    assert changed == BLANK[field]
    # Whatever the field held before, it looks the same afterwards.
    other = replace(packed, **{name: np.roll(getattr(packed, name), 1) for name in BLANK[field] if "token" not in name})
    same(blank(other, field), blanked)
    if field == "time":
        as_of = np.repeat(np.repeat(packed.as_of, packed.merchant_count), packed.merchant_len)
        assert set((as_of - blanked.paid_at).tolist()) == {86_400}  # before as_of, as every payment is
    else:
        assert not any(getattr(blanked, name).any() for name in changed)


def test_a_view_is_cut_then_blanked_then_unfolded() -> None:
    packed = labelled(random_rows(15, seed=5))
    whole = View(days=60, without="time", unfolded=True).of(packed)
    same(whole, unfold(blank(last_days(packed, 60), "time")))
    assert 0 < whole.payments < packed.payments
    assert View().of(packed) is packed
    for wrong in ({"days": 0}, {"without": "colour"}, {"unfold": True}):
        with pytest.raises(ValidationError):
            View.model_validate(wrong)


def test_without_names_an_unfolded_payment_has_its_own_words_alone() -> None:
    packed = pack(random_rows(10, seed=6))
    unfolded = View(without="merchant_name", unfolded=True).of(packed)
    assert sorted(unfolded.description_token.tolist()) == sorted(packed.description_token.tolist())
