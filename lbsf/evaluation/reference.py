"""Reference distributions of a model's scores and inputs at training, and the drift of other data from them.

Values are first counted in fine bins that are the same for all data, so that counts of parts can be added: a split is
read once, and a night's folds can be counted by many tasks. The reference's few bins are the quantiles of the
training split, computed from these counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.stats import chi2

from lbsf.errors import InputError
from lbsf.folds.packed import SECONDS_PER_DAY, Ints, PackedFolds

Floats = npt.NDArray[np.float64]
Counts = dict[str, Ints]

REFERENCE = "reference.json"
BINS = 10
# Codes with a share of their own; enough for every hour of the day.
TOP_CODES = 24
# Smaller shares are raised to this in both distributions, so that an empty bin makes a finite contribution to the PSI.
LEAST_SHARE = 1e-4

NUMBERS = ("payments", "merchants", "history_days", "amount_cents", "age_days")
CODES = ("category", "channel", "hour", "weekday", "refund", "no_description", "no_merchant_name")


class Bins(BaseModel):
    """The distribution of a number. Bin i holds edges[i-1] <= value < edges[i]; the first and last bins are open.

    Attributes:
        edges: inner edges, ascending; one fewer than bins.
        shares: share of each bin; they sum to 1.
        count: number of values counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    count: int

    def shares_of(self, values: Floats | Ints) -> Floats:
        """Return the shares of other values, (m,) with m > 0, in these bins."""
        return _shares(np.bincount(np.searchsorted(self.edges, values, side="right"), minlength=len(self.shares)))


