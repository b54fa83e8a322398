"""Visits: payments that have no due date, such as groceries, transport, shopping, cash, betting and pawn."""

from __future__ import annotations

from datetime import date

import numpy as np
from numpy.typing import NDArray

from lbsf.synthetic.catalogue import CODES, VISITED
from lbsf.synthetic.events import Events, draw_channels, draw_hours, draw_memos, draw_seconds, to_cents
from lbsf.synthetic.merchants import Merchants
from lbsf.synthetic.people import People

# Merchants per category that a user visits regularly; the first is visited most.
HABITUAL = 8
# Share of visits to other merchants.
EXPLORING = {"groceries": 0.06, "transport": 0.08, "cash": 0.3, "online shopping": 0.45}
EXPLORING_ELSE = 0.35

STAPLES = (CODES["groceries"], CODES["transport"])
STAPLE_VISITS = 0.07  # decrease of the log of visits, and below of the log of amounts, per unit of distress
STAPLE_AMOUNT = 0.14
BETTING_PER_DAY = 0.009  # visits per unit of distress, as for pawn
PAWN_PER_DAY = 0.0025
CASH_VISITS = 0.06  # increase of the log of visits per unit of distress
NIGHT_LOG_ODDS = -3.2
NIGHT_LOG_ODDS_BY_DISTRESS = 0.5
NIGHT_HOURS = np.array([23, 0, 1, 2, 3, 4])


def simulate_visits(
    rng: np.random.Generator, people: People, merchants: Merchants, start_on: date, days: int
) -> Events:
    """Simulate Poisson visits; the rates depend on the user, the season, the weekday and distress."""
    rates = _daily_rates(rng, people, start_on, days)
    counts = rng.poisson(rates)
    where = np.repeat(np.flatnonzero(counts), counts[counts > 0])
    user, category, day = np.unravel_index(where, counts.shape)
    distress = people.distress[user, day // 7]

    merchant = _choose_merchants(rng, people, merchants, user, category, day)
    medians = np.array([kind.amount for kind in VISITED])
    spreads = np.array([kind.spread for kind in VISITED])
    staple = np.isin(category, STAPLES)
    amount = (
        medians[category]
        * people.scale[user, category]
        * merchants.price[merchant]
        * np.exp(rng.normal(0, 1, len(user)) * spreads[category])
        * np.where(staple, np.exp(-STAPLE_AMOUNT * people.shows_thrift[user] * distress), 1.0)
    )
    cash = category == CODES["cash"]
    # Cash machines pay out multiples of 10.
    amount = np.where(cash, np.maximum(10, 10 * np.rint(amount / 10)), amount)

    hour = draw_hours(rng, category)
    log_odds = NIGHT_LOG_ODDS + people.night_owl[user]
    log_odds += np.where(cash, NIGHT_LOG_ODDS_BY_DISTRESS * people.shows_night[user] * distress, -1.5)
    log_odds += np.where(category == CODES["betting"], 2.0, 0.0)
    night = rng.random(len(user)) < 1 / (1 + np.exp(-log_odds))
    # Only cash, betting, online shopping and transport are open at night.
    night &= cash | np.isin(category, [CODES[name] for name in ("betting", "online shopping", "transport")])
    hour = np.where(night, NIGHT_HOURS[rng.integers(0, len(NIGHT_HOURS), len(user))], hour)
    return Events(
        user=user,
        merchant=merchant,
        second=draw_seconds(rng, day, hour),
        cents=to_cents(amount),
        channel=draw_channels(rng, category),
        memo=draw_memos(rng, category),
    )


def _daily_rates(rng: np.random.Generator, people: People, start_on: date, days: int) -> NDArray[np.float64]:
    """Return the expected visits, (users, visited categories, days)."""
    n, categories = people.visit_rate.shape
    day = np.arange(days)
    week = day // 7
    distress = people.distress[:, : week[-1] + 1]

    # (users, categories, weeks): the user's mean rate, variation between weeks, and the effect of distress.
    weekly = people.visit_rate[:, :, None] * rng.gamma(5, 1 / 5, (n, 1, distress.shape[1]))
    weekly[:, STAPLES] *= np.exp(-STAPLE_VISITS * people.shows_thrift[:, None] * distress)[:, None]
    weekly[:, CODES["cash"]] *= np.exp(CASH_VISITS * people.shows_night[:, None] * distress)
    weekly[:, CODES["betting"]] += BETTING_PER_DAY * people.shows_betting[:, None] * distress
    weekly[:, CODES["pawn"]] += PAWN_PER_DAY * people.shows_pawn[:, None] * distress

    # (users, categories, 7): each user's own weekdays; a user who buys groceries on Saturdays keeps doing so.
    weekday = np.ones((categories, 7))
    weekday[:, 5:] = np.array([kind.weekend for kind in VISITED])[:, None]
    steadiness = np.where(np.isin(np.arange(categories), STAPLES), 0.6, 3.0)[:, None]
    own = weekday * rng.gamma(steadiness, 1 / steadiness, (n, categories, 7))
    own *= 7 / np.maximum(own.sum(axis=2, keepdims=True), 1e-9)
    return np.asarray(weekly[:, :, week] * own[:, :, (day + start_on.weekday()) % 7] * _season(start_on, days))


def _season(start_on: date, days: int) -> NDArray[np.float64]:
    """Return the seasonal factor of each category on each simulated day, (visited categories, days)."""
    dates = np.datetime64(start_on, "D") + np.arange(days)
    month = dates.astype("datetime64[M]").astype(np.int64) % 12
    season = np.ones((len(VISITED), 12))
    season[:, 11] = [kind.december for kind in VISITED]
    season[:, 6] = [kind.july for kind in VISITED]
    season[:, 0] = 0.93
    return np.asarray(season[:, month])


def _choose_merchants(
    rng: np.random.Generator,
    people: People,
    merchants: Merchants,
    user: NDArray[np.int64],
    category: NDArray[np.int64],
    day: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Choose the merchant of each visit, (visits,): usually one of the user's regular ones, replaced if closed."""
    n, categories = people.visit_rate.shape
    own_category = np.tile(np.repeat(np.arange(categories), HABITUAL), n)
    own = merchants.draw(own_category, rng.random(len(own_category))).reshape(n, categories, HABITUAL)
    # Ratio of the visits to the next merchant in rank: low for users loyal to one shop, high for those who alternate.
    ratio = rng.uniform(0.2, 0.85, (n, categories))[user, category]
    uniform = rng.random(len(user))
    rank = np.floor(np.log1p(-uniform * (1 - ratio**HABITUAL)) / np.log(ratio)).astype(np.int64)
    habitual = own[user, category, np.clip(rank, 0, HABITUAL - 1)]
    exploring = np.array([EXPLORING.get(kind.name, EXPLORING_ELSE) for kind in VISITED])
    explores = rng.random(len(user)) < exploring[category]
    other = merchants.draw(category, rng.random(len(user)))
    return merchants.open_on(np.where(explores, other, habitual), day)
