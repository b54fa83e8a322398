"""What a score is, whoever asks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fold_rows import THIN, pack, random_rows, small_model

from lbsf.errors import InputError
from lbsf.models.batch import FoldBatch
from lbsf.models.predict import decide_scores, predict_scores, scores_of


def test_the_networks_probability_is_rounded_and_a_thin_file_has_the_cards() -> None:
    _, card = small_model()
    payments, merchants = np.array([0, 1, 7]), np.array([0, 1, 2])
    scores = decide_scores(card, np.array([0.9, 0.1234564, 0.1234567]), payments, merchants)
    assert scores.probability.tolist() == [THIN.probability, 0.123456, 0.123457]
    assert scores.thin_file.tolist() == [True, False, False]


def test_batches_are_scored_in_their_order() -> None:
    network, card = small_model()
    rows = random_rows(30, seed=2)
    with torch.inference_mode():
        logits = network(FoldBatch.from_packed(pack(rows)))
    expected = scores_of(card, logits, pack(rows))
    nobody = pack(rows).take(np.zeros(0, np.int64))
    found = predict_scores(network.train(), card, [pack(rows[:7]), nobody, pack(rows[7:])])
    np.testing.assert_allclose(found.probability, expected.probability, atol=1.5e-6)
    assert found.thin_file.tolist() == expected.thin_file.tolist() == [row["payments_kept"] == 0 for row in rows]


def test_nobody_has_no_scores() -> None:
    scores = predict_scores(*small_model(), [])
    assert (scores.probability.dtype, scores.thin_file.dtype) == (np.float64, np.bool_)
    assert len(scores.probability) == len(scores.thin_file) == 0


def test_a_logit_that_is_no_number_is_no_score_even_of_a_thin_file() -> None:
    _, card = small_model()
    packed = pack(random_rows(3, seed=2))
    assert packed.merchant_count[0] == 0
    with pytest.raises(InputError, match="no number to 1 of 3 users"):
        scores_of(card, torch.tensor([float("nan"), 0.0, 1.0]), packed)


def test_a_card_that_says_nothing_of_thin_files_scores_nobody() -> None:
    network, card = small_model()
    with pytest.raises(InputError, match="train the model again"):
        predict_scores(network, card.model_copy(update={"thin_file": None}), [pack(random_rows(2, seed=7))])
