from __future__ import annotations

import numpy as np
import pytest

from lbsf.config import load_config
from lbsf.config.models import PromotionConfig
from lbsf.errors import InputError
from lbsf.tracking.gate import Floats, compare


@pytest.fixture
def limits() -> PromotionConfig:
    return load_config("conf/local.yaml", ["promotion.bootstrap_samples=200"]).promotion


def scored(strength: float, seed: int, users: int = 3_000) -> tuple[Floats, Floats]:
    """Labels of 5 % defaults and calibrated-level probabilities of some discrimination."""
    label = (np.random.default_rng(0).random(users) < 0.05).astype(float)
    noise = np.random.default_rng(seed).normal(size=users)
    odds = np.exp(strength * label + noise)
    return label, odds / odds.mean() * label.mean()


def test_a_good_first_model_passes(limits: PromotionConfig) -> None:
    label, challenger = scored(2.0, seed=1)
    verdict = compare(label, challenger, None, limits, seed=0)
    assert verdict.passed
    assert verdict.metrics["auc_low"] < verdict.metrics["auc"] < verdict.metrics["auc_high"]
    assert "auc_gain" not in verdict.metrics


@pytest.mark.parametrize(
    ("case", "strength", "scale", "champion_strength", "broken"),
    [
        ("a model that guesses", 0.0, 1.0, None, "AUC 0."),
        ("probabilities at twice the rate", 2.0, 2.0, None, "mean probability"),
        ("worse than the champion", 1.0, 1.0, 3.0, "AUC against the champion"),
    ],
)
def test_each_rule_refuses(
    limits: PromotionConfig, case: str, strength: float, scale: float, champion_strength: float | None, broken: str
) -> None:
    label, challenger = scored(strength, seed=1)
    champion = None if champion_strength is None else scored(champion_strength, seed=2)[1]
    verdict = compare(label, challenger * scale, champion, limits, seed=0)
    assert not verdict.passed, case
    assert [reason for reason in verdict.reasons if reason.startswith("BROKEN") and broken in reason], case


def test_an_equal_challenger_passes_and_the_verdict_repeats(limits: PromotionConfig) -> None:
    label, model = scored(2.0, seed=1)
    first = compare(label, model, model, limits, seed=3)
    assert first.passed
    assert first.metrics["auc_gain"] == 0
    assert first == compare(label, model, model, limits, seed=3)


def test_one_class_cannot_be_judged(limits: PromotionConfig) -> None:
    with pytest.raises(InputError, match="the 4 held-out labels are of one class only"):
        compare(np.zeros(4), np.full(4, 0.1), None, limits, seed=0)
