"""The promotion gate: the rules that a challenger must keep to become champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from lbsf.config.models import PromotionConfig
from lbsf.errors import InputError
from lbsf.evaluation.delong import Difference, Floats, auc_difference, aucs
from lbsf.evaluation.metrics import calibration_measures
from lbsf.evaluation.reference import Bins, score_drift
from lbsf.evaluation.segments import Names, each_band, segment_table

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Evidence:
    """The same held-out users scored by both models, as they would be served: thin files included.

    Attributes:
        label: (n,) 0 or 1.
        challenger: (n,) probabilities.
        champion: (n,) probabilities; None if there is no champion or it cannot score these users.
        incomparable: why an existing champion could not score them, else None.
        segments: segment -> (n,) band of each user.
        validation_scores: the challenger's probabilities of its validation split, but for thin files.
        thin_file: (n,) bool, the challenger's thin files, which are left out beside validation_scores; None: none.
    """

    label: Floats
    challenger: Floats
    champion: Floats | None = None
    incomparable: str | None = None
    segments: Mapping[str, Names] = field(default_factory=dict)
    validation_scores: Bins | None = None
    thin_file: npt.NDArray[np.bool_] | None = None


class Rule(NamedTuple):
    """One rule: its name, whether it was kept, and a sentence with its figures."""

    name: str
    kept: bool
    words: str

    def __str__(self) -> str:
        return f"{'kept' if self.kept else 'BROKEN'}: {self.words}"


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger may become champion.

    Attributes:
        rules: each rule, kept or broken, with its figures.
        metrics: the figures by name.
        segments: the challenger's segment_table; with a champion also champion_auc, auc_gain,
            auc_gain_low, auc_gain_high, p and judged.
    """

    rules: tuple[Rule, ...]
    metrics: dict[str, float]
    segments: pd.DataFrame

    @property
    def passed(self) -> bool:
        """Return whether all rules were kept."""
        return all(rule.kept for rule in self.rules)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return each rule as a sentence, the broken ones first."""
        return tuple(str(rule) for rule in sorted(self.rules, key=lambda rule: rule.kept))

    @property
    def summary(self) -> str:
        """Return the broken rules, or that all were kept; at most 2,000 characters, to fit into an MLflow tag."""
        broken = [rule.words for rule in self.rules if not rule.kept]
        return "; ".join(broken)[:2000] if broken else f"all {len(self.rules)} rules were kept"

    @property
    def document(self) -> dict[str, Any]:
        """Return everything but the segments as JSON-compatible values."""
        return {"passed": self.passed, "rules": [rule._asdict() for rule in self.rules], "metrics": self.metrics}


def compare(evidence: Evidence, config: PromotionConfig, seed: int) -> Verdict:
    """Judge the challenger on held-out rows.

    Args:
        evidence: both models' probabilities of these rows.
        config: the limits.
        seed: of the bootstrap.

    Raises:
        InputError: all labels are of one class.
    """
    label = evidence.label
    defaults = int(label.sum())
    if defaults in (0, len(label)):
        raise InputError(f"the {len(label):,} held-out labels are of one class only: a model cannot be validated")
    fewer = min(defaults, len(label) - defaults)
    rules = [
        Rule(
            "enough_defaults",
            fewer >= config.min_defaults,
            f"{defaults:,} defaults among {len(label):,} held-out users, at least {config.min_defaults} defaults and "
            "as many others are needed to judge",
        )
    ]
    metrics = {"users": float(len(label)), "defaults": float(defaults)}
    segments = segment_table(label, evidence.challenger, evidence.segments)
    for found, more in (_discrimination(evidence, config, seed), _calibration(evidence, config)):
        rules, metrics = [*rules, *found], metrics | more
    if evidence.incomparable is not None:
        rules.append(Rule("comparable", False, f"not compared with the champion: {evidence.incomparable}"))
    # DeLong's test is undefined with fewer than two users of a class.
    if evidence.champion is not None and fewer >= 2:
        difference = auc_difference(label, evidence.challenger, evidence.champion)
        rules.append(_against_champion(difference, config))
        metrics |= {f"delong_{name}": value for name, value in difference._asdict().items()}
        segments = _segment_gains(evidence, evidence.champion, segments, config)
        rules.append(_segment_rule(segments, config))
    if evidence.validation_scores is not None:
        full = evidence.challenger if evidence.thin_file is None else evidence.challenger[~evidence.thin_file]
        rule, metrics["score_psi"] = _stability(full, evidence.validation_scores, config)
        rules.append(rule)
    return Verdict(tuple(rules), metrics, segments)


def _discrimination(evidence: Evidence, config: PromotionConfig, seed: int) -> tuple[list[Rule], dict[str, float]]:
    """Compute the AUC with 95 % percentile-bootstrap limits over users, and its paired difference to the champion."""
    label, models = evidence.label, np.stack([m for m in (evidence.challenger, evidence.champion) if m is not None])
    samples = _resample(label, config.bootstrap_samples, seed)
    resampled = np.array([aucs(label[chosen], models[:, chosen]) for chosen in samples])
    found = [float(auc) for auc in aucs(label, models)]
    low, high = np.percentile(resampled[:, 0], [2.5, 97.5])
    metrics = {"auc": found[0], "auc_low": float(low), "auc_high": float(high)}
    if evidence.champion is not None:
        gain_low, gain_high = np.percentile(resampled[:, 0] - resampled[:, 1], [2.5, 97.5])
        metrics |= {"champion_auc": found[1], "auc_gain": found[0] - found[1]}
        metrics |= {"auc_gain_low": float(gain_low), "auc_gain_high": float(gain_high)}
    words = f"AUC {found[0]:.4f} (95 % limits {low:.4f} to {high:.4f}), the lower limit must be above {config.min_auc}"
    return [Rule("auc", bool(low > config.min_auc), words)], metrics


def _calibration(evidence: Evidence, config: PromotionConfig) -> tuple[list[Rule], dict[str, float]]:
    measures = calibration_measures(evidence.label, evidence.challenger)
    error = abs(measures["level"] - 1)
    least, largest = config.calibration_slope
    rules = [
        Rule(
            "calibration_level",
            error <= config.max_calibration_error,
            f"mean probability is off the default rate by {error:.1%}, at most {config.max_calibration_error:.0%} "
            "is allowed",
        ),
        Rule(
            "calibration_slope",
            least <= measures["slope"] <= largest,
            f"calibration slope {measures['slope']:.2f}, {least:g} to {largest:g} is allowed",
        ),
    ]
    return rules, {f"calibration_{name}": value for name, value in measures.items()} | {"calibration_error": error}


def _against_champion(difference: Difference, config: PromotionConfig) -> Rule:
    """Test one-sided that the challenger's AUC is at most max_auc_loss below the champion's (non-inferiority).

    With loss_confidence 0.5, the rule is kept if the gain is at least -max_auc_loss.
    """
    margin = difference.gain + config.max_auc_loss
    sure = float(norm.cdf(margin / difference.error)) if difference.error > 0 else float(margin >= 0)
    return Rule(
        "champion",
        sure >= config.loss_confidence,
        f"AUC against the champion {difference.gain:+.4f} (95 % limits {difference.low:+.4f} to "
        f"{difference.high:+.4f}, DeLong p {difference.p:.2g}); that no more than {config.max_auc_loss} "
        f"is lost is {sure:.0%} sure, {config.loss_confidence:.0%} is asked for",
    )


def _segment_gains(evidence: Evidence, champion: Floats, table: pd.DataFrame, config: PromotionConfig) -> pd.DataFrame:
    """Add the comparison with the champion to the table; `judged` marks segments with enough defaults and others."""
    rows = []
    for segment, band, chosen in each_band(evidence.segments):
        label = evidence.label[chosen]
        fewer = int(min(label.sum(), len(label) - label.sum()))
        row: dict[str, Any] = {"segment": segment, "band": band, "judged": fewer >= config.min_segment_defaults}
        if fewer >= 2:
            other = champion[chosen]
            found = auc_difference(label, evidence.challenger[chosen], other)
            row |= {"champion_auc": float(aucs(label, other[None])[0]), "auc_gain": found.gain, "p": found.p}
            row |= {"auc_gain_low": found.low, "auc_gain_high": found.high}
        rows.append(row)
    columns = ["segment", "band", "judged", "champion_auc", "auc_gain", "auc_gain_low", "auc_gain_high", "p"]
    return table.merge(pd.DataFrame(rows, columns=columns), on=["segment", "band"]) if rows else table


def _segment_rule(table: pd.DataFrame, config: PromotionConfig) -> Rule:
    """Check that no judged segment loses too much AUC; only statistically significant losses count."""
    judged = table[table["judged"]] if "judged" in table else table[:0]
    if judged.empty:
        return Rule("segments", True, f"no segment has {config.min_segment_defaults} defaults and as many others")
    lost = judged[(judged["auc_gain"] < -config.max_segment_auc_loss) & (judged["p"] < SIGNIFICANCE)]
    shown = lost if len(lost) else judged.nsmallest(1, "auc_gain")
    named = ", ".join(f"{row.segment} {row.band} {row.auc_gain:+.4f} (p {row.p:.2g})" for row in shown.itertuples())
    return Rule(
        "segments",
        lost.empty,
        f"AUC against the champion in {len(judged)} judged segments, {'too low' if len(lost) else 'lowest'}: {named}; "
        f"a loss above {config.max_segment_auc_loss} with p below {SIGNIFICANCE} is not allowed",
    )


def _stability(probability: Floats, validation: Bins, config: PromotionConfig) -> tuple[Rule, float]:
    moved = score_drift(validation, validation.shares_of(probability), len(probability))
    words = (
        f"PSI of the scores against validation {moved.psi:.3f}, at most {config.max_score_psi} is allowed "
        f"({moved.chance:.3f} is explained by chance)"
    )
    return Rule("score_stability", moved.psi <= moved.limit(config.max_score_psi), words), moved.psi


def _resample(label: Floats, samples: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Draw bootstrap samples of users, stratified by class: each has the positions of as many users of both classes."""
    rng = np.random.default_rng(seed)
    ones, zeros = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
    return [np.concatenate([rng.choice(ones, len(ones)), rng.choice(zeros, len(zeros))]) for _ in range(samples)]
