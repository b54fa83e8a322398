"""What every backbone promises: batch mates, padding, empty users, order, long users, gradients, repetition."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from fold_rows import FOLD, MODEL, fold_row, pack, payment, random_rows
from torch import Tensor
from torch.nn import functional as F

from lbsf.baselines import sequences
from lbsf.baselines.sequences import BACKBONES, CHUNK, SequenceNetwork
from lbsf.errors import InputError
from lbsf.folds.packed import PackedFolds
from lbsf.folds.views import View
from lbsf.models.batch import FoldBatch
from lbsf.models.lbsf import LBSF

CLOSE = {"rtol": 1e-3, "atol": 1e-4}
backbones = pytest.mark.parametrize("backbone", BACKBONES)


@pytest.fixture(scope="module")
def folds() -> PackedFolds:
    """Users with 0 to some 180 payments: none, a few, and some to either side of one and two chunks."""
    packed = View(unfolded=True).of(pack(random_rows(14, seed=1, most_merchants=60)))
    lengths = packed.merchant_len
    assert packed.merchant_count[0] == 0 and lengths.min() < CHUNK < 2 * CHUNK < lengths.max()
    return packed


def network(backbone: str, seed: int = 0) -> SequenceNetwork:
    """An untrained network whose scores differ from user to user."""
    torch.manual_seed(seed)
    model = SequenceNetwork(backbone, MODEL, FOLD)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.3 * torch.randn_like(weights))
    return model.eval()


def score(model: SequenceNetwork, packed: PackedFolds) -> Tensor:
    with torch.inference_mode():
        return model(FoldBatch.from_packed(packed))


@backbones
def test_a_score_depends_on_no_batch_mate_and_no_padding(backbone: str, folds: PackedFolds) -> None:
    model = network(backbone)
    together = score(model, folds)
    assert together.shape == (len(folds),) and together.std() > 0.02  # a dead network would pass what follows
    alone = torch.cat([score(model, folds.take(np.array([user]))) for user in range(len(folds))])
    torch.testing.assert_close(together, alone, **CLOSE)
    backwards = score(model, folds.take(np.arange(len(folds))[::-1].copy()))
    torch.testing.assert_close(backwards.flip(0), together, **CLOSE)


@backbones
def test_a_user_without_payments_has_one_score_alone_and_in_a_batch(backbone: str, folds: PackedFolds) -> None:
    model = network(backbone)
    alone = score(model, folds.take(np.array([0])))
    assert alone.shape == (1,) and torch.isfinite(alone).all()
    mixed = score(model, folds.take(np.array([3, 0, 5, 0])))
    torch.testing.assert_close(mixed[[1, 3]], alone.expand(2), **CLOSE)


@backbones
def test_every_payment_reaches_the_score(backbone: str, folds: PackedFolds) -> None:
    model = network(backbone)
    user = folds.take(np.array([int(np.argmax(folds.take(np.arange(1, len(folds))).merchant_len)) + 1]))
    before = score(model, user)
    for place in (0, user.payments // 2, user.payments - 1):
        amounts = user.amount_cents.copy()
        amounts[place] = 10**9
        assert (score(model, replace(user, amount_cents=amounts)) - before).abs() > 1e-5


@backbones
def test_only_the_latest_payments_of_a_long_user_are_read(
    backbone: str, folds: PackedFolds, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(backbone)
    # An encoding knows the payment before it and the user's usual amount: of both users' last 39 they are equal.
    few, many = (
        View(unfolded=True).of(pack([fold_row("u", {"m": [payment(d + 1, 700) for d in range(n)]})])) for n in (40, 50)
    )
    monkeypatch.setattr(sequences, "LONGEST", 39)
    cut = score(model, many)
    torch.testing.assert_close(cut, score(model, few), **CLOSE)
    with_mates = score(model, PackedFolds.concat([folds, many]))
    torch.testing.assert_close(with_mates[-1:], cut, **CLOSE)
    monkeypatch.setattr(sequences, "LONGEST", 45)
    assert (score(model, many) - cut).abs() > 1e-6


@backbones
def test_gradients_are_finite_and_every_weight_learns(backbone: str, folds: PackedFolds) -> None:
    model = network(backbone).train()
    empty = folds.take(np.array([0, 0]))
    for packed in (folds, empty):  # the second holds no payment at all
        model.zero_grad()
        logits = model(FoldBatch.from_packed(packed))
        F.binary_cross_entropy_with_logits(logits, torch.arange(len(packed)) % 2 * 1.0).backward()
        gradients = {name: weights.grad for name, weights in model.named_parameters()}
        assert all(torch.isfinite(grad).all() for grad in gradients.values() if grad is not None)
        if packed is folds:
            assert [name for name, grad in gradients.items() if grad is None] == []


@backbones
def test_the_same_seed_trains_the_same_network(backbone: str, folds: PackedFolds) -> None:
    def train(seed: int) -> tuple[list[float], Tensor]:
        torch.manual_seed(seed)
        model = SequenceNetwork(backbone, MODEL, FOLD).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        batch, losses = FoldBatch.from_packed(folds.take(np.arange(0, 14, 2))), []
        for _ in range(3):
            loss = F.binary_cross_entropy_with_logits(model(batch), torch.arange(7) % 2 * 1.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses, torch.rand(1)  # the generator's state afterwards, too

    assert train(1) == train(1)
    assert train(1) != train(2)


@pytest.mark.parametrize("backbone", ["gru", "reformer"])
def test_dropout_differs_from_step_to_step(backbone: str, folds: PackedFolds) -> None:
    model = network(backbone).train()
    batch = FoldBatch.from_packed(folds)
    assert not torch.equal(model(batch), model(batch))


@backbones
def test_an_early_payment_is_seen_where_the_summary_stands(backbone: str) -> None:
    """The vector that stands for the whole sequence, not only the mean over it, knows the first payment."""
    model = network(backbone)
    user = View(unfolded=True).of(pack([fold_row("u", {"m": [payment(d + 1, 100 * d) for d in range(30)]})]))
    seen: list[Tensor] = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0, : MODEL.width]))
    score(model, user)
    categories = user.category.copy()
    categories[0] = 9
    score(model, replace(user, category=categories))
    assert (seen[0] - seen[1]).abs().max() > 1e-7


def test_payments_are_encoded_and_the_head_is_built_as_in_lbsf() -> None:
    lbsf = LBSF(MODEL, FOLD)
    for backbone in BACKBONES:
        model = SequenceNetwork(backbone, MODEL, FOLD)
        mine, theirs = (network.payments.state_dict() for network in (model, lbsf))
        assert {name: tensor.shape for name, tensor in mine.items()} == {
            name: tensor.shape for name, tensor in theirs.items()
        }
        assert [type(layer) for layer in model.head] == [type(layer) for layer in lbsf.head]
        assert len(model.head[-1].weight) == len(lbsf.head[-1].weight) == 1


def test_folded_payments_and_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="reads unfolded payments"):
        score(network("gru"), pack(random_rows(6, seed=2)))
    with pytest.raises(InputError, match="no backbone is called lstm"):
        SequenceNetwork("lstm", MODEL, FOLD)


def test_without_the_library_the_product_runs_and_its_backbones_name_it() -> None:
    code = """
import sys
sys.modules["transformers"] = None
import torch
from lbsf.config import load_config
from lbsf.errors import InputError
from lbsf.training.networks import build_network
config = load_config("conf/local.yaml")
for name in ("lbsf", "gru", "transformer", "fnet"):
    build_network(name, config.model, config.fold)
for name in ("longformer", "reformer", "mamba2"):
    try:
        build_network(name, config.model, config.fold)
    except InputError as error:
        assert "install lbsf[experiment]" in str(error), error
    else:
        raise AssertionError(name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
