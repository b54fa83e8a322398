from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbsf.training.metrics import evaluate, fit_calibration

SCORED = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 99)), min_size=4, max_size=60).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@given(SCORED)
@settings(deadline=None, max_examples=60)
def test_auc_and_ks_equal_their_definitions(rows: list[tuple[int, int]]) -> None:
    label = np.array([row[0] for row in rows], float)
    probability = np.array([row[1] for row in rows]) / 100
    ones, zeros = probability[label == 1], probability[label == 0]
    pairs = [(one > zero) + 0.5 * (one == zero) for one in ones for zero in zeros]
    distances = [abs(np.mean(ones >= cut) - np.mean(zeros >= cut)) for cut in [*probability, 2.0]]
    found = evaluate(label, probability)
    assert found["auc"] == pytest.approx(np.mean(pairs))
    # KS here is one-sided: defaulters above the others, as a risk score should have them.
    assert found["ks"] <= max(distances) + 1e-12
    one_sided = [np.mean(ones >= cut) - np.mean(zeros >= cut) for cut in [*probability, 2.0]]
    assert found["ks"] == pytest.approx(max(one_sided))
    assert found["brier"] == pytest.approx(np.mean((label - probability) ** 2))
    assert found["calibration"] == pytest.approx(probability.mean() / label.mean())


def test_calibration_finds_the_line_that_made_the_labels() -> None:
    rng = np.random.default_rng(0)
    logit = rng.normal(size=40_000)
    label = (rng.random(40_000) < 1 / (1 + np.exp(-(0.5 * logit - 2)))).astype(float)
    slope, intercept = fit_calibration(label, logit)
    assert slope == pytest.approx(0.5, abs=0.05)
    assert intercept == pytest.approx(-2, abs=0.05)


def test_calibration_never_turns_the_ranking_round() -> None:
    logit = np.linspace(-1, 1, 100)
    label = (logit < 0).astype(float)
    label[:2] = 0
    slope, _ = fit_calibration(label, logit)
    assert slope > 0
