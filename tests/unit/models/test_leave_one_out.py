"""Logits without each merchant against the plain way: mask it, and run the whole network again."""

from __future__ import annotations

import pytest
import torch
from fold_rows import MODEL, fold_row, pack, payment, random_rows, small_model
from torch import Tensor

from lbsf.models.batch import FoldBatch
from lbsf.models.lbsf import LBSF
from lbsf.models.leave_one_out import logits_with_others_as_they_are, logits_without_each
from lbsf.models.segments import pad_segments


def merchants(model: LBSF) -> tuple[Tensor, Tensor]:
    rows = [fold_row("none", {}), fold_row("one", {"m": [payment(3)]}), *random_rows(10, seed=1)]
    batch = FoldBatch.from_packed(pack(rows))
    return pad_segments(model.merchant_vectors(batch), batch.merchant_count, torch.arange(len(batch)))


def masked(model: LBSF, vectors: Tensor, present: Tensor) -> Tensor:
    without = torch.zeros(present.shape)
    for merchant in range(present.shape[1]):
        there = present.clone()
        there[:, merchant] = False
        without[:, merchant] = model.user_logits(vectors, there)
    return without


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_each_merchant_left_out_equals_masking_it(layers: int, sharpness: float) -> None:
    model, _ = small_model(model=MODEL.model_copy(update={"relational_layers": layers}))
    with torch.inference_mode():
        for layer in model.relations:
            # Sharper attention: most of it on one merchant, so that little remains when that one goes.
            layer.qkv.weight.mul_(sharpness)  # type: ignore[union-attr,operator]
        vectors, present = merchants(model)
        expected = masked(model, vectors, present)
        moved = (model.user_logits(vectors, present)[:, None] - expected)[present]
        assert moved.std() > 0.05
        for at_once in (1, 200, 10**6):
            found = logits_without_each(model, vectors, present, at_once)
            torch.testing.assert_close(found[present], expected[present], rtol=1e-3, atol=1e-4)


def test_attention_on_one_merchant_alone_stays_a_number() -> None:
    model, _ = small_model()
    with torch.inference_mode():
        model.relations[0].qkv.weight.mul_(1e3)  # type: ignore[union-attr,operator]
        vectors, present = merchants(model)
        assert torch.isfinite(logits_without_each(model, vectors, present, 1000)).all()


def test_no_merchant_at_all() -> None:
    model, _ = small_model()
    batch = FoldBatch.from_packed(pack([fold_row("a", {}), fold_row("b", {})]))
    with torch.inference_mode():
        vectors, present = pad_segments(model.merchant_vectors(batch), batch.merchant_count, torch.arange(len(batch)))
        assert logits_without_each(model, vectors, present, 100).shape == (2, 0)


def test_with_others_as_they_are_it_is_exact_where_nobody_looks_at_others() -> None:
    model, _ = small_model(model=MODEL.model_copy(update={"relational_layers": 0}))
    packed = pack(random_rows(12, seed=5))
    with torch.inference_mode():
        batch = FoldBatch.from_packed(packed)
        vectors, present = pad_segments(model.merchant_vectors(batch), batch.merchant_count, torch.arange(12))
        logits, guess = logits_with_others_as_they_are(model, vectors, present)
        exact = logits_without_each(model, vectors, present, 10**6)
        assert logits.tolist() == pytest.approx(model(batch).tolist(), abs=1e-5)
    assert guess[present].tolist() == pytest.approx(exact[present].tolist(), abs=1e-5)


def test_only_the_first_merchants_are_left_out() -> None:
    model, _ = small_model()
    batch = FoldBatch.from_packed(pack(random_rows(6, seed=6)))
    with torch.inference_mode():
        vectors, present = pad_segments(model.merchant_vectors(batch), batch.merchant_count, torch.arange(6))
        whole = logits_without_each(model, vectors, present, 10**6)
        assert torch.equal(logits_without_each(model, vectors, present, 10**6, first=2), whole[:, :2])
