"""The simulator's kernels: determinism, labels, merchants, habits, and how distress shows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lbsf.config import load_config
from lbsf.config.models import SyntheticConfig
from lbsf.synthetic.catalogue import CATEGORIES, CODES, VISITED, hour_distribution
from lbsf.synthetic.events import Events, concatenate
from lbsf.synthetic.health import LOGIT_SD, PAST_WEEKS, chunk_count, simulate_truth, solve_intercept
from lbsf.synthetic.merchants import Merchants, make_merchants
from lbsf.synthetic.simulate import raw_chunk, simulate_chunk, truth_chunk

CONF = Path(__file__).resolve().parents[3] / "conf" / "base.yaml"
USERS = 3000
DAY = 86400


def configured(**values: object) -> SyntheticConfig:
    return load_config(CONF, [f"synthetic.{key}={value}" for key, value in values.items()]).synthetic


@dataclass(frozen=True)
class Simulated:
    """A population with what the tests ask of it; `category` and `hour` are per payment."""

    config: SyntheticConfig
    merchants: Merchants
    stress: NDArray[np.float64]
    events: Events
    category: NDArray[np.int64]
    hour: NDArray[np.int64]

    def per_user(self, mask: NDArray[np.bool_], weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        picked = None if weights is None else weights[mask]
        return np.bincount(self.events.user[mask], weights=picked, minlength=USERS).astype(float)

    def of(self, *names: str) -> NDArray[np.bool_]:
        return np.isin(self.category, [CODES[name] for name in names])


@pytest.fixture(scope="module")
def population() -> Simulated:
    config = configured(users=USERS, merchants=3000)
    stress, events = [], []
    for chunk in range(chunk_count(USERS)):
        truth, merchants, found = simulate_chunk(config, chunk)
        columns = {f.name: getattr(found, f.name) for f in fields(found)}
        events.append(Events(**{**columns, "user": truth.user[found.user]}))
        stress.append(truth.stress)
    every = concatenate(events)
    category = np.searchsorted(merchants.bounds[1:-1], merchants.cumulative[every.merchant], side="left")
    hour = every.second % DAY // 3600
    return Simulated(config, merchants, np.concatenate(stress), every, category, hour)


def outer_deciles(values: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Users in the lowest and in the highest tenth."""
    low, high = np.quantile(values, [0.1, 0.9])
    return values <= low, values >= high


@pytest.fixture(scope="module")
def healthy_and_distressed(population: Simulated) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return outer_deciles(population.stress[:, PAST_WEEKS : PAST_WEEKS + 30].mean(axis=1))


@pytest.fixture(scope="module")
def recovering_and_sinking(population: Simulated) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    early = population.stress[:, PAST_WEEKS : PAST_WEEKS + 12].mean(axis=1)
    late = population.stress[:, PAST_WEEKS + 22 : PAST_WEEKS + 34].mean(axis=1)
    return outer_deciles(late - early)


class TestDeterminism:
    def test_a_chunk_is_a_function_of_seed_and_number(self) -> None:
        config = configured(users=500, merchants=400)
        assert raw_chunk(config, 1).equals(raw_chunk(config, 1))
        assert truth_chunk(config, 1).equals(truth_chunk(config, 1))

    def test_another_seed_gives_other_rows(self) -> None:
        one, other = configured(users=250, merchants=400), configured(users=250, merchants=400, seed=8)
        assert not raw_chunk(one, 0).equals(raw_chunk(other, 0))
        assert not truth_chunk(one, 0).equals(truth_chunk(other, 0))

    def test_chunks_differ(self) -> None:
        config = configured(users=500, merchants=400)
        assert not np.array_equal(simulate_truth(config, 0).stress, simulate_truth(config, 1).stress)

    def test_more_users_leave_the_labels_of_the_first_alone(self) -> None:
        few, many = configured(users=100, merchants=400), configured(users=10_000, merchants=400)
        assert truth_chunk(few, 0).equals(truth_chunk(many, 0).slice(0, 100))


