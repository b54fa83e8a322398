"""Packed folds against a slow oracle: each user's fold as nested lists."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fold_rows import arrow, fold_row, pack, payment, random_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from lbsf.errors import InputError
from lbsf.folds.packed import PackedFolds, gather_segments

payments = st.builds(
    payment,
    st.floats(0.01, 179.0),
    st.integers(-(10**12), 10**12),
    st.integers(0, 15),
    st.integers(0, 7),
    st.lists(st.integers(1, 31), max_size=3).map(tuple),
)
merchants = st.dictionaries(st.sampled_from("abcde"), st.lists(payments, min_size=1, max_size=3), max_size=4)
names = st.dictionaries(st.sampled_from("abcde"), st.lists(st.integers(1, 31), max_size=2).map(tuple))
rows = st.lists(st.builds(lambda m, n: fold_row("u", m, names=n), merchants, names), min_size=1, max_size=5)
quick = settings(max_examples=40, deadline=None)


def unpack(packed: PackedFolds) -> list[Any]:
    """The oracle's form: per user its as_of and, per merchant, its words and its payments."""
    merchant = payment = merchant_word = description_word = 0
    users = []
    for user in range(len(packed)):
        shops = []
        for _ in range(packed.merchant_count[user]):
            ends = merchant_word + packed.merchant_token_len[merchant]
            words = packed.merchant_token[merchant_word:ends].tolist()
            merchant_word = ends
            visits = []
            for _ in range(packed.merchant_len[merchant]):
                ends = description_word + packed.description_token_len[payment]
                fields = (packed.paid_at, packed.amount_cents, packed.category, packed.channel)
                described = packed.description_token[description_word:ends].tolist()
                visits.append((*(int(column[payment]) for column in fields), described))
                description_word = ends
                payment += 1
            shops.append((words, visits))
            merchant += 1
        users.append((int(packed.as_of[user]), shops))
    return users


@quick
@given(rows)
def test_packing_keeps_every_value(rows: list[dict[str, Any]]) -> None:
    for row, (_, shops) in zip(rows, unpack(pack(rows)), strict=True):
        assert [len(visits) for _, visits in shops] == row["merchant_len"]
        assert [word for words, _ in shops for word in words] == row["merchant_token"]
        visits = [visit for _, of_merchant in shops for visit in of_merchant]
        for place, name in enumerate(("paid_at", "amount_cents", "category", "channel")):
            assert [visit[place] for visit in visits] == row[name]
        assert [word for visit in visits for word in visit[4]] == row["description_token"]


@quick
@given(rows, st.data())
def test_take_picks_whole_users_in_the_asked_order(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    packed = pack(rows)
    users = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=7))  # none, and the same user twice, too
    taken = packed.take(np.array(users, np.int64))
    taken.check()
    assert unpack(taken) == [unpack(packed)[user] for user in users]


@quick
@given(rows, rows, st.data())
def test_gather_takes_users_from_several_parts(
    first: list[dict[str, Any]], second: list[dict[str, Any]], data: st.DataObject
) -> None:
    parts = [pack(first), pack(second)]
    wanted = data.draw(st.lists(st.sampled_from([(p, u) for p in (0, 1) for u in range(len(parts[p]))]), max_size=7))
    part, user = (np.array([one[place] for one in wanted], np.int64) for place in (0, 1))
    gathered = PackedFolds.gather(parts, part, user)
    gathered.check()
    assert unpack(gathered) == [unpack(parts[p])[u] for p, u in wanted]


@quick
@given(rows, rows)
def test_concat_appends_users(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    joined = PackedFolds.concat([pack(first), pack(second)])
    joined.check()
    assert unpack(joined) == unpack(pack(first)) + unpack(pack(second))
    assert joined.payments == sum(row["payments_kept"] for row in first + second)


@quick
@given(rows, st.integers(0, 5), st.integers(0, 5))
def test_a_slice_of_a_record_batch_packs_like_its_rows(rows: list[dict[str, Any]], start: int, length: int) -> None:
    batch = arrow(rows).to_batches()[0]
    assert unpack(PackedFolds.from_arrow(batch.slice(start, length))) == unpack(pack(rows))[start : start + length]


@quick
@given(st.lists(st.integers(0, 4), max_size=6), st.data())
def test_gather_ranges_against_a_loop(lengths: list[int], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=8)) if lengths else []
    starts = [sum(lengths[:place]) for place in range(len(lengths))]
    expected = [element for place in chosen for element in range(starts[place], starts[place] + lengths[place])]
    assert gather_segments(np.array(lengths, np.int64), np.array(chosen, np.int64)).tolist() == expected


def test_labels_travel_with_their_users() -> None:
    table = arrow(random_rows(4, seed=1)).append_column("label", pa.array([0, 1, 0, 1], pa.int32()))
    packed = PackedFolds.from_arrow(table)
    taken = packed.take(np.array([3, 0]))
    assert taken.label is not None and taken.label.tolist() == [1, 0]
    joined = PackedFolds.concat([packed, taken])
    assert joined.label is not None and joined.label.tolist() == [0, 1, 0, 1, 1, 0]


def test_as_of_becomes_its_midnight_utc() -> None:
    assert pack([fold_row("u", {})]).as_of.tolist() == [1_751_328_000]  # 2025-07-01T00:00:00Z


def test_no_rows_and_several_chunks_pack() -> None:
    table = arrow(random_rows(3, seed=2))
    assert len(PackedFolds.from_arrow(table.slice(0, 0))) == 0
    chunked = pa.concat_tables([table, table.slice(1, 1)])
    assert unpack(PackedFolds.from_arrow(chunked)) == unpack(pack(random_rows(3, seed=2))) + [
        unpack(pack(random_rows(3, seed=2)))[1]
    ]


@pytest.mark.parametrize("column", ["category", "amount_cents", "merchant_token", "description_token", "paid_at"])
def test_a_list_of_another_length_is_refused(column: str) -> None:
    packed = pack(random_rows(5, seed=3))
    damaged = replace(packed, **{column: getattr(packed, column)[:-1]})
    with pytest.raises(InputError, match=f"folds are damaged: {column} has"):
        damaged.check()
