"""What the network promises: order of merchants, empty folds, independence of batch mates, finite gradients."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from fold_rows import FOLD, MODEL, fold_row, pack, payment, random_rows, small_model
from torch import Tensor, nn
from torch.nn import functional as F

from lbsf.folds.packed import PackedFolds, gather_segments
from lbsf.models.batch import FoldBatch
from lbsf.models.fields import TokenBag, day_of_month
from lbsf.models.lbsf import LBSF, MERCHANTS_SCALE
from lbsf.models.merchants import MEMORIES, Recurrent, WithinMerchant, merchant_statistics
from lbsf.models.relations import RelationalLayer
from lbsf.models.segments import segment_softmax

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def score(model: LBSF, packed: PackedFolds) -> Tensor:
    with torch.inference_mode():
        return model(FoldBatch.from_packed(packed))


def reorder(packed: PackedFolds, merchants: np.ndarray[Any, Any]) -> PackedFolds:
    """One user's fold with its merchants in another order."""
    payments = gather_segments(packed.merchant_len, merchants)
    return PackedFolds(
        as_of=packed.as_of,
        merchant_count=packed.merchant_count,
        merchant_len=packed.merchant_len[merchants],
        merchant_token_len=packed.merchant_token_len[merchants],
        merchant_token=packed.merchant_token[gather_segments(packed.merchant_token_len, merchants)],
        paid_at=packed.paid_at[payments],
        amount_cents=packed.amount_cents[payments],
        category=packed.category[payments],
        channel=packed.channel[payments],
        description_token_len=packed.description_token_len[payments],
        description_token=packed.description_token[gather_segments(packed.description_token_len, payments)],
    )


def test_the_order_of_merchants_changes_no_score() -> None:
    model, _ = small_model()
    packed = pack(random_rows(12, seed=1)).take(np.array([5]))
    assert packed.merchant_count[0] > 3
    shuffled = reorder(packed, np.random.default_rng(0).permutation(packed.merchant_count[0]))
    assert shuffled.category.tolist() != packed.category.tolist()
    torch.testing.assert_close(score(model, shuffled), score(model, packed), **CLOSE)


def test_scores_differ_from_user_to_user() -> None:
    # Guards the tests here: equal scores of a dead network would pass them all.
    assert score(small_model()[0], pack(random_rows(40, seed=2))).std() > 0.1


def test_a_user_without_payments_has_one_score_alone_and_in_a_batch() -> None:
    model, _ = small_model()
    empty = fold_row("empty", {})
    alone = score(model, pack([empty]))
    assert alone.shape == (1,) and torch.isfinite(alone).all()
    mixed = score(model, pack([*random_rows(5, seed=3), empty, empty]))
    torch.testing.assert_close(mixed[-2:], alone.expand(2), **CLOSE)


def test_a_score_does_not_depend_on_batch_mates() -> None:
    model, _ = small_model()
    packed = pack(random_rows(30, seed=4, most_merchants=25))
    together = score(model, packed)
    alone = torch.cat([score(model, packed.take(np.array([user]))) for user in range(len(packed))])
    torch.testing.assert_close(together, alone, **CLOSE)
    backwards = score(model, packed.take(np.arange(len(packed))[::-1].copy()))
    torch.testing.assert_close(backwards.flip(0), together, **CLOSE)


@pytest.mark.parametrize(("sequence", "head"), [("none", "linear"), ("gru", "hidden"), ("transformer", "linear")])
def test_packed_equals_a_plain_loop_over_users_and_merchants(sequence: str, head: str) -> None:
    model, _ = small_model(model=MODEL.model_copy(update={"sequence": sequence, "head": head}))
    packed = pack(random_rows(10, seed=5))
    batch = FoldBatch.from_packed(packed)
    with torch.inference_mode():
        expected = torch.stack([plain_logit(model, packed.take(np.array([user]))) for user in range(len(packed))])
        torch.testing.assert_close(model(batch), expected, **CLOSE)


def plain_logit(model: LBSF, one: PackedFolds) -> Tensor:
    """One user's logit from the definition, merchant by merchant: no packing, no padding, no masks."""
    merchants = [plain_merchant(model, reorder_one(one, merchant)) for merchant in range(one.merchant_count[0])]
    vectors = [vector for vector, _ in merchants]
    tally = sum((tally for _, tally in merchants), torch.zeros(model.merchants.tallies))
    tokens = torch.stack([model.user.detach(), *vectors])
    for layer in model.relations:
        tokens = plain_layer(layer, tokens)
    mean = tokens[1:].mean(0) if vectors else torch.zeros(model.user.shape)
    seen = [tokens[0], mean, tokens[1:].sum(0) / MERCHANTS_SCALE, torch.log(1 + tally)]
    return model.head(torch.cat(seen)[None])[0, 0]


def plain_layer(layer: RelationalLayer, tokens: Tensor) -> Tensor:
    """(K, width) -> (K, width), attention written out."""
    q, k, v = layer.qkv(layer.norm_attention(tokens)).view(len(tokens), 3, layer.heads, -1).unbind(1)
    weights = torch.softmax(torch.einsum("ihd,jhd->hij", q, k) / q.shape[-1] ** 0.5, dim=-1)
    tokens = tokens + layer.out(torch.einsum("hij,jhd->ihd", weights, v).flatten(1))
    return tokens + layer.forward_part(layer.norm_forward(tokens))