class Codes(BaseModel):
    """The distribution of a code.

    Attributes:
        values: the codes with a share of their own, ascending; in category and channel, 0 is null.
        shares: share of each of these codes, then that of all others; they sum to 1.
        count: number of values counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    values: tuple[int, ...]
    shares: tuple[float, ...]
    count: int


class Reference(BaseModel):
    """The distributions of a model's scores and inputs at training.

    Attributes:
        score: calibrated probabilities of the validation split.
        numbers: per user, payments, merchants and history_days; per payment, amount_cents (absolute)
            and age_days (whole days before as_of). From the training split.
        codes: per payment, category, channel, hour and weekday (0 is Monday) in UTC, refund (1: negative
            amount) and no_description; per merchant of a user, no_merchant_name. From the training split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    score: Bins
    numbers: dict[str, Bins]
    codes: dict[str, Codes]

    def save(self, folder: Path) -> None:
        """Write the reference into a saved model's folder."""
        (folder / REFERENCE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Reference:
        """Read a model's reference.

        Raises:
            InputError: it is missing or cannot be read.
        """
        try:
            return Reference.model_validate_json((folder / REFERENCE).read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise InputError(
                f"{folder}: no readable {REFERENCE}, train the model again ({' '.join(str(error).split())[:200]})"
            ) from None


def count(packed: PackedFolds) -> Counts:
    """Count every input of a batch of folds, by fine bin (NUMBERS) or by code (CODES)."""
    seconds = packed.as_of[packed.user_of_payment] - packed.paid_at
    first = np.zeros(len(packed), np.int64)
    np.maximum.at(first, packed.user_of_payment, seconds)
    numbers = {
        "payments": packed.payments_of_users,
        "merchants": packed.merchant_count,
        "history_days": -(-first // SECONDS_PER_DAY),
        "amount_cents": np.abs(packed.amount_cents),
        "age_days": seconds // SECONDS_PER_DAY,
    }
    days = packed.paid_at // SECONDS_PER_DAY
    codes = {
        "category": packed.category,
        "channel": packed.channel,
        "hour": packed.paid_at % SECONDS_PER_DAY // 3_600,
        # 1970-01-01 was a Thursday.
        "weekday": (days + 3) % 7,
        "refund": packed.amount_cents < 0,
        "no_description": packed.description_token_len == 0,
        "no_merchant_name": packed.merchant_token_len == 0,
    }
    fine = {name: np.bincount(_fine_bin(values)) for name, values in numbers.items()}
    return fine | {name: np.bincount(values.astype(np.int64)) for name, values in codes.items()}


def add(parts: Iterable[Counts]) -> Counts:
    """Add the counts of all parts."""
    total: Counts = {}
    for part in parts:
        for name, counts in part.items():
            longer, shorter = sorted((counts, total.get(name, counts[:0])), key=len, reverse=True)
            total[name] = longer.copy()
            total[name][: len(shorter)] += shorter
    return total


def make_reference(counts: Counts, probability: Floats) -> Reference:
    """Build the reference of a trained model.

    Args:
        counts: of the training split.
        probability: (n,) calibrated probabilities of the validation split.

    Raises:
        InputError: there are no payments or no probabilities.
    """
    if not counts or not counts["category"].sum() or not len(probability):
        raise InputError("the training split has no payments or the validation split no users: use more examples")
    edges = np.unique(np.quantile(probability, np.arange(1, BINS) / BINS))
    score = np.bincount(np.searchsorted(edges, probability, side="right"), minlength=len(edges) + 1)
    return Reference(
        score=Bins(edges=tuple(map(float, edges)), shares=tuple(_shares(score).tolist()), count=len(probability)),
        numbers={name: _bins(counts[name]) for name in NUMBERS},
        codes={name: _codes(counts[name]) for name in CODES},
    )


class Drift(NamedTuple):
    """The PSI of a distribution against its reference, and the PSI that chance alone explains."""

    psi: float
    chance: float

    def limit(self, allowed: float) -> float:
        """Return the PSI above which the distribution counts as drifted: the larger of `allowed` and `chance`."""
        return max(allowed, self.chance)


def score_drift(reference: Bins, shares: Floats, count: int) -> Drift:
    """Return the drift of scores.

    Args:
        reference: Reference.score.
        shares: (bins,) shares of the current scores in the reference's bins.
        count: number of current scores.
    """
    chance = psi_by_chance(len(reference.shares), reference.count, count)
    return Drift(psi(np.array(reference.shares), shares), chance)


def drift(reference: Reference, counts: Counts) -> dict[str, Drift]:
    """Return the drift of each input; an input without values is left out.

    The payments of one user are not independent, so the PSI explained by chance uses the number of users, not of
    payments.

    Args:
        reference: of the model.
        counts: of the current folds, as returned by `count` and `add`.
    """
    found = {}
    users = reference.numbers["payments"].count, int(counts["payments"].sum())
    for name, bins in reference.numbers.items():
        if counts[name].sum():
            lower = _lower_edge(np.arange(len(counts[name])))
            bin_of_fine = np.searchsorted(bins.edges, lower, side="right")
            shares = _shares(np.bincount(bin_of_fine, counts[name], minlength=len(bins.shares)))
            found[name] = Drift(psi(np.array(bins.shares), shares), psi_by_chance(len(bins.shares), *users))
    for name, codes in reference.codes.items():
        if counts[name].sum():
            shares = _shares(_by_code(counts[name], codes.values))
            found[name] = Drift(psi(np.array(codes.shares), shares), psi_by_chance(len(codes.shares), *users))
    return found


def psi(reference: Floats, observed: Floats) -> float:
    """Return the population stability index of two distributions over the same bins: sum of (o - r) ln(o / r).

    Shares below LEAST_SHARE are first raised to it, so that empty bins contribute finitely. By convention, below 0.1
    is no shift and 0.25 or more a large shift (Siddiqi 2006, Credit Risk Scorecards); for few users see
    `psi_by_chance`.

    Args:
        reference: (k,) shares.
        observed: (k,) shares.
    """
    r, o = np.maximum(reference, LEAST_SHARE), np.maximum(observed, LEAST_SHARE)
    return float(np.sum((o - r) * np.log(o / r)))


def psi_by_chance(bins: int, reference_count: int, observed_count: int) -> float:
    """Return the 95th percentile of the PSI between two samples of the same distribution.

    The PSI is then (1/n + 1/m) times a chi-squared variable with bins - 1 degrees of freedom (Yurdakul 2018,
    Statistical Properties of Population Stability Index).

    Args:
        bins: number of bins.
        reference_count: n, values in the reference.
        observed_count: m, values compared with it.
    """
    return float(chi2.ppf(0.95, max(bins - 1, 1)) * (1 / reference_count + 1 / observed_count))


def _fine_bin(values: Ints) -> Ints:
    """Return the fine bin of integers from 0: one bin for each number up to 31, then 16 bins per doubling.

    >>> _fine_bin(np.array([0, 31, 32, 33, 34, 64])).tolist()
    [0, 31, 32, 32, 33, 48]
    """
    # frexp is exact for integers below 2^53.
    doublings = np.maximum(np.frexp(values.astype(np.float64))[1].astype(np.int64) - 5, 0)
    fine: Ints = 16 * doublings + (values >> doublings)
    return fine


def _lower_edge(fine: Ints) -> Ints:
    """Return the smallest number of each fine bin.

    >>> _lower_edge(np.array([0, 31, 32, 33, 48])).tolist()
    [0, 31, 32, 34, 64]
    """
    doublings = np.maximum(fine // 16 - 1, 0)
    lower: Ints = (fine - 16 * doublings) << doublings
    return lower


def _bins(counts: Ints) -> Bins:
    """Merge fine bins to about BINS bins with equal shares; a value with a larger share gets a bin of its own."""
    cumulative = np.cumsum(counts) / counts.sum()
    # The fine bin that contains a quantile is the last one of its reference bin.
    ends = np.searchsorted(cumulative, np.arange(1, BINS) / BINS, side="left") + 1
    begins = np.unique(ends[ends < len(counts)])
    totals = np.add.reduceat(counts, np.concatenate([[0], begins]).astype(np.int64))
    edges = tuple(float(edge) for edge in _lower_edge(begins))
    return Bins(edges=edges, shares=tuple(_shares(totals).tolist()), count=int(counts.sum()))


def _codes(counts: Ints) -> Codes:
    """Return the distribution over the most frequent codes (ties: the smaller code) and, always, 0 (null)."""
    frequent = np.lexsort((np.arange(len(counts)), -counts))[:TOP_CODES]
    values = tuple(sorted({0, *(int(code) for code in frequent if counts[code])}))
    shares = _shares(_by_code(counts, values))
    return Codes(values=values, shares=tuple(shares.tolist()), count=int(counts.sum()))


def _by_code(counts: Ints, values: tuple[int, ...]) -> Ints:
    """Return the counts of these values, then that of all other values, (values + 1,)."""
    known = np.array([counts[value] if value < len(counts) else 0 for value in values], np.int64)
    return np.append(known, counts.sum() - known.sum())


def _shares(counts: npt.NDArray[np.int64] | Floats) -> Floats:
    shares: Floats = np.asarray(counts, np.float64) / counts.sum()
    return shares
