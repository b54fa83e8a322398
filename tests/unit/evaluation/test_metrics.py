from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbsf.evaluation.metrics import Floats, calibration_measures, evaluate, fit_calibration

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


def calibrated(users: int = 40_000) -> tuple[Floats, Floats]:
    """Labels drawn with the very probabilities that are said of them."""
    rng = np.random.default_rng(1)
    probability = 1 / (1 + np.exp(-(rng.normal(size=users) - 2)))
    return (rng.random(users) < probability).astype(float), probability


def test_probabilities_that_are_true_measure_as_calibrated() -> None:
    found = calibration_measures(*calibrated())
    assert found["level"] == pytest.approx(1, abs=0.03)
    assert found["intercept"] == pytest.approx(0, abs=0.04)
    assert found["slope"] == pytest.approx(1, abs=0.04)
    assert found["ece"] < 0.005
    assert found["hosmer_lemeshow_p"] > 0.01


def test_each_measure_finds_its_own_fault() -> None:
    label, probability = calibrated()
    odds = np.log(probability / (1 - probability))
    shifted = calibration_measures(label, 1 / (1 + np.exp(-(odds + 0.7))))
    assert shifted["intercept"] == pytest.approx(-0.7, abs=0.04)
    assert shifted["slope"] == pytest.approx(1, abs=0.04)
    extreme = calibration_measures(label, 1 / (1 + np.exp(-2 * odds)))
    assert extreme["slope"] == pytest.approx(0.5, abs=0.02)
    for found in (shifted, extreme):
        assert found["ece"] > 0.02
        assert found["hosmer_lemeshow_p"] < 1e-6


def test_tenths_equal_their_definition_and_keep_equal_probabilities_together() -> None:
    label = np.array([0, 1, 0, 1, 1, 0], float)
    probability = np.array([0.1, 0.1, 0.1, 0.6, 0.6, 0.6])
    found = calibration_measures(label, probability)
    # Two groups: 1 default of 3 where 0.3 were expected, 2 of 3 where 1.8 were.
    assert found["ece"] == pytest.approx((0.7 + 0.2) / 6)
    assert found["hosmer_lemeshow"] == pytest.approx(0.7**2 / (3 * 0.1 * 0.9) + 0.2**2 / (3 * 0.6 * 0.4))


def test_probabilities_of_0_and_1_have_measures_too() -> None:
    found = calibration_measures(np.array([0.0, 0, 1, 1]), np.array([0.0, 0.5, 0.5, 1.0]))
    assert all(np.isfinite(value) for value in found.values())
