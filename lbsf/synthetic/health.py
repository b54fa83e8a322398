"""The latent state: each user's weekly financial stress, and the default that results from it.

Stress is Gaussian and the default's logit is linear in it. The logit's standard deviation is therefore
known exactly, and the intercept follows from the default rate alone: no pass over the users is
needed, and a user's probability does not depend on which other users are simulated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lbsf.config.models import SyntheticConfig

CHUNK_USERS = 250
# Each chunk has one random generator per purpose, so that labels can be drawn without simulating payments.
STRESS_STREAM, BEHAVIOUR_STREAM, DELIVERY_STREAM = 1, 2, 3

# Weeks of stress before the first simulated day: the default depends on half a year before the observation day.
PAST_WEEKS = 26
WEEKS_AFTER = 5

LEVEL_SD = 0.8
WANDER_SD = 1.0
PERSISTENCE = 0.98  # autocorrelation from week to week: a time constant of about a year
DRIFT_SD = 0.4  # per half year

# The default's logit is the mean stress of half a year (debts accumulate) plus TREND_WEIGHT times its recent rise.
TREND_WEIGHT = 0.25
LOGIT_SD = 2.1


@dataclass(frozen=True)
class Truth:
    """The latent state and labels of one chunk; arrays are (users,) unless a shape is given.

    Attributes:
        user: index of the user, over all chunks.
        observed_day: day number of the label's observation.
        probability: true probability of default.
        label: 1 for default, drawn with that probability.
        stress: (users, weeks), beginning PAST_WEEKS before the first day; 0 is the mean over users and time.
    """

    user: NDArray[np.int64]
    observed_day: NDArray[np.int64]
    probability: NDArray[np.float64]
    label: NDArray[np.int64]
    stress: NDArray[np.float64]


def chunk_count(users: int) -> int:
    """Return the number of chunks of CHUNK_USERS that hold `users`."""
    return -(-users // CHUNK_USERS)


def generator(seed: int, chunk: int, stream: int) -> np.random.Generator:
    """Return the random generator of one chunk and purpose; it depends on nothing else but the seed."""
    return np.random.default_rng([seed, stream, chunk])


def simulate_truth(config: SyntheticConfig, chunk: int) -> Truth:
    """Simulate the latent state and the labels of the chunk's users.

    A whole chunk is always drawn, even if fewer users are wanted: adding users does not change the existing ones.
    """
    rng = generator(config.seed, chunk, STRESS_STREAM)
    weeks = PAST_WEEKS + -(-config.days // 7) + WEEKS_AFTER
    stress = _simulate_stress(rng, CHUNK_USERS, weeks)
    user = np.arange(CHUNK_USERS) + chunk * CHUNK_USERS
    uniform = _hash_to_unit(user, config.seed)
    cohort = np.searchsorted(np.cumsum(config.observation_shares)[:-1], uniform, side="right")
    observed_day = np.asarray(config.observation_days)[cohort]
    logit = np.empty(CHUNK_USERS)
    for day in config.observation_days:
        weights = _risk_weights(day, weeks)
        seen = observed_day == day
        logit[seen] = LOGIT_SD * (stress[seen] @ weights) / np.sqrt(weights @ _covariance(weeks) @ weights)
    probability = _sigmoid(logit + solve_intercept(config.default_rate))
    label = (rng.random(CHUNK_USERS) < probability).astype(np.int64)
    keep = user < config.users
    return Truth(user[keep], observed_day[keep], probability[keep], label[keep], stress[keep])


def solve_intercept(rate: float) -> float:
    """Return the intercept with which a logit of standard deviation LOGIT_SD has the mean default rate `rate`."""
    nodes: NDArray[np.float64] = np.linspace(-8, 8, 1601)
    weights = np.exp(-0.5 * nodes**2)
    weights /= weights.sum()
    low, high = -30.0, 30.0
    for _ in range(80):
        middle = (low + high) / 2
        if weights @ _sigmoid(middle + LOGIT_SD * nodes) < rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _simulate_stress(rng: np.random.Generator, users: int, weeks: int) -> NDArray[np.float64]:
    level = rng.normal(0, LEVEL_SD, (users, 1))
    drift = rng.normal(0, DRIFT_SD, (users, 1))
    steps = rng.normal(0, WANDER_SD, (users, weeks))
    steps[:, 1:] *= np.sqrt(1 - PERSISTENCE**2)
    for week in range(1, weeks):
        steps[:, week] += PERSISTENCE * steps[:, week - 1]
    return np.asarray(level + drift * _half_years(weeks) + steps)


def _half_years(weeks: int) -> NDArray[np.float64]:
    return np.asarray((np.arange(weeks) - PAST_WEEKS) / 26)


def _covariance(weeks: int) -> NDArray[np.float64]:
    """Return the covariance of stress between weeks, (weeks, weeks)."""
    time = _half_years(weeks)
    apart = np.abs(np.subtract.outer(np.arange(weeks), np.arange(weeks)))
    return np.asarray(LEVEL_SD**2 + DRIFT_SD**2 * np.outer(time, time) + WANDER_SD**2 * PERSISTENCE**apart)


def _risk_weights(observed_day: int, weeks: int) -> NDArray[np.float64]:
    """Return the weight of each week's stress in the default's logit, (weeks,).

    Weights reach from half a year before the observation to a month after it.
    """
    now = PAST_WEEKS + observed_day // 7
    level, recent, before = np.zeros(weeks), np.zeros(weeks), np.zeros(weeks)
    level[now - 26 : now + 4] = 1 / 30
    recent[now - 6 : now + 4] = 1 / 10
    before[now - 26 : now - 13] = 1 / 13
    return level + TREND_WEIGHT * (recent - before)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x)))


def _hash_to_unit(user: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Hash each user to a number in [0, 1) with SplitMix64's finaliser (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        x = (user.astype(np.uint64) + np.uint64(seed + 1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return np.asarray((x >> np.uint64(11)) / 2.0**53)
