"""Reasons against really removing the merchant, and scores that owe nothing to the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fold_rows import THIN, fold_row, pack, payment, random_rows, small_model

from lbsf.errors import InputError
from lbsf.models.batch import FoldBatch
from lbsf.scoring import BatchScores, explain, score_batch

SAME = {"abs": 2e-4}  # half the last kept decimal on either side, and float32's noise


def by_user(scores: BatchScores) -> list[list[tuple[int, float]]]:
    """Per user its reasons: position of the merchant in the batch, contribution."""
    reasons = list(zip(scores.reason_merchant.tolist(), scores.contribution.tolist(), strict=True))
    ends = np.cumsum(scores.reason_count)
    return [reasons[end - count : end] for end, count in zip(ends, scores.reason_count, strict=True)]


def without(row: dict[str, Any], merchant: int) -> dict[str, Any]:
    """The row of the same user, had that merchant never been paid."""
    place = words = 0
    merchants, names = {}, {}
    for number, merchant_id in enumerate(row["merchant_id"]):
        visits = []
        for _ in range(row["merchant_len"][number]):
            before = sum(row["description_token_len"][:place])
            described = row["description_token"][before : before + row["description_token_len"][place]]
            days = (pack([row]).as_of[0] - row["paid_at"][place]) / 86_400
            fields = (row["amount_cents"][place], row["category"][place], row["channel"][place], tuple(described))
            visits.append(payment(days, *fields))
            place += 1
        count = row["merchant_token_len"][number]
        if number != merchant:
            merchants[merchant_id] = visits
            names[merchant_id] = tuple(row["merchant_token"][words : words + count])
        words += count
    return fold_row(row["user_id"], merchants, names=names)


def test_contributions_equal_rescoring_without_the_merchant() -> None:
    model, card = small_model()
    rows = random_rows(14, seed=1)
    everything = by_user(score_batch(model, card, pack(rows), reasons=1000))
    first = 0
    for row, reasons in zip(rows, everything, strict=True):
        count = row["merchants_kept"]
        shorter = [row, *(without(row, merchant) for merchant in range(count))]
        with torch.inference_mode():
            logits = card.slope * model(FoldBatch.from_packed(pack(shorter))).double()
        found = {merchant - first: contribution for merchant, contribution in reasons}
        for merchant in range(count):
            assert found.get(merchant, 0.0) == pytest.approx(float(logits[0] - logits[merchant + 1]), **SAME)
        first += count
    assert first > 30


def test_the_strongest_reasons_come_first_and_no_more_than_asked() -> None:
    model, card = small_model()
    packed = pack(random_rows(20, seed=2))
    everything = by_user(score_batch(model, card, packed, reasons=1000))
    strongest = by_user(score_batch(model, card, packed, reasons=3))
    for all_reasons, top in zip(everything, strongest, strict=True):
        assert top == all_reasons[:3]
        sizes = [abs(contribution) for _, contribution in all_reasons]
        assert sizes == sorted(sizes, reverse=True)
    assert any(contribution > 0 for reasons in strongest for _, contribution in reasons)
    assert any(contribution < 0 for reasons in strongest for _, contribution in reasons)


def test_equal_contributions_stand_in_order_of_merchant_id() -> None:
    model, card = small_model()
    visits = [payment(5), payment(40)]
    row = fold_row("u", {"c": visits, "a": visits, "b": visits})
    (reasons,) = by_user(score_batch(model, card, pack([row]), reasons=3))
    assert [merchant for merchant, _ in reasons] == [0, 1, 2]
    assert len({contribution for _, contribution in reasons}) == 1


def test_a_merchant_that_moves_nothing_is_no_reason() -> None:
    model, card = small_model()
    flat = card.model_copy(update={"slope": 0.0})
    assert score_batch(model, flat, pack(random_rows(5, seed=3)), reasons=3).reason_count.tolist() == [0] * 5


@pytest.mark.parametrize("at_once", [1, 40, 10**6])
def test_scores_do_not_depend_on_the_chunks_or_batch_mates(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, card = small_model()
    packed = pack(random_rows(25, seed=4, most_merchants=30))
    together = score_batch(model, card, packed, reasons=3)
    monkeypatch.setattr(explain, "VECTORS_AT_ONCE", at_once)
    first = 0
    for user, reasons in enumerate(by_user(together)):
        alone = score_batch(model, card, packed.take(np.array([user])), reasons=3)
        assert alone.probability[0] == pytest.approx(together.probability[user], abs=1.5e-6)
        assert [(merchant + first) for merchant in alone.reason_merchant] == [merchant for merchant, _ in reasons]
        assert alone.contribution == pytest.approx([contribution for _, contribution in reasons], **SAME)
        first += packed.merchant_count[user]


def test_probabilities_are_calibrated_by_the_card() -> None:
    model, card = small_model()
    packed = pack(random_rows(9, seed=5))
    with torch.inference_mode():
        expected = 1 / (
            1 + np.exp(-(card.slope * model(FoldBatch.from_packed(packed)).double().numpy() + card.intercept))
        )
    expected[packed.merchant_count == 0] = THIN.probability
    assert score_batch(model.train(), card, packed, reasons=1).probability == pytest.approx(expected, abs=1.5e-6)


def test_users_without_payments_and_no_users_at_all() -> None:
    model, card = small_model()
    empty = score_batch(model, card, pack([fold_row("a", {}), fold_row("b", {})]), reasons=3)
    assert empty.reason_count.tolist() == [0, 0] and empty.probability.tolist() == [THIN.probability] * 2
    none = score_batch(model, card, pack(random_rows(2, seed=6)).take(np.array([], np.int64)), reasons=3)
    assert len(none.probability) == len(none.reason_count) == len(none.reason_merchant) == 0


def test_a_score_that_is_no_number_is_never_handed_on() -> None:
    model, card = small_model()
    with torch.no_grad():
        model.user.fill_(float("nan"))
    with pytest.raises(InputError, match="no number to 2 of 2 users"):
        score_batch(model, card, pack(random_rows(2, seed=7)), reasons=3)


def test_a_thin_file_has_the_cards_probability_and_no_reasons() -> None:
    model, card = small_model()
    rows = random_rows(30, seed=8)
    limits = THIN.model_copy(update={"payments": 10, "merchants": 3, "probability": 0.123})
    full = score_batch(model, card, pack(rows), reasons=2)
    scores = score_batch(model, card.model_copy(update={"thin_file": limits}), pack(rows), reasons=2)
    thin = [row["payments_kept"] < 10 or row["merchants_kept"] < 3 for row in rows]
    assert scores.thin_file.tolist() == thin and 3 < sum(thin) < 27
    assert set(scores.probability[thin]) == {0.123}
    assert scores.reason_count[thin].tolist() == [0] * sum(thin)
    others = ~np.array(thin)
    assert scores.probability[others].tolist() == full.probability[others].tolist()
    assert scores.reason_count[others].tolist() == full.reason_count[others].tolist()


def test_a_card_that_says_nothing_of_thin_files_scores_nobody() -> None:
    model, card = small_model()
    with pytest.raises(InputError, match="train the model again"):
        score_batch(model, card.model_copy(update={"thin_file": None}), pack(random_rows(2, seed=7)), reasons=3)


def test_new_payments_are_weighed_by_scoring_without_them() -> None:
    model, card = small_model()
    rows = random_rows(20, seed=9)
    since = int(pack(rows).as_of[0]) - 30 * 86_400
    scores = score_batch(model, card, pack(rows), reasons=1, since=since)
    assert scores.new_payments is not None and scores.by_new_payments is not None
    for user, row in enumerate(rows):
        new = [number for number, paid_at in enumerate(row["paid_at"]) if paid_at >= since]
        assert scores.new_payments[user] == len(new)
        both = pack([row, without_payments(row, since)])
        with torch.inference_mode():
            logits = card.slope * model(FoldBatch.from_packed(both)).double()
        assert scores.by_new_payments[user] == pytest.approx(float(logits[0] - logits[1]), **SAME)
    assert 5 < np.count_nonzero(scores.by_new_payments) < 20


def without_payments(row: dict[str, Any], since: int) -> dict[str, Any]:
    """The row of the same user a while earlier, with today's as_of."""
    merchants: dict[str, list[Any]] = {}
    names, place, words = {}, 0, 0
    for number, merchant_id in enumerate(row["merchant_id"]):
        for _ in range(row["merchant_len"][number]):
            before = sum(row["description_token_len"][:place])
            described = row["description_token"][before : before + row["description_token_len"][place]]
            days = (pack([row]).as_of[0] - row["paid_at"][place]) / 86_400
            if row["paid_at"][place] < since:
                fields = (row["amount_cents"][place], row["category"][place], row["channel"][place], tuple(described))
                merchants.setdefault(merchant_id, []).append(payment(days, *fields))
            place += 1
        count = row["merchant_token_len"][number]
        names[merchant_id] = tuple(row["merchant_token"][words : words + count])
        words += count
    return fold_row(row["user_id"], merchants, names=names)


def test_candidates_have_their_exact_contributions_and_others_none() -> None:
    model, _ = small_model()
    packed = pack(random_rows(20, seed=10, most_merchants=20))
    with torch.inference_mode():
        batch = FoldBatch.from_packed(packed)
        vectors = model.merchant_vectors(batch)
        logits, exact = explain.leave_one_out(model, vectors, batch.merchant_count)
        same, found = explain.leave_one_out(model, vectors, batch.merchant_count, candidates=3)
    assert torch.equal(logits, same)
    chosen = found != 0
    user = np.repeat(np.arange(20), packed.merchant_count)
    assert np.bincount(user[chosen.numpy()], minlength=20).tolist() == np.minimum(packed.merchant_count, 3).tolist()
    assert found[chosen].tolist() == pytest.approx(exact[chosen].tolist(), abs=1e-4)
