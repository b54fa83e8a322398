"""AUC and KS with bootstrap intervals over users. All models use the same resamples, so differences are paired."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SAMPLES = 1_000


class Interval(NamedTuple):
    """A figure with its 95 % percentile-bootstrap limits."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.value:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


class Resampled(NamedTuple):
    """A figure over all users, a scalar, and over each bootstrap resample, (samples,)."""

    value: float
    samples: Floats

    def minus(self, other: Resampled) -> Interval:
        """Return the paired difference with its interval."""
        return _interval(self.value - other.value, self.samples - other.samples)

    @property
    def interval(self) -> Interval:
        """Return the figure with its interval."""
        return _interval(self.value, self.samples)


def _interval(value: float, samples: Floats) -> Interval:
    low, high = np.percentile(samples, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def mean(parts: list[Resampled]) -> Resampled:
    """Return the mean over seeds."""
    return Resampled(
        float(np.mean([part.value for part in parts])), np.asarray(np.mean([part.samples for part in parts], axis=0))
    )


def draw(label: Floats, samples: int = SAMPLES, seed: int = 0) -> Floats:
    """Draw bootstrap resamples of users, stratified by class.

    Returns:
        (1 + samples, n) how often each user is drawn; the first row, all 1, is the original sample.
    """
    rng = np.random.default_rng(seed)
    counts = np.ones((1 + samples, len(label)))
    for value in (0, 1):
        users = np.flatnonzero(label == value)
        counts[1:, users] = rng.multinomial(len(users), np.full(len(users), 1 / len(users)), samples)
    return counts


def auc_and_ks(label: Floats, score: Floats, counts: Floats) -> tuple[Resampled, Resampled]:
    """Return AUC (ties count half) and KS over all users and over each resample.

    Args:
        label: (n,) 0 or 1.
        score: (n,).
        counts: as returned by `draw`.
    """
    order = np.argsort(score, kind="stable")
    ranked, positive, drawn = score[order], label[order] == 1, counts[:, order]
    first = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    ones = np.add.reduceat(drawn * positive, first, axis=1)
    zeros = np.add.reduceat(drawn * ~positive, first, axis=1)
    all_ones, all_zeros = ones.sum(1), zeros.sum(1)
    below = np.cumsum(zeros, axis=1)
    auc = (ones * (below - zeros / 2)).sum(1) / (all_ones * all_zeros)
    ks = np.abs(np.cumsum(ones, axis=1) / all_ones[:, None] - below / all_zeros[:, None]).max(1)
    return Resampled(float(auc[0]), auc[1:]), Resampled(float(ks[0]), ks[1:])
