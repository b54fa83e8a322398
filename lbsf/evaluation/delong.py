"""AUC with confidence limits, and DeLong's paired test of two AUCs.

DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44:837) derive the covariance of AUCs measured on
the same users; Sun and Xu 2014 (IEEE Signal Processing Letters 21:1389) compute it from midranks in O(n log n).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

Floats = npt.NDArray[np.float64]

Z_95 = float(norm.ppf(0.975))


class Difference(NamedTuple):
    """Difference between the AUCs of two models on the same users.

    Attributes:
        gain: AUC of the first less AUC of the second.
        error: its standard error.
        low, high: its 95 % confidence limits.
        p: two-sided p-value of "no difference".
    """

    gain: float
    error: float
    low: float
    high: float
    p: float


def aucs(label: Floats, scores: Floats) -> Floats:
    """Return the AUCs of k models, (k,): the Mann-Whitney U statistic over the number of pairs; ties count half.

    Args:
        label: (n,) 0 or 1, both present.
        scores: (k, n), higher for more risk.
    """
    positives = np.sum(label == 1)
    ranks = rankdata(scores, axis=1)[:, label == 1].sum(axis=1)
    found: Floats = (ranks - positives * (positives + 1) / 2) / (positives * (len(label) - positives))
    return found


def auc_covariance(label: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Return the AUCs of k models on the same n users, and their covariance.

    Args:
        label: (n,) 0 or 1, at least two of each.
        scores: (k, n), higher for more risk.

    Returns:
        (k,) AUCs; (k, k) covariance.

    Raises:
        ValueError: a class has fewer than two users, so that its variance is undefined.
    """
    ones, zeros = scores[:, label == 1], scores[:, label == 0]
    positives, negatives = ones.shape[1], zeros.shape[1]
    if min(positives, negatives) < 2:
        raise ValueError(f"{positives} users in default and {negatives} others: two of each are needed")
    ranks = rankdata(np.concatenate([ones, zeros], axis=1), axis=1)
    # Share of non-defaulters ranked below each defaulter, and of defaulters ranked above each non-defaulter.
    above = (ranks[:, :positives] - rankdata(ones, axis=1)) / negatives
    below = 1 - (ranks[:, positives:] - rankdata(zeros, axis=1)) / positives
    covariance = np.cov(above) / positives + np.cov(below) / negatives
    return above.mean(axis=1), covariance.reshape(len(scores), len(scores))


def auc_interval(label: Floats, score: Floats) -> tuple[float, float] | None:
    """Return the 95 % confidence limits of an AUC, computed on the logit scale so that they stay within 0 and 1.

    Returns None if they are undefined: with fewer than two users of a class, or with an AUC of 0 or 1.
    """
    if min(np.sum(label == 1), np.sum(label == 0)) < 2:
        return None
    measured, covariance = auc_covariance(label, score[None])
    auc, variance = float(measured[0]), float(covariance[0, 0])
    if not 0 < auc < 1:
        return None
    half_width = Z_95 * variance**0.5 / (auc * (1 - auc))
    return float(expit(logit(auc) - half_width)), float(expit(logit(auc) + half_width))


def auc_difference(label: Floats, score: Floats, other: Floats) -> Difference:
    """Test the AUC of `score` against that of `other`, (n,) each, with DeLong's test.

    Raises:
        ValueError: a class has fewer than two users.
    """
    measured, covariance = auc_covariance(label, np.stack([score, other]))
    gain = float(measured[0] - measured[1])
    # For two models with the same ranking, rounding can make the variance slightly negative.
    error = float(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0)) ** 0.5
    if error < 1e-9:
        return Difference(gain, 0.0, gain, gain, 1.0 if abs(gain) < 1e-9 else 0.0)
    p = float(2 * norm.sf(abs(gain) / error))
    return Difference(gain, error, gain - Z_95 * error, gain + Z_95 * error, p)
