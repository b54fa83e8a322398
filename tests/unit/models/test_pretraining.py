"""Pretraining objectives: they see the past alone, learn, and cut folds as a fold would be cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fold_rows import FOLD, MODEL, Row, fold_row, pack, payment, random_rows

from lbsf.folds.views import last_days
from lbsf.models.batch import FoldBatch, keep_payments
from lbsf.models.fields import DAY
from lbsf.models.lbsf import LBSF
from lbsf.models.pretraining import AHEAD_DAYS, ENDS_BEFORE, OBJECTIVES, Pretraining


def objective(name: str, seed: int = 1) -> Pretraining:
    torch.manual_seed(seed)
    return OBJECTIVES[name](LBSF(MODEL, FOLD), FOLD)


def taught(rows: list[Row]) -> FoldBatch:
    """A batch with a teacher, who knows the risk by the user's place alone."""
    return replace(FoldBatch.from_packed(pack(rows)), teacher=torch.arange(len(rows)) / (2.0 * len(rows)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_falls_when_the_network_is_trained(name: str) -> None:
    pretraining = objective(name)
    batch = taught(random_rows(40, seed=1))
    optimizer = torch.optim.Adam(pretraining.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        torch.manual_seed(2)
        loss = pretraining(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("name", OBJECTIVES)
def test_folds_without_payments_have_a_finite_loss(name: str) -> None:
    pretraining = objective(name)
    rows = [fold_row("a", {}), fold_row("b", {})]
    for batch in (rows, [*rows, fold_row("old", {"m": [payment(179)]}), fold_row("new", {"m": [payment(0.5)]})]):
        pretraining.zero_grad()
        loss = pretraining(taught(batch))
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(w.grad).all() for w in pretraining.parameters() if w.grad is not None)


def test_the_network_is_shown_nothing_of_the_days_ahead() -> None:
    """Payments that are newer than any drawn `now` change what is told, never what it is told from."""
    pretraining = objective("visits").eval()
    newest = (AHEAD_DAYS - 1) * 1.0
    rows = random_rows(12, seed=3)
    changed = []
    for row in rows:
        recent = [days < newest for days in _ages(row)]
        changed.append(
            {**row, "amount_cents": [9 if r else c for r, c in zip(recent, row["amount_cents"], strict=True)]}
        )
    assert changed != rows
    losses = []
    for some in (rows, changed):
        torch.manual_seed(4)
        losses.append(float(pretraining(FoldBatch.from_packed(pack(some)))))
    # Amounts are no target: only their leaking into the network could move the loss.
    assert losses[0] == losses[1]
    assert FOLD.window_days > AHEAD_DAYS + ENDS_BEFORE


def test_what_is_kept_is_the_fold_of_the_days_that_are_kept() -> None:
    packed = pack(random_rows(20, seed=5))
    batch = FoldBatch.from_packed(packed)
    as_of = np.repeat(np.repeat(packed.as_of, packed.merchant_count), packed.merchant_len)
    keep = torch.from_numpy(packed.paid_at >= as_of - 40 * DAY)
    found, expected = keep_payments(batch, keep), FoldBatch.from_packed(last_days(packed, 40))
    assert set(found.tensors) == set(expected.tensors)
    for name, tensor in found.tensors.items():
        assert torch.equal(tensor, expected.tensors[name]), name


def _ages(row: dict[str, object]) -> list[float]:
    packed = pack([row])
    return [float(age) for age in (packed.as_of[0] - packed.paid_at) / DAY]
