from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from lbsf.config import load_config
from lbsf.config.models import PromotionConfig
from lbsf.errors import ConfigurationError, InputError
from lbsf.evaluation.gate import Evidence, Floats, Rule, Verdict, compare
from lbsf.evaluation.reference import Bins
from lbsf.evaluation.segments import Names

USERS = 4_000


@pytest.fixture
def limits() -> PromotionConfig:
    return load_config("conf/local.yaml", ["promotion.bootstrap_samples=100"]).promotion


def world(seed: int = 0) -> tuple[Floats, Floats, Names]:
    """Labels, the log odds that they were drawn with, and three segments of the users."""
    rng = np.random.default_rng(seed)
    odds = 1.5 * rng.normal(size=USERS) - 3
    label = (rng.random(USERS) < 1 / (1 + np.exp(-odds))).astype(float)
    return label, odds, np.repeat(["a", "b", "c"], [1_500, 1_500, 1_000])


def probability(odds: Floats) -> Floats:
    return 1 / (1 + np.exp(-odds))


def blurred(odds: Floats, noise: float, where: slice = slice(None)) -> Floats:
    """A worse model: noise on the log odds, shrunk to their spread so that it stays calibrated."""
    worse = odds.copy()
    part = odds[where]
    added = part + noise * np.random.default_rng(9).normal(size=len(part))
    shrink = np.var(part) / np.var(added)
    worse[where] = part.mean() + shrink * (added - part.mean())
    return probability(worse)


def tenths(of: Floats) -> Bins:
    edges = np.quantile(of, np.arange(1, 10) / 10)
    return Bins(edges=tuple(edges), shares=(0.1,) * 10, count=len(of))


def evidence(**changes: object) -> Evidence:
    """A good challenger that equals its champion; `changes` break it."""
    label, odds, names = world()
    good = Evidence(label, probability(odds), probability(odds), None, {"history": names}, tenths(probability(odds)))
    return replace(good, **changes)  # type: ignore[arg-type]


def rule(verdict: Verdict, name: str) -> Rule:
    return next(rule for rule in verdict.rules if rule.name == name)


def broken(verdict: Verdict) -> list[str]:
    return [rule.name for rule in verdict.rules if not rule.kept]


def test_an_equal_challenger_passes_and_the_verdict_repeats(limits: PromotionConfig) -> None:
    first, again = compare(evidence(), limits, seed=3), compare(evidence(), limits, seed=3)
    assert first.passed
    assert (first.metrics["auc_gain"], first.metrics["delong_p"]) == (0, 1)
    assert (first.rules, first.metrics) == (again.rules, again.metrics)
    assert first.summary == "all 7 rules were kept"


def test_a_good_first_model_passes_without_a_champion(limits: PromotionConfig) -> None:
    verdict = compare(evidence(champion=None), limits, seed=0)
    assert verdict.passed
    assert verdict.metrics["auc_low"] < verdict.metrics["auc"] < verdict.metrics["auc_high"]
    assert "auc_gain" not in verdict.metrics
    assert {rule.name for rule in verdict.rules}.isdisjoint({"champion", "segments"})
    assert "champion_auc" not in verdict.segments


LABEL, ODDS, _ = world()
FEW = np.where(np.cumsum(LABEL) <= 20, LABEL, 0)


@pytest.mark.parametrize(
    ("name", "changes", "settings"),
    [
        ("auc", {}, {"min_auc": 0.9}),
        # Meets the rate, but log odds are three times too far apart.
        ("calibration_slope", {"challenger": probability(3 * ODDS + 2.1)}, {}),
        ("calibration_level", {"challenger": probability(ODDS + 0.9)}, {}),
        ("champion", {"challenger": blurred(ODDS, 1.5)}, {"max_segment_auc_loss": 0.4}),
        ("comparable", {"champion": None, "incomparable": "version 3 reads other folds"}, {}),
        ("enough_defaults", {"label": FEW}, {"max_calibration_error": 0.99, "calibration_slope": (0.001, 99.0)}),
        ("segments", {"challenger": blurred(ODDS, 1.0, slice(3_000, 4_000))}, {"max_auc_loss": 0.4}),
        ("score_stability", {"validation_scores": tenths(probability(ODDS - 1.0))}, {}),
    ],
)
def test_each_rule_alone_refuses(
    limits: PromotionConfig, name: str, changes: dict[str, object], settings: dict[str, object]
) -> None:
    scores = tenths(changes.get("challenger", probability(ODDS)))  # type: ignore[arg-type]
    if name == "enough_defaults":
        # So few defaults among so many users are no use for calibration: every rule but the first is lenient.
        changes = {**changes, "challenger": probability(ODDS) * FEW.mean() / probability(ODDS).mean()}
        scores = tenths(changes["challenger"])  # type: ignore[arg-type]
    verdict = compare(evidence(**{"validation_scores": scores, **changes}), limits.model_copy(update=settings), seed=0)
    assert broken(verdict) == [name], verdict.reasons
    assert verdict.reasons[0] == f"BROKEN: {rule(verdict, name).words}"
    assert verdict.summary == rule(verdict, name).words


