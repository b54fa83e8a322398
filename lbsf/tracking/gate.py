"""The gate between challenger and champion: what a model must show before it scores anybody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from lbsf.config.models import PromotionConfig
from lbsf.errors import InputError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger may become champion.

    Attributes:
        passed: no rule was broken.
        reasons: each rule with its figures, kept or broken.
        metrics: the figures by name.
    """

    passed: bool
    reasons: tuple[str, ...]
    metrics: dict[str, float]


def compare(label: Floats, challenger: Floats, champion: Floats | None, config: PromotionConfig, seed: int) -> Verdict:
    """Judges the challenger on rows that no model was trained on.

    AUC limits are 95 % percentile-bootstrap limits over users; the difference to the champion is paired,
    both models on the same resampled users.

    Args:
        label: (n,) 0 or 1.
        challenger: (n,) probabilities.
        champion: (n,) probabilities of the same users, or None where there is no champion yet.
        config: the limits.
        seed: of the bootstrap.

    Raises:
        InputError: the labels are of one class only.
    """
    if len(np.unique(label)) < 2:
        raise InputError(f"the {len(label):,} held-out labels are of one class only: a model cannot be validated")
    auc = float(roc_auc_score(label, challenger))
    samples = _resample(label, config.bootstrap_samples, seed)
    low, high = np.percentile([roc_auc_score(label[i], challenger[i]) for i in samples], [2.5, 97.5])
    miscalibration = abs(float(challenger.mean() / label.mean()) - 1)
    metrics = {"auc": auc, "auc_low": float(low), "auc_high": float(high), "calibration_error": miscalibration}
    rules = [
        (
            low > config.min_auc,
            f"AUC {auc:.4f} (95 % limits {low:.4f} to {high:.4f}) against a least lower limit of {config.min_auc}",
        ),
        (
            miscalibration <= config.max_calibration_error,
            f"mean probability is off the default rate by {miscalibration:.1%}, "
            f"at most {config.max_calibration_error:.0%} is allowed",
        ),
    ]
    if champion is not None:
        gain = auc - float(roc_auc_score(label, champion))
        gains = [roc_auc_score(label[i], challenger[i]) - roc_auc_score(label[i], champion[i]) for i in samples]
        gain_low, gain_high = np.percentile(gains, [2.5, 97.5])
        metrics |= {"auc_gain": gain, "auc_gain_low": float(gain_low), "auc_gain_high": float(gain_high)}
        rules.append(
            (
                gain >= -config.max_auc_loss,
                f"AUC against the champion {gain:+.4f} (95 % limits {gain_low:+.4f} to {gain_high:+.4f}), "
                f"a loss of at most {config.max_auc_loss} is allowed",
            )
        )
    return Verdict(
        passed=all(kept for kept, _ in rules),
        reasons=tuple(f"{'kept' if kept else 'BROKEN'}: {text}" for kept, text in rules),
        metrics=metrics,
    )


def _resample(label: Floats, samples: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Bootstrap samples of users, drawn within each class, so that every sample has both."""
    rng = np.random.default_rng(seed)
    ones, zeros = np.flatnonzero(label == 1), np.flatnonzero(label == 0)
    return [np.concatenate([rng.choice(ones, len(ones)), rng.choice(zeros, len(zeros))]) for _ in range(samples)]