class TestLabels:
    @settings(deadline=None, max_examples=20)
    @given(st.floats(0.02, 0.05))
    def test_the_intercept_gives_the_rate(self, rate: float) -> None:
        # Against draws of the risk.
        risk = LOGIT_SD * np.random.default_rng(1).normal(0, 1, 400_000)
        assert (1 / (1 + np.exp(-(risk + solve_intercept(rate))))).mean() == pytest.approx(rate, rel=0.02)

    @pytest.mark.parametrize("rate", [0.02, 0.05])
    def test_so_many_default(self, rate: float) -> None:
        config = configured(users=20_000, default_rate=rate)
        truths = [simulate_truth(config, chunk) for chunk in range(chunk_count(config.users))]
        label = np.concatenate([truth.label for truth in truths])
        probability = np.concatenate([truth.probability for truth in truths])
        assert len(label) == 20_000
        assert label.mean() == pytest.approx(rate, abs=4 * np.sqrt(rate / 20_000))
        # The label is drawn with the probability: among those given about a half, about a half default.
        near = (probability > 0.4) & (probability < 0.6)
        assert near.sum() > 50
        assert label[near].mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(near.sum()))

    def test_each_user_is_observed_once_with_the_configured_shares(self) -> None:
        config = configured(users=20_000)
        days = np.concatenate([simulate_truth(config, chunk).observed_day for chunk in range(80)])
        assert set(days.tolist()) == set(config.observation_days)
        assert (days == 180).mean() == pytest.approx(0.65, abs=0.015)

    def test_days_of_a_label(self) -> None:
        config = configured(users=250, start_on="2025-01-01", observation_days=[180], observation_shares=[1.0])
        table = truth_chunk(config, 0).to_pandas()
        assert {str(d) for d in table["observed_on"]} == {"2025-06-30"}
        assert {str(d) for d in table["matured_on"]} == {"2025-07-30"}

    def test_stress_is_what_makes_a_default_likely(self) -> None:
        truth = simulate_truth(configured(users=250), 0)
        stress = truth.stress[:, PAST_WEEKS : PAST_WEEKS + 26].mean(axis=1)
        assert np.corrcoef(stress, np.log(truth.probability))[0, 1] > 0.8