def test_a_loss_within_the_allowed_is_a_question_of_confidence(limits: PromotionConfig) -> None:
    _, odds, _ = world()
    worse = evidence(challenger=blurred(odds, 0.5), validation_scores=None)
    verdict = compare(worse, limits, seed=0)
    loss, error = -verdict.metrics["delong_gain"], verdict.metrics["delong_error"]
    assert loss > 0.001
    # Allowed is half a standard error more than was lost: 69 % sure.
    allowed = limits.model_copy(update={"max_auc_loss": loss + 0.5 * error})
    assert rule(compare(worse, allowed, seed=0), "champion").kept
    assert "is 69% sure" in rule(compare(worse, allowed, seed=0), "champion").words
    surer = allowed.model_copy(update={"loss_confidence": 0.9})
    assert broken(compare(worse, surer, seed=0)) == ["champion"]


def test_the_bootstrap_and_delong_agree_on_the_difference(limits: PromotionConfig) -> None:
    _, odds, _ = world()
    more = limits.model_copy(update={"bootstrap_samples": 600})
    metrics = compare(evidence(challenger=blurred(odds, 0.7)), more, seed=0).metrics
    assert metrics["auc_gain"] == pytest.approx(metrics["delong_gain"])
    assert metrics["auc_gain_low"] == pytest.approx(metrics["delong_low"], abs=0.003)
    assert metrics["auc_gain_high"] == pytest.approx(metrics["delong_high"], abs=0.003)


def test_small_segments_are_shown_and_not_judged(limits: PromotionConfig) -> None:
    label, odds, names = world()
    worse = evidence(challenger=blurred(odds, 1.0, slice(3_000, 4_000)))
    more = int(label[names == "c"].sum()) + 1
    many = limits.model_copy(update={"min_segment_defaults": more, "max_auc_loss": 0.4})
    verdict = compare(worse, many, seed=0)
    table = verdict.segments.set_index("band")
    assert table["judged"].to_dict() == {"a": True, "b": True, "c": False}
    assert table.loc["c", "auc_gain"] < -0.03
    assert rule(verdict, "segments").kept
    assert "in 2 judged segments" in rule(verdict, "segments").words
    assert table["auc"].sub(table["champion_auc"]).to_dict() == pytest.approx(table["auc_gain"].to_dict())
    none = compare(worse, limits.model_copy(update={"min_segment_defaults": 5_000, "max_auc_loss": 0.4}), seed=0)
    assert rule(none, "segments") == ("segments", True, "no segment has 5000 defaults and as many others")


def test_a_loss_that_chance_explains_refuses_no_segment(limits: PromotionConfig) -> None:
    _, odds, _ = world()
    # Segments of 100 users: some lose much, by chance alone.
    names = np.repeat([f"{number:02d}" for number in range(40)], 100)
    noisy = evidence(challenger=blurred(odds, 0.3), segments={"history": names}, validation_scores=None)
    lenient = limits.model_copy(update={"min_segment_defaults": 5, "max_auc_loss": 0.4, "max_segment_auc_loss": 0.02})
    verdict = compare(noisy, lenient, seed=0)
    lost = verdict.segments[verdict.segments["auc_gain"] < -0.02]
    assert len(lost) > 0
    assert rule(verdict, "segments").kept == (lost["p"].min() >= 0.05)


def test_few_users_may_differ_from_validation_by_chance(limits: PromotionConfig) -> None:
    label, odds, names = world()
    rng = np.random.default_rng(1)
    some = np.concatenate([rng.choice(np.flatnonzero(label == k), size, False) for k, size in ((1, 15), (0, 25))])
    few = evidence(
        label=label[some],
        challenger=probability(odds[some]),
        champion=None,
        segments={"history": names[some]},
        validation_scores=tenths(probability(odds[:40])),
    )
    strict = limits.model_copy(update={"max_score_psi": 0.001})
    found = rule(compare(few, strict, seed=0), "score_stability")
    words = found.words
    moved = compare(few, strict, seed=0).metrics["score_psi"]
    assert f"PSI of the scores against validation {moved:.3f}" in words
    # (1/40 + 1/40) times the 95 % point of chi-squared with 9 degrees of freedom.
    assert "(0.846 is explained by chance)" in words
    assert found.kept == (moved <= 0.846)
    assert moved > 0.001


def test_one_default_is_refused_not_a_fault(limits: PromotionConfig) -> None:
    _, odds, _ = world()
    label = np.zeros(USERS)
    label[7] = 1
    verdict = compare(evidence(label=label), limits, seed=0)
    assert "1 defaults among 4,000 held-out users, at least 30 defaults" in rule(verdict, "enough_defaults").words
    assert "champion" not in [rule.name for rule in verdict.rules]


def test_one_class_cannot_be_judged(limits: PromotionConfig) -> None:
    with pytest.raises(InputError, match="the 4,000 held-out labels are of one class only"):
        compare(evidence(label=np.zeros(USERS)), limits, seed=0)


def test_the_document_is_plain_json(limits: PromotionConfig) -> None:
    verdict = compare(evidence(), limits, seed=0)
    document = json.loads(json.dumps(verdict.document, allow_nan=False))
    assert document["passed"] is True
    assert [rule["name"] for rule in document["rules"]] == [rule.name for rule in verdict.rules]


def test_slopes_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="calibration_slope must rise"):
        load_config("conf/local.yaml", ["promotion.calibration_slope=[2.0, 0.5]"])
