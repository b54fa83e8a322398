from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from fold_rows import fold_row, pack, payment, random_rows

from lbsf.errors import InputError
from lbsf.evaluation.reference import (
    CODES,
    LEAST_SHARE,
    NUMBERS,
    Reference,
    add,
    count,
    drift,
    make_reference,
    psi,
    psi_by_chance,
)
from lbsf.folds.packed import PackedFolds

PROBABILITY = np.random.default_rng(0).beta(1, 20, 400)


def folds(users: int = 300, seed: int = 0) -> PackedFolds:
    return pack(random_rows(users, seed))


def reference_of(packed: PackedFolds) -> Reference:
    return make_reference(count(packed), PROBABILITY)


def counted(packed: PackedFolds, name: str) -> dict[int, int]:
    counts = count(packed)[name]
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def test_a_batch_is_counted_by_hand() -> None:
    first = payment(10.5, cents=-250, category=0, channel=3, words=(4,))
    second = payment(3.25, cents=30, category=2, channel=3)
    packed = pack([fold_row("a", {"m": [first, second], "n": [second]}, names={"m": (5,)}), fold_row("b", {})])
    assert counted(packed, "payments") == {0: 1, 3: 1}
    assert counted(packed, "merchants") == {0: 1, 2: 1}
    assert counted(packed, "history_days") == {0: 1, 11: 1}
    assert counted(packed, "age_days") == {3: 2, 10: 1}
    assert counted(packed, "category") == {0: 1, 2: 2}
    assert counted(packed, "channel") == {3: 3}
    assert counted(packed, "refund") == {0: 2, 1: 1}
    assert counted(packed, "no_description") == {0: 1, 1: 2}
    assert counted(packed, "no_merchant_name") == {0: 1, 1: 1}
    times = [datetime.fromtimestamp(second, UTC) for second in packed.paid_at]
    for name, values in (("hour", [t.hour for t in times]), ("weekday", [t.weekday() for t in times])):
        assert counted(packed, name) == {value: values.count(value) for value in sorted(set(values))}


def test_counts_of_parts_add_up_to_those_of_the_whole() -> None:
    parts = [folds(40, seed) for seed in range(3)]
    found, whole = add(map(count, parts)), count(PackedFolds.concat(parts))
    assert set(found) == set(whole) == {*NUMBERS, *CODES}
    for name in whole:
        np.testing.assert_array_equal(found[name], whole[name])


def test_bins_hold_about_equal_shares_of_the_very_values() -> None:
    packed = folds()
    reference = reference_of(packed)
    user = np.repeat(np.repeat(np.arange(len(packed)), packed.merchant_count), packed.merchant_len)
    for name, values in (
        ("amount_cents", np.abs(packed.amount_cents)),
        ("payments", np.bincount(user, minlength=len(packed))),
        ("age_days", (packed.as_of[user] - packed.paid_at) // 86_400),
    ):
        bins = reference.numbers[name]
        # Counted over fine bins, the shares are still exactly those of the values themselves.
        np.testing.assert_allclose(bins.shares, bins.shares_of(values))
        assert sum(bins.shares) == pytest.approx(1)
        assert len(bins.shares) == len(bins.edges) + 1 >= 8
        assert max(bins.shares) < 0.2
        assert bins.count == len(values)


def test_scores_are_cut_at_their_tenths() -> None:
    score = reference_of(folds()).score
    np.testing.assert_allclose(score.edges, np.quantile(PROBABILITY, np.arange(1, 10) / 10))
    np.testing.assert_allclose(score.shares, 0.1)


def test_equal_scores_make_one_bin_not_ten() -> None:
    reference = make_reference(count(folds()), np.full(50, 0.04))
    assert reference.score.shares_of(np.full(9, 0.04)).tolist() == list(reference.score.shares)
    assert psi(np.array(reference.score.shares), reference.score.shares_of(np.full(9, 0.5))) == 0


def test_null_has_its_own_share_and_rare_codes_share_one() -> None:
    packed = folds()
    category = np.where(np.arange(packed.payments) % 4 == 0, 0, 1 + np.arange(packed.payments) % 40)
    codes = reference_of(replace(packed, category=category)).codes["category"]
    assert codes.values[0] == 0
    assert codes.shares[0] == pytest.approx(0.25, abs=0.001)
    assert len(codes.shares) == len(codes.values) + 1 == 25
    assert codes.shares[-1] > 0.1  # the others
    without_null = reference_of(replace(packed, category=np.ones_like(packed.category))).codes["category"]
    assert (without_null.values, without_null.shares) == ((0, 1), (0.0, 1.0, 0.0))


def test_what_did_not_move_has_no_drift() -> None:
    packed = folds()
    found = drift(reference_of(packed), count(packed))
    assert set(found) == {*NUMBERS, *CODES}
    assert all(moved.psi == pytest.approx(0, abs=1e-12) and moved.chance > 0 for moved in found.values())


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("amount_cents", lambda packed: {"amount_cents": 3 * packed.amount_cents}),
        ("category", lambda packed: {"category": np.where(packed.category < 8, 0, packed.category)}),
        # A code that training never saw.
        ("channel", lambda packed: {"channel": np.where(packed.channel < 4, 60, packed.channel)}),
        ("refund", lambda packed: {"amount_cents": -packed.amount_cents}),
    ],
)
def test_only_what_moved_drifts(name: str, change) -> None:  # type: ignore[no-untyped-def]
    packed = folds()
    found = drift(reference_of(packed), count(replace(packed, **change(packed))))
    assert found.pop(name).psi > 0.25
    assert max(moved.psi for moved in found.values()) < 0.01


def test_other_users_of_the_same_kind_hardly_drift() -> None:
    found = drift(reference_of(folds(400, seed=1)), count(folds(400, seed=2)))
    assert max(moved.psi for moved in found.values()) < 0.1


def test_a_night_without_payments_is_measured_on_its_users_alone() -> None:
    none = pack([fold_row(f"u{number}", {}) for number in range(20)])
    found = drift(reference_of(folds()), count(none))
    assert set(found) == {"payments", "merchants", "history_days"}
    assert found["payments"].psi > 0.25


def test_psi_is_its_definition() -> None:
    found = psi(np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2]))
    assert found == pytest.approx(-0.1 * np.log(0.8) + 0.1 * np.log(4 / 3))
    emptied = psi(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    expected = 0.5 * np.log(2) + (LEAST_SHARE - 0.5) * np.log(LEAST_SHARE / 0.5)
    assert emptied == pytest.approx(expected)


def test_chance_alone_stays_below_its_limit_19_times_of_20() -> None:
    rng = np.random.default_rng(0)
    shares = np.full(10, 0.1)
    draws = rng.multinomial([[500, 800]] * 1_000, shares) / np.array([500, 800])[:, None]
    found = [psi(reference, observed) for reference, observed in draws]
    assert np.mean(np.array(found) < psi_by_chance(10, 500, 800)) == pytest.approx(0.95, abs=0.02)


def test_a_saved_reference_is_read_again(tmp_path: Path) -> None:
    reference = reference_of(folds())
    reference.save(tmp_path)
    assert Reference.load(tmp_path) == reference


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_a_model_without_a_reference_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "reference.json").write_text(content)
    with pytest.raises(InputError, match=r"no readable reference.json, train the model again") as caught:
        Reference.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_split_without_payments_is_refused() -> None:
    with pytest.raises(InputError, match="the training split has no payments"):
        reference_of(pack([fold_row("a", {})]))
