"""DeLong's covariance against its definition, pair by pair, and against the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from lbsf.evaluation.delong import Floats, auc_covariance, auc_difference, auc_interval, aucs

# Few distinct scores, so that ties are frequent within and between classes.
SCORED = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=40).filter(
    lambda rows: 2 <= sum(row[0] for row in rows) <= len(rows) - 2
)


def by_definition(label: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """DeLong et al. 1988, equations 3 to 6: every defaulter against every other user."""
    aucs, above, below = [], [], []
    for score in scores:
        ones, zeros = score[label == 1], score[label == 0]
        wins = (ones[:, None] > zeros) + 0.5 * (ones[:, None] == zeros)
        aucs.append(wins.mean())
        above.append(wins.mean(axis=1))
        below.append(wins.mean(axis=0))
    return np.array(aucs), np.cov(above) / len(ones) + np.cov(below) / len(zeros)


def two_models(users: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """Labels, and two correlated scores of which the first is better."""
    rng = np.random.default_rng(seed)
    label = (rng.random(users) < 0.2).astype(float)
    common = rng.normal(size=users) + label
    return label, common + 0.5 * rng.normal(size=users), common + rng.normal(size=users)


@given(SCORED)
@settings(deadline=None, max_examples=100)
def test_the_covariance_equals_its_definition(rows: list[tuple[int, int, int]]) -> None:
    label = np.array([row[0] for row in rows], float)
    scores = np.array([[row[1] for row in rows], [row[2] for row in rows]], float)
    found, expected = auc_covariance(label, scores), by_definition(label, scores)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-12)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-12)
    for several in (found[0], aucs(label, scores)):
        np.testing.assert_allclose(several, [roc_auc_score(label, score) for score in scores])


def test_the_error_of_a_difference_is_the_bootstraps() -> None:
    label, better, worse = two_models(600, seed=1)
    rng = np.random.default_rng(2)
    samples = [rng.integers(0, len(label), len(label)) for _ in range(1_500)]
    gains = [-np.diff(aucs(label[i], np.stack([better, worse])[:, i]))[0] for i in samples]
    found = auc_difference(label, better, worse)
    assert found.gain == pytest.approx(roc_auc_score(label, better) - roc_auc_score(label, worse))
    assert found.error == pytest.approx(np.std(gains), rel=0.1)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(gains, [2.5, 97.5])), abs=0.01)
    assert (found.p < 0.05) == (found.low > 0)


def test_a_pair_without_a_difference_is_rejected_one_time_in_twenty() -> None:
    rejected = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        label = (np.arange(150) < 40).astype(float)
        common = label + rng.normal(size=150)
        models = common + rng.normal(size=(2, 150))
        rejected.append(auc_difference(label, models[0], models[1]).p < 0.05)
    assert 0.02 < np.mean(rejected) < 0.09


def test_models_that_rank_alike_do_not_differ() -> None:
    label, score, _ = two_models(100, seed=3)
    assert auc_difference(label, score, np.exp(score)) == (0.0, 0.0, 0.0, 0.0, 1.0)


def test_limits_stay_within_0_and_1_and_hold_the_auc() -> None:
    label = np.array([0] * 20 + [1] * 4, float)
    score = np.array([*range(20), 15.5, 21, 22, 23], float)
    limits = auc_interval(label, score)
    assert limits is not None
    assert 0 < limits[0] < roc_auc_score(label, score) < limits[1] < 1


@pytest.mark.parametrize(
    ("case", "label", "score"),
    [
        ("classes apart", [0, 0, 1, 1], [1, 2, 3, 4]),
        ("one defaulter", [0, 0, 0, 1], [1, 2, 3, 2]),
        ("no defaulter", [0, 0, 0, 0], [1, 2, 3, 2]),
    ],
)
def test_no_limits_where_they_are_not_defined(case: str, label: list[float], score: list[float]) -> None:
    assert auc_interval(np.array(label, float), np.array(score, float)) is None, case


def test_one_defaulter_cannot_be_tested() -> None:
    with pytest.raises(ValueError, match="1 users in default and 3 others"):
        auc_difference(np.array([1.0, 0, 0, 0]), np.arange(4.0), np.arange(4.0))