def plain_sequence(sequence: nn.Module, encoded: Tensor) -> Tensor:
    """One merchant's payments related to each other: nothing packed, no other merchant."""
    if not isinstance(sequence, WithinMerchant):
        return encoded
    if isinstance(sequence.layer, Recurrent):
        return encoded + sequence.layer.gru(encoded[None])[0][0]
    assert isinstance(sequence.layer, RelationalLayer)
    return plain_layer(sequence.layer, encoded)


def plain_merchant(model: LBSF, one: PackedFolds) -> tuple[Tensor, Tensor]:
    """One merchant's vector: softmax over its payments, head by head; its name; its statistics. And its tallies."""
    batch = FoldBatch.from_packed(one)
    payments = len(batch.paid_at)
    encoded = model.payments(batch)
    encoder = model.merchants
    encoded = plain_sequence(encoder.sequence, encoded)
    weights = torch.softmax(encoder.score(encoded), dim=0)
    values = encoder.value(encoded).view(payments, encoder.heads, -1)
    pooled = sum(weights[place][:, None] * values[place] for place in range(payments)).flatten()
    words = [encoder.name.spread.weight @ encoder.name.bag.weight[word] for word in batch.merchant_token.tolist()]
    name = torch.stack(words).mean(0) if words else torch.zeros_like(pooled)
    statistics = encoder.statistics(merchant_statistics(batch))[0]
    kinds = [encoder.kinds(payment).clamp(min=0) for payment in encoded]
    ages = [(batch.as_of[0] - paid_at).item() / 86_400 for paid_at in batch.paid_at]
    forgetting = [[1.0 if days is None else math.exp(-age / days) for age in ages] for days in MEMORIES]
    tally = [sum(kind * weight for kind, weight in zip(kinds, weights, strict=True)) for weights in forgetting]
    return encoder.norm(encoder.fuse(torch.cat([pooled, name, statistics]))), torch.cat(tally)


def reorder_one(one: PackedFolds, merchant: int) -> PackedFolds:
    """One user's fold with one of its merchants alone."""
    alone = reorder(one, np.array([merchant]))
    return PackedFolds(**{**vars(alone), "merchant_count": np.array([1])})


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("sequence", ["none", "gru", "transformer"])
def test_gradients_are_finite_with_empty_users(training: bool, sequence: str) -> None:
    model = LBSF(MODEL.model_copy(update={"sequence": sequence}), FOLD).train(training)
    empty = [fold_row("empty", {}), fold_row("empty too", {})]
    rows = [*empty, *random_rows(6, seed=6), fold_row("one", {"m": [payment(0.5)]})]
    for batch in (rows, empty):  # the second holds no payment at all
        model.zero_grad()
        logits = model(FoldBatch.from_packed(pack(batch)))
        F.binary_cross_entropy_with_logits(logits, torch.arange(len(batch)) % 2 * 1.0).backward()
        gradients = [weights.grad for weights in model.parameters() if weights.grad is not None]
        assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
    # On a batch with payments every parameter learns.
    model.zero_grad()
    model(FoldBatch.from_packed(pack(rows))).sum().backward()
    assert [name for name, weights in model.named_parameters() if weights.grad is None] == []


def test_extreme_amounts_and_ages_stay_finite() -> None:
    row = fold_row("u", {"m": [payment(1 / 86_400, 10**15), payment(179.99, -(10**15)), payment(90, 0)]})
    assert torch.isfinite(score(small_model()[0], pack([row]))).all()


def test_dropout_is_off_in_evaluation() -> None:
    model, packed = small_model()[0], pack(random_rows(6, seed=7))
    torch.testing.assert_close(score(model, packed), score(copy.deepcopy(model), packed), rtol=0, atol=0)


def test_a_softmax_stands_within_its_range() -> None:
    scores = torch.tensor([[1000.0], [1000.0], [-1000.0], [3.0]])
    weights = segment_softmax(scores, torch.tensor([0, 0, 0, 2]), 3)
    assert weights.flatten().tolist() == [0.5, 0.5, 0.0, 1.0]


def test_day_of_month_agrees_with_the_calendar() -> None:
    days = np.arange(np.datetime64("1960-01-01"), np.datetime64("2105-01-01"))  # leap centuries and before 1970
    expected = (days - days.astype("datetime64[M]")).astype(int) + 1
    assert day_of_month(torch.from_numpy(days.astype(np.int64))).tolist() == expected.tolist()


def test_words_are_hidden_in_training_alone() -> None:
    torch.manual_seed(3)
    bag = TokenBag(32, 8, 3, hidden=0.5)
    tokens, lengths = torch.randint(1, 32, (2_000,)), torch.full((1_000,), 2)
    whole = bag.eval()(tokens, lengths)
    hidden = bag.train()(tokens, lengths)
    there = (hidden != 0).any(dim=1)
    assert 400 < int(there.sum()) < 600
    assert torch.equal(hidden[there], whole[there])
    assert bool((TokenBag(32, 8, 3, hidden=0.0).train()(tokens, lengths) != 0).any(dim=1).all())
