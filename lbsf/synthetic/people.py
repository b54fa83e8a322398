"""Users' permanent traits (activity, income, tastes, habits), and how each user's payments respond to distress."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lbsf.config.models import SyntheticConfig
from lbsf.synthetic.catalogue import CODES, VISITED
from lbsf.synthetic.health import PAST_WEEKS, Truth

ACTIVITY_SPREAD = 0.7
# Share of visits by category for the average user. Betting and pawn are not shares: draw_people draws their rates.
VISIT_SHARES = {
    "groceries": 0.27,
    "transport": 0.20,
    "restaurants": 0.14,
    "online shopping": 0.11,
    "household": 0.08,
    "health": 0.04,
    "leisure": 0.06,
    "cash": 0.10,
}
# Bills that an average user pays per day; the other payments are visits.
BILLS_PER_DAY = 0.2


@dataclass(frozen=True)
class People:
    """The users of one chunk; arrays are (users,) unless a shape is given.

    Attributes:
        distress: (users, weeks from the first simulated day) the visible part of stress, 0 or more: near 0
            while stress is low, then rising with it (softplus).
        activity: mean payments per day.
        income: relative to the median.
        visit_rate: (users, visited categories) visits per day in an average week without distress.
        scale: (users, visited categories) the user's amounts relative to the category's median.
        lateness: mean days between a bill's due day and its payment.
        night_owl: log-odds added to paying or withdrawing cash at night.
        shows_*: how strongly the user's payments respond to distress in this way, mean 1.
    """

    distress: NDArray[np.float64]
    activity: NDArray[np.float64]
    income: NDArray[np.float64]
    visit_rate: NDArray[np.float64]
    scale: NDArray[np.float64]
    lateness: NDArray[np.float64]
    night_owl: NDArray[np.float64]
    shows_late: NDArray[np.float64]
    shows_thrift: NDArray[np.float64]
    shows_loans: NDArray[np.float64]
    shows_pawn: NDArray[np.float64]
    shows_betting: NDArray[np.float64]
    shows_night: NDArray[np.float64]


def draw_people(rng: np.random.Generator, config: SyntheticConfig, truth: Truth) -> People:
    """Draw the chunk's users.

    Traits are independent of stress, so that a trait such as thrift or gambling does not by itself predict default.
    """
    n = len(truth.stress)
    activity = config.payments_per_user_day * np.exp(rng.normal(0, ACTIVITY_SPREAD, n))
    income = np.exp(rng.normal(0, 0.4, n))
    shares = np.array([VISIT_SHARES.get(kind.name, 0.0) for kind in VISITED])
    own_shares = shares * rng.gamma(4, 1 / 4, (n, len(VISITED)))
    own_shares /= own_shares.sum(axis=1, keepdims=True)
    visit_rate = np.maximum(activity - BILLS_PER_DAY, 0.4 * activity)[:, None] * own_shares
    # Most users hardly ever bet or pawn; a few do so regularly, even without distress.
    visit_rate[:, CODES["betting"]] = _rate_of_regulars(rng, n, regulars=0.10, rate=0.10, others=0.002)
    visit_rate[:, CODES["pawn"]] = _rate_of_regulars(rng, n, regulars=0.03, rate=0.02, others=0.0004)
    scale = np.exp(rng.normal(0, 0.35, (n, len(VISITED)))) * income[:, None] ** 0.5

    def shows() -> NDArray[np.float64]:
        return rng.gamma(1.5, 1 / 1.5, n)

    return People(
        distress=np.logaddexp(0, 2.0 * (truth.stress[:, PAST_WEEKS:] - 0.3)) / 2.0,
        activity=activity,
        income=income,
        visit_rate=visit_rate,
        scale=scale,
        lateness=rng.exponential(2.5, n),
        night_owl=rng.normal(0, 0.8, n),
        shows_late=shows(),
        shows_thrift=shows(),
        shows_loans=shows(),
        shows_pawn=shows(),
        shows_betting=shows(),
        shows_night=shows(),
    )


def _rate_of_regulars(
    rng: np.random.Generator, n: int, regulars: float, rate: float, others: float
) -> NDArray[np.float64]:
    """Draw visits per day of n users: about `rate` for the share `regulars` of them, `others` for the rest."""
    regular = rng.random(n) < regulars
    return np.where(regular, rate * rng.gamma(1.5, 1 / 1.5, n), others)
