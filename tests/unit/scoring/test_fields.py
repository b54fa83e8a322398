"""Which field moved a score: against scoring rows in which that field was really changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fold_rows import FOLD, fold_row, pack, payment, random_rows, small_model

from lbsf.models.batch import FoldBatch
from lbsf.scoring import score_batch
from lbsf.scoring.fields import NO_FIELD, logits_without_fields, strongest_field, usual_cents

DAY = 86_400


def test_one_field_of_one_merchant_is_changed_at_a_time() -> None:
    model, card = small_model()
    visits = [payment(3.25, 1_000, 2, 1, (5,)), payment(20.0, -4_000, 3, 2), payment(90.5, 9_000)]
    other = [payment(7, 2_500), payment(70, 2_500)]
    names = {"a": (3,), "b": (4, 5)}
    user = fold_row("u", {"a": visits, "b": other}, names=names)
    packed = pack([*random_rows(4, seed=1), user])
    merchant = len(packed.merchant_len) - 2
    with torch.inference_mode():
        vectors = model.merchant_vectors(FoldBatch.from_packed(packed))
        found = logits_without_fields(model, packed, vectors, np.array([merchant, merchant + 1]), FOLD.window_days)

    # By hand: the usual amount is 2,500 cents; 180 days, three payments: on days 30, 90 and 150 of the window, at noon.
    amounts = [payment(3.25, 2_500, 2, 1, (5,)), payment(20.0, -2_500, 3, 2), payment(90.5, 2_500)]
    times = [payment(29.5, 1_000, 2, 1, (5,)), payment(89.5, -4_000, 3, 2), payment(149.5, 9_000)]
    kinds = [payment(3.25, 1_000, 0, 0), payment(20.0, -4_000, 0, 0), payment(90.5, 9_000, 0, 0)]
    rows = [
        fold_row("u", {"a": amounts, "b": other}, names=names),
        fold_row("u", {"a": times, "b": other}, names=names),
        fold_row("u", {"a": kinds, "b": other}, names={"a": (), "b": (4, 5)}),
    ]
    with torch.inference_mode():
        expected = model(FoldBatch.from_packed(pack(rows)))
    assert found[0].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    assert len(set(found[0].tolist())) == 3 and found.shape == (2, 3)


def test_the_field_that_did_most_in_the_merchants_direction_is_named() -> None:
    moved = np.array([[0.5, 0.2, -0.9], [0.5, 0.2, -0.9], [-0.1, -0.2, 0.0], [0.3, 0.3, 0.1]])
    contribution = np.array([1.0, -1.0, 0.4, 0.2])
    assert strongest_field(moved, contribution).tolist() == [0, 2, NO_FIELD, 0]
    assert strongest_field(np.zeros((0, 3)), np.zeros(0)).tolist() == []


def test_the_usual_amount_is_the_median_of_a_users_absolute_amounts() -> None:
    rows = random_rows(12, seed=2)
    expected = [
        int(np.sort(np.abs(row["amount_cents"]))[len(row["amount_cents"]) // 2]) if row["paid_at"] else 0
        for row in rows
    ]
    assert usual_cents(pack(rows)).tolist() == expected


def test_a_reasons_field_is_found_whoever_shares_the_batch() -> None:
    model, card = small_model()
    packed = pack(random_rows(20, seed=3))
    together = score_batch(model, card, packed, reasons=3)
    alone = [score_batch(model, card, packed.take(np.array([user])), reasons=3) for user in range(20)]
    assert np.concatenate([one.reason_field for one in alone]).tolist() == together.reason_field.tolist()
    assert len(set(together.reason_field.tolist())) > 1
