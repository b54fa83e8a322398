"""The deletion tests: what they take out, and that a known cause is found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fold_rows import fold_row, pack, payment, random_rows, small_model

from benchmarks.reasons.deletion import MOST, WAYS, deletion, integrated_gradients, most_payments
from lbsf.models.batch import FoldBatch


def test_the_strongest_merchants_are_taken_out_together() -> None:
    model, card = small_model()
    visits = {
        name: [payment(day, 100 * day) for day in days]
        for name, days in {"a": (3, 9), "b": (5,), "c": (7, 8, 9)}.items()
    }
    packed = pack([*random_rows(3, seed=1), fold_row("u", visits)])
    found = deletion(model, card, packed, most_payments(model, packed))[-1]
    # c was paid three times, a twice, b once.
    left = [visits, {k: visits[k] for k in "ab"}, {"b": visits["b"]}, {}]
    with torch.inference_mode():
        logits = card.slope * model(FoldBatch.from_packed(pack([fold_row("u", one) for one in left]))).double().numpy()
    assert found.shape == (MOST,)
    assert found == pytest.approx(logits[0] - logits[1:], abs=1e-4)


def test_every_way_gives_each_merchant_a_strength() -> None:
    model, _ = small_model()
    packed = pack(random_rows(8, seed=2))
    for way in WAYS.values():
        strength = way(model, packed)
        assert strength.shape == packed.merchant_len.shape and np.isfinite(strength).all()


def test_integrated_gradients_sum_to_the_distance_from_mean_merchants() -> None:
    model, _ = small_model()
    packed = pack(random_rows(6, seed=3))
    batch = FoldBatch.from_packed(packed)
    with torch.inference_mode():
        vectors = model.merchant_vectors(batch)
        mean = model.logits_of(vectors.mean(0).expand_as(vectors), batch.merchant_count)
        distance = (model(batch) - mean).numpy()
    user = np.repeat(np.arange(6), packed.merchant_count)
    total = np.bincount(user, integrated_gradients(model, packed), minlength=6)
    assert total == pytest.approx(distance, abs=0.05)
