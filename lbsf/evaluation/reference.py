"""What a model's scores and inputs looked like when it was trained, and how far others have drifted from it.

Counts are kept over fine bins that are the same for all data, so counts of parts add up: a split is read
once, a night's folds may be counted in many tasks. From the counts of the training split come the few bins
of the reference, at its quantiles.
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
# Enough for every hour of the day.
TOP_CODES = 24
# Shares below this are raised to it, on both sides, so that an empty bin has a finite part in the index.
LEAST_SHARE = 1e-4

NUMBERS = ("payments", "merchants", "history_days", "amount_cents", "age_days")
CODES = ("category", "channel", "hour", "weekday", "refund", "no_description", "no_merchant_name")


class Bins(BaseModel):
    """A number's distribution: bin i holds edges[i-1] <= value < edges[i], the first and last are open.

    Attributes:
        edges: inner edges, rising; one fewer than bins.
        shares: of each bin; sums to 1.
        count: values that were counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    count: int

    def shares_of(self, values: Floats | Ints) -> Floats:
        """Shares of other values, (m,) of at least one, in these bins."""
        return _shares(np.bincount(np.searchsorted(self.edges, values, side="right"), minlength=len(self.shares)))


class Codes(BaseModel):
    """A code's distribution.

    Attributes:
        values: the codes that are counted one by one, rising; 0 of category and channel stands for null.
        shares: of each, and last of all others; sums to 1.
        count: values that were counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    values: tuple[int, ...]
    shares: tuple[float, ...]
    count: int


class Reference(BaseModel):
    """The distributions that a model was trained on.

    Attributes:
        score: calibrated probabilities of the validation split.
        numbers: of each user payments, merchants and history_days; of each payment amount_cents (absolute)
            and age_days (whole days before as_of).
        codes: of each payment category, channel, hour and weekday (0 Monday) in UTC, refund (1: negative
            amount), no_description; of each merchant of a user no_merchant_name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    score: Bins
    numbers: dict[str, Bins]
    codes: dict[str, Codes]

    def save(self, folder: Path) -> None:
        """Writes the reference into a saved model's folder."""
        (folder / REFERENCE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Reference:
        """Reads a model's reference. Raises InputError where there is none, or none that can be read."""
        try:
            return Reference.model_validate_json((folder / REFERENCE).read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise InputError(
                f"{folder}: no readable {REFERENCE}, train the model again ({' '.join(str(error).split())[:200]})"
            ) from None


def count(packed: PackedFolds) -> Counts:
    """Counts of every input of a batch, by fine bin (NUMBERS) or by code (CODES)."""
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
    """The counts of all parts together."""
    total: Counts = {}
    for part in parts:
        for name, counts in part.items():
            longer, shorter = sorted((counts, total.get(name, counts[:0])), key=len, reverse=True)
            total[name] = longer.copy()
            total[name][: len(shorter)] += shorter
    return total


def make_reference(counts: Counts, probability: Floats) -> Reference:
    """The reference of a trained model.

    Args:
        counts: of the training split.
        probability: (n,) calibrated, of the validation split.

    Raises:
        InputError: there is not one payment, or not one probability.
    """
    if not counts or not counts["category"].sum() or not len(probability):
        raise InputError("the training split has no payments, or validation no users: nothing to refer to later")
    edges = np.unique(np.quantile(probability, np.arange(1, BINS) / BINS))
    score = np.bincount(np.searchsorted(edges, probability, side="right"), minlength=len(edges) + 1)
    return Reference(
        score=Bins(edges=tuple(map(float, edges)), shares=tuple(_shares(score).tolist()), count=len(probability)),
        numbers={name: _bins(counts[name]) for name in NUMBERS},
        codes={name: _codes(counts[name]) for name in CODES},
    )


class Drift(NamedTuple):
    """How far a distribution has moved: its PSI, and the PSI that chance alone explains."""

    psi: float
    chance: float

    def limit(self, allowed: float) -> float:
        """The PSI beyond which something moved: what is allowed, or what chance explains where that is more."""
        return max(allowed, self.chance)


def score_drift(reference: Bins, shares: Floats, count: int) -> Drift:
    """How far scores have moved.

    Args:
        reference: Reference.score.
        shares: of the scores that are watched, in the reference's bins.
        count: how many these are.
    """
    chance = psi_by_chance(len(reference.shares), reference.count, count)
    return Drift(psi(np.array(reference.shares), shares), chance)


def drift(reference: Reference, counts: Counts) -> dict[str, Drift]:
    """How far each input has moved; an input without any values is left out.

    Payments of one user resemble each other, so what chance explains is reckoned with users, not with payments.

    Args:
        reference: of the model.
        counts: of the folds that are watched, as of `count` and `add`.
    """
    found = {}
    users = reference.numbers["payments"].count, int(counts["payments"].sum())
    for name, bins in reference.numbers.items():
        if counts[name].sum():
            lower = _lower_edge(np.arange(len(counts[name])))
            place = np.searchsorted(bins.edges, lower, side="right")
            shares = _shares(np.bincount(place, counts[name], minlength=len(bins.shares)))
            found[name] = Drift(psi(np.array(bins.shares), shares), psi_by_chance(len(bins.shares), *users))
    for name, codes in reference.codes.items():
        if counts[name].sum():
            shares = _shares(_by_code(counts[name], codes.values))
            found[name] = Drift(psi(np.array(codes.shares), shares), psi_by_chance(len(codes.shares), *users))
    return found


def psi(reference: Floats, observed: Floats) -> float:
    """Population stability index of two distributions over the same bins: sum of (o - r) ln(o / r).

    Shares below LEAST_SHARE are raised to it before, so an empty bin counts finitely. By custom below 0.1
    nothing moved, from 0.25 much did (Siddiqi 2006, Credit Risk Scorecards); for few users see `psi_by_chance`.

    Args:
        reference: (k,) shares.
        observed: (k,) shares.
    """
    r, o = np.maximum(reference, LEAST_SHARE), np.maximum(observed, LEAST_SHARE)
    return float(np.sum((o - r) * np.log(o / r)))


def psi_by_chance(bins: int, reference_count: int, observed_count: int) -> float:
    """The PSI that two samples of one distribution stay below 19 times of 20.

    It is (1/n + 1/m) times a chi-squared variable of bins - 1 degrees of freedom (Yurdakul 2018, Statistical
    Properties of Population Stability Index).
    """
    return float(chi2.ppf(0.95, max(bins - 1, 1)) * (1 / reference_count + 1 / observed_count))


def _fine_bin(values: Ints) -> Ints:
    """Fine bin of numbers from 0: each number to 31 its own, then 16 bins a doubling.

    >>> _fine_bin(np.array([0, 31, 32, 33, 34, 64])).tolist()
    [0, 31, 32, 32, 33, 48]
    """
    # frexp is exact for whole numbers below 2^53.
    doublings = np.maximum(np.frexp(values.astype(np.float64))[1].astype(np.int64) - 5, 0)
    fine: Ints = 16 * doublings + (values >> doublings)
    return fine


def _lower_edge(fine: Ints) -> Ints:
    """The smallest number of each fine bin.

    >>> _lower_edge(np.array([0, 31, 32, 33, 48])).tolist()
    [0, 31, 32, 34, 64]
    """
    doublings = np.maximum(fine // 16 - 1, 0)
    lower: Ints = (fine - 16 * doublings) << doublings
    return lower


def _bins(counts: Ints) -> Bins:
    """About BINS bins with equal shares; a value that takes more than one's share has a bin of its own."""
    reached = np.cumsum(counts) / counts.sum()
    # A quantile's fine bin ends a bin of the reference: the next one begins with the fine bin after it.
    ends = np.searchsorted(reached, np.arange(1, BINS) / BINS, side="left") + 1
    begins = np.unique(ends[ends < len(counts)])
    totals = np.add.reduceat(counts, np.concatenate([[0], begins]).astype(np.int64))
    edges = tuple(float(edge) for edge in _lower_edge(begins))
    return Bins(edges=edges, shares=tuple(_shares(totals).tolist()), count=int(counts.sum()))


def _codes(counts: Ints) -> Codes:
    """The most frequent codes, ties by code, and 0 (null) always."""
    frequent = np.lexsort((np.arange(len(counts)), -counts))[:TOP_CODES]
    values = tuple(sorted({0, *(int(code) for code in frequent if counts[code])}))
    shares = _shares(_by_code(counts, values))
    return Codes(values=values, shares=tuple(shares.tolist()), count=int(counts.sum()))


def _by_code(counts: Ints, values: tuple[int, ...]) -> Ints:
    """Counts of the values, and last of all others."""
    known = np.array([counts[value] if value < len(counts) else 0 for value in values], np.int64)
    return np.append(known, counts.sum() - known.sum())


def _shares(counts: npt.NDArray[np.int64] | Floats) -> Floats:
    shares: Floats = np.asarray(counts, np.float64) / counts.sum()
    return shares