class TestMerchants:
    @settings(deadline=None, max_examples=20)
    @given(st.integers(200, 3000), st.integers(60, 400))
    def test_every_kind_has_some(self, count: int, days: int) -> None:
        merchants = make_merchants(7, count, days)
        assert len(merchants.ids) == len(merchants.names) == len(merchants.cumulative) == count
        assert len(set(merchants.ids.to_pylist())) == count
        assert (np.diff(merchants.bounds) > 0).all()
        # A successor is open all the time.
        assert (merchants.opens[merchants.successor] == 0).all()
        assert (merchants.closes[merchants.successor] == days).all()

    def test_popularity_has_a_heavy_tail(self, population: Simulated) -> None:
        visits = np.sort(np.bincount(population.events.merchant[population.of("groceries")]))[::-1]
        assert visits[: len(visits) // 100 + 1].sum() > 0.1 * visits.sum()

    def test_merchants_appear_and_die(self, population: Simulated) -> None:
        merchants, day = population.merchants, population.events.second // DAY
        assert (merchants.opens > 0).mean() == pytest.approx(0.15, abs=0.03)
        assert (merchants.closes < population.config.days).mean() == pytest.approx(0.15, abs=0.03)
        assert (day >= merchants.opens[population.events.merchant]).all()
        assert (day < merchants.closes[population.events.merchant]).all()

    def test_words_tell_the_kind_where_the_category_text_does_not(self, population: Simulated) -> None:
        names, text = population.merchants.names.to_pylist(), population.merchants.category_text.to_pylist()
        silent = [name for name, category in zip(names, text, strict=True) if category in (None, "other")]
        nouns = tuple(noun for kind in CATEGORIES for noun in kind.nouns)
        assert len(silent) == pytest.approx(0.1 * len(names), rel=0.3)
        assert all(name.endswith(nouns) for name in silent)


class TestHabits:
    def test_payments_stay_within_the_period(self, population: Simulated) -> None:
        assert population.events.second.min() >= 0
        assert population.events.second.max() < population.config.days * DAY

    def test_users_differ_widely_in_activity(self, population: Simulated) -> None:
        payments = population.per_user(np.ones(len(population.events), bool)) / population.config.days
        assert np.median(payments) == pytest.approx(0.8, rel=0.2)
        assert np.quantile(payments, 0.95) > 4 * np.quantile(payments, 0.05)

    def test_configured_to_a_median_of_a_thousand_payments_a_half_year(self) -> None:
        _, _, events = simulate_chunk(configured(users=250, payments_per_user_day=5.5), 0)
        half_year = np.bincount(events.user[events.second < 182 * DAY], minlength=250)
        assert np.median(half_year) == pytest.approx(1000, rel=0.15)

    def test_salary_alone_comes_in_and_monthly(self, population: Simulated) -> None:
        salary, payout = population.of("salary"), population.of("lender")
        assert (population.events.cents[salary] < 0).all()
        assert (population.events.cents[~salary & ~payout] > 0).all()
        user, second = population.events.user[salary], population.events.second[salary]
        order = np.lexsort((second, user))
        gaps = np.diff(second[order])[np.diff(user[order]) == 0] / DAY
        assert gaps.mean() == pytest.approx(30.4, abs=0.5)
        assert np.quantile(gaps, [0.01, 0.99]) == pytest.approx(np.array([28, 33]), abs=2.5)

    def test_banks_book_bills_and_salaries_on_working_days_when_they_are_on_time(self, population: Simulated) -> None:
        weekday = (population.events.second // DAY + population.config.start_on.weekday()) % 7
        assert (weekday[population.of("salary")] < 5).all()

    def test_shops_keep_hours(self, population: Simulated) -> None:
        hours = population.hour[population.of("groceries")]
        assert ((hours >= 8) & (hours <= 20)).mean() > 0.9
        commute = population.hour[population.of("transport")]
        assert np.isin(commute, [7, 8, 16, 17, 18]).mean() > 0.4

    def test_weekdays_and_months_have_their_seasons(self, population: Simulated) -> None:
        day = population.events.second // DAY
        weekend = (day + population.config.start_on.weekday()) % 7 >= 5
        assert weekend[population.of("restaurants")].mean() > 2 / 7 > weekend[population.of("transport")].mean()
        leisure = day[population.of("leisure")]
        july, june = (leisure >= 181) & (leisure < 212), (leisure >= 151) & (leisure < 181)
        assert july.sum() / 31 > 1.2 * june.sum() / 30

    def test_each_has_merchants_of_his_own(self, population: Simulated) -> None:
        mask = population.of("groceries")
        pairs, visits = np.unique(
            np.stack([population.events.user[mask], population.events.merchant[mask]]), axis=1, return_counts=True
        )
        favourite = np.zeros(USERS)
        np.maximum.at(favourite, pairs[0], visits)
        total = population.per_user(mask)
        assert np.median((favourite / np.maximum(total, 1))[total >= 20]) > 0.3

    @pytest.mark.parametrize("kind", [category.hours for category in CATEGORIES])
    def test_hours_are_a_distribution(self, kind: str) -> None:
        cumulative = hour_distribution(kind)
        assert cumulative.shape == (24,)
        assert cumulative[-1] == 1 and (np.diff(cumulative) > 0).all()

    def test_visited_kinds_come_first(self) -> None:
        assert [kind.name for kind in VISITED] == [kind.name for kind in CATEGORIES[: len(VISITED)]]
        assert CODES["lender"] == len(VISITED)


class TestDistress:
    def test_bills_come_later_month_by_month(
        self, population: Simulated, recovering_and_sinking: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    ) -> None:
        recovering, sinking = recovering_and_sinking
        rent = population.of("rent")
        user, day = population.events.user[rent], population.events.second[rent] / DAY
        # From March and April, to June and July, each against the calendar's own 122 days.
        means = []
        for first, last in ((59, 120), (181, 242)):
            within = (day >= first) & (day < last)
            # Days into a month of the middle of each user's payments: a circle, as bills slip over its end.
            angle = np.exp(2j * np.pi * (day[within] - first) / 30.5)
            means.append(
                np.bincount(user[within], angle.real, USERS) + 1j * np.bincount(user[within], angle.imag, USERS)
            )
        slip = np.angle(means[1] * np.conj(means[0])) * 30.5 / (2 * np.pi)
        paid = (np.abs(means[0]) > 0.5) & (np.abs(means[1]) > 0.5)
        assert slip[sinking & paid].mean() > slip[recovering & paid].mean() + 2

    def test_bills_are_missed(
        self, population: Simulated, healthy_and_distressed: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    ) -> None:
        healthy, distressed = healthy_and_distressed
        rents = population.per_user(population.of("rent"))
        assert rents[distressed & (rents > 0)].mean() < rents[healthy & (rents > 0)].mean() - 0.3

    def test_staples_fall_below_the_own_level(
        self, population: Simulated, recovering_and_sinking: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    ) -> None:
        recovering, sinking = recovering_and_sinking
        spent, day = population.events.cents.astype(float), population.events.second // DAY
        staples = population.of("groceries", "transport")
        early = population.per_user(staples & (day < 84), spent)
        late = population.per_user(staples & (day >= 154) & (day < 238), spent)
        assert late[sinking].sum() / early[sinking].sum() < 0.85 * late[recovering].sum() / early[recovering].sum()

    @pytest.mark.parametrize("kind", ["lender", "pawn", "betting"])
    def test_more_pay_lenders_pawn_and_betting(
        self, population: Simulated, healthy_and_distressed: tuple[NDArray[np.bool_], NDArray[np.bool_]], kind: str
    ) -> None:
        healthy, distressed = healthy_and_distressed
        payments = population.per_user(population.of(kind))
        assert payments[distressed].mean() > 1.5 * payments[healthy].mean()
        # No flag: some of the healthy do too, and some of the distressed do not.
        assert (payments[healthy] > 0).mean() > 0.02
        assert (payments[distressed] == 0).mean() > 0.05

    def test_cash_at_night(
        self, population: Simulated, healthy_and_distressed: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    ) -> None:
        healthy, distressed = healthy_and_distressed
        cash = population.of("cash")
        night = cash & ((population.hour < 5) | (population.hour == 23))
        by_night, by_day = population.per_user(night), population.per_user(cash)
        share = {
            name: by_night[who].sum() / by_day[who].sum()
            for name, who in (("healthy", healthy), ("distressed", distressed))
        }
        assert share["distressed"] > 1.4 * share["healthy"] > 0
