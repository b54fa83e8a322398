"""Aggregates against plain loops over each user's payments."""

from __future__ import annotations

from datetime import date, timedelta
from math import log, log1p
from statistics import mean, median
from typing import Any

import numpy as np
import pytest
from fold_rows import AS_OF, fold_row, pack, payment, random_rows

from lbsf.baselines.aggregates import Vocabulary, aggregate_features
from lbsf.folds.packed import PackedFolds
from lbsf.folds.views import FIELDS, View

DAY = 86_400
NAN = float("nan")
Row = dict[str, Any]
Payment = dict[str, Any]


def table_of(packed: PackedFolds, vocabulary: Vocabulary | None = None) -> list[dict[str, float]]:
    features, names = aggregate_features(packed, vocabulary or Vocabulary.of([packed]))
    assert features.shape == (len(packed), len(names)) and features.dtype == np.float32
    assert len(set(names)) == len(names)
    return [dict(zip(names, row.tolist(), strict=True)) for row in features]


def table(rows: list[Row], vocabulary: Vocabulary | None = None) -> list[dict[str, float]]:
    return table_of(pack(rows), vocabulary)


def payments_of(row: Row) -> list[Payment]:
    """The payments of one row, in the row's order."""
    merchants = [m for m, count in enumerate(row["merchant_len"]) for _ in range(count)]
    end, words, names = int(pack([row]).as_of[0]), iter(row["description_token"]), iter(row["merchant_token"])
    name_of = [[next(names) for _ in range(count)] for count in row["merchant_token_len"]]
    return [
        {
            "age": (end - at) / DAY,
            "at": at,
            "amount": cents / 100,
            "category": category,
            "channel": channel,
            "merchant": merchant,
            "words": [next(words) for _ in range(count)],
            "name": name_of[merchant],
        }
        for at, cents, category, channel, merchant, count in zip(
            row["paid_at"],
            row["amount_cents"],
            row["category"],
            row["channel"],
            merchants,
            row["description_token_len"],
            strict=True,
        )
    ]


def day_of(p: Payment) -> date:
    return date(1970, 1, 1) + timedelta(days=p["at"] // DAY)


def share(part: float, whole: float) -> float:
    return part / whole if whole else NAN


def average(values: list[float]) -> float:
    return mean(values) if values else NAN


def same(found: dict[str, float], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-3, nan_ok=True), name


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Users of all kinds; bills that slip, salaries and quiet merchants among them."""
    rng = np.random.default_rng(5)
    found = random_rows(25, seed=1)
    for user in range(15):
        merchants = {}
        for number in range(rng.integers(1, 6)):
            beat, slip = rng.choice([7.0, 14.0, 30.4, 30.4, 30.4]), rng.uniform(0, 4)
            due = np.arange(rng.uniform(0, 40), 178, beat)[:: rng.choice([1, 1, 2])]
            ages = [age + rng.uniform(0, 2) + slip * place for place, age in enumerate(due) if rng.random() < 0.9]
            sign = -1 if number == 0 else 1
            merchants[f"m{number}"] = [
                payment(float(age), sign * int(rng.integers(500, 90_000)), category=3) for age in ages if age < 179
            ]
        found.append(fold_row(f"v{user}", {name: visits for name, visits in merchants.items() if visits}))
    return found


def test_windows_and_buckets_equal_a_plain_loop(rows: list[Row]) -> None:
    for row, found in zip(rows, table(rows), strict=True):
        payments = payments_of(row)
        first = {p["merchant"]: p["age"] for p in reversed(payments)}
        span = max((p["age"] for p in payments), default=NAN)
        same(found, {"days_since_last": min((p["age"] for p in payments), default=NAN), "history_days": span})
        for days in (30, 60, 90, 180):
            inside = [p for p in payments if p["age"] <= days]
            amounts = [p["amount"] for p in inside]
            level = average(amounts)
            spent, came_in = sum(max(a, 0) for a in amounts), sum(min(a, 0) for a in amounts)
            new = [p for p in inside if first[p["merchant"]] <= days]
            expected = {
                "count": len(inside),
                "sum": sum(amounts),
                "mean": level,
                "max": max(amounts, default=NAN),
                "std": average([(a - level) ** 2 for a in amounts]) ** 0.5,
                "night_share": average([p["at"] % DAY < 6 * 3600 for p in inside]),
                "weekend_share": average([day_of(p).weekday() >= 5 for p in inside]),
                "merchants": len({p["merchant"] for p in inside}),
                "merchants_new": len({p["merchant"] for p in new}),
                "spent_new_share": share(sum(max(p["amount"], 0) for p in new), spent),
                "negative_count": sum(a < 0 for a in amounts),
                "negative_sum": came_in,
                "spent_per_income": share(spent, -came_in),
                "category_3_count": sum(p["category"] == 3 for p in inside),
                "category_3_sum": sum(p["amount"] for p in inside if p["category"] == 3),
                "channel_2_count": sum(p["channel"] == 2 for p in inside),
            }
            same(found, {f"{name}_{days}": value for name, value in expected.items()})
        chosen = [p for p in payments if p["category"] == 3]
        expected = {
            "days_since_last": min((p["age"] for p in chosen), default=NAN),
            "mean": average([p["amount"] for p in chosen]),
            "night_share": average([p["at"] % DAY < 6 * 3600 for p in chosen]),
        }
        for days in (30, 60):
            late, before = ([p for p in chosen if (p["age"] <= days) == side] for side in (True, False))
            rate, rate_before = (len(late) + 0.5) / days, (len(before) + 0.5) / (span - days)
            expected[f"rate_change_{days}"] = log(rate / rate_before) if span - days >= 10 else NAN
            sizes = [average([log1p(abs(p["amount"])) for p in part]) for part in (late, before)]
            expected[f"size_change_{days}"] = sizes[0] - sizes[1]
        same(found, {f"category_3_{name}": value for name, value in expected.items()})


def test_words_are_counted_once_a_payment(rows: list[Row]) -> None:
    met = 0
    for row, found in zip(rows, table(rows), strict=True):
        payments = payments_of(row)
        for word in range(1, 32):
            for kind, list_name in (("word", "words"), ("name", "name")):
                counts = [p[list_name].count(word) for p in payments]
                lately = [p[list_name].count(word) for p in payments if p["age"] <= 60]
                if f"{kind}_{word}_count" in found:
                    met += sum(counts)
                    same(found, {f"{kind}_{word}_count": sum(counts), f"{kind}_{word}_count_60": sum(lately)})
    assert met > 500


def plain_habits(row: Row) -> dict[str, float]:
    """Every habit from its definition, merchant by merchant."""
    payments = payments_of(row)
    merchants = [[p for p in payments if p["merchant"] == m] for m in range(len(row["merchant_len"]))]
    spent = sorted((sum(max(p["amount"], 0) for p in visits) for visits in merchants), reverse=True)
    ages = sorted((p["age"] for p in payments), reverse=True)
    found = {f"top{most}_share": share(sum(spent[:most]), sum(spent)) for most in (1, 3, 5)}
    found["concentration"] = share(sum(s**2 for s in spent), sum(spent) ** 2)
    found["once_share"] = average([float(len(visits) == 1) for visits in merchants])
    found["longest_silence"] = max((old - new for old, new in zip(ages, [*ages[1:], 0.0], strict=False)), default=NAN)

    of_kind: dict[str, list[dict[str, float]]] = {"recurring": [], "bill": [], "income": []}
    for visits in merchants:
        if len(visits) < 3:
            continue
        gaps = [old["age"] - new["age"] for old, new in zip(visits, visits[1:], strict=False)]
        usual, silence = median(gaps), visits[-1]["age"]
        offset = [0]
        for old, new in zip(visits, visits[1:], strict=False):
            offset.append(offset[-1] + (day_of(new).day - day_of(old).day + 15) % 30 - 15)
        lateness = [float(days - min(offset)) for days in offset]
        halves = [[p["age"] <= 60 for p in visits].index(True) if visits[-1]["age"] <= 60 else len(visits)] * 2
        late, before = slice(halves[0], None), slice(None, halves[1])
        sizes = [log1p(abs(p["amount"])) for p in visits]
        log_gaps = [log1p(gap) for gap in gaps]
        gaps_late = [g for g, p in zip(log_gaps, visits[1:], strict=True) if p["age"] <= 60]
        gaps_before = [g for g, p in zip(log_gaps, visits[1:], strict=True) if p["age"] > 60]
        facts = {
            "gap": usual,
            "stretch": max(gaps) / usual,
            "longest": max(gaps),
            "silent": float(silence > 2 * usual + 7),
            "overdue": silence - usual,
            "missed": float(sum(gap > 1.6 * usual for gap in gaps)),
            "gap_change": average(gaps_late) - average(gaps_before),
            "size_change": average(sizes[late]) - average(sizes[before]),
            "late": average(lateness),
            "late_recent": average(lateness[late]),
            "late_before": average(lateness[before]),
            "late_max": max(lateness),
            "spread": average([(days - average(lateness)) ** 2 for days in lateness]) ** 0.5,
            "drift": average(lateness[late]) - average(lateness[before]),
        }
        of_kind["recurring"].append(facts)
        balance = sum(p["amount"] for p in visits)
        if 24 <= usual <= 38 and balance:
            of_kind["bill" if balance > 0 else "income"].append(facts)

    def over(kind: str, fact: str) -> list[float]:
        return [facts[fact] for facts in of_kind[kind] if facts[fact] == facts[fact]]

    silent = over("recurring", "silent")
    return found | {
        "recurring_count": len(of_kind["recurring"]),
        "recurring_gap_mean": average(over("recurring", "gap")),
        "recurring_stretch_mean": average(over("recurring", "stretch")),
        "recurring_stretch_max": max(over("recurring", "stretch"), default=NAN),
        "recurring_silent": sum(silent),
        "recurring_silent_share": average(silent),
        "recurring_gap_change": average(over("recurring", "gap_change")),
        "recurring_size_change": average(over("recurring", "size_change")),
        "bill_count": len(of_kind["bill"]),
        "bill_gap_max": max(over("bill", "longest"), default=NAN),
        "bill_overdue_mean": average(over("bill", "overdue")),
        "bill_overdue_max": max(over("bill", "overdue"), default=NAN),
        "bill_missed": sum(over("bill", "missed")),
        "bill_late_mean": average(over("bill", "late")),
        "bill_late_recent": average(over("bill", "late_recent")),
        "bill_late_before": average(over("bill", "late_before")),
        "bill_late_max": max(over("bill", "late_max"), default=NAN),
        "bill_late_spread": average(over("bill", "spread")),
        "bill_drift_mean": average(over("bill", "drift")),
        "bill_drift_max": max(over("bill", "drift"), default=NAN),
        "bill_size_change": average(over("bill", "size_change")),
        "income_count": len(of_kind["income"]),
        "income_overdue_max": max(over("income", "overdue"), default=NAN),
        "income_size_change": average(over("income", "size_change")),
    }


def test_habits_equal_a_plain_loop(rows: list[Row]) -> None:
    found = table(rows)
    for row, columns in zip(rows, found, strict=True):
        same(columns, plain_habits(row))
    names = list(plain_habits(rows[0]))
    assert {name for name in found[0] if name.startswith(("bill", "income", "recurring", "top"))} <= set(names)
    # Every habit is met, or nothing was compared.
    for name in names:
        assert sum(columns[name] == columns[name] and columns[name] != 0 for columns in found) > 2, name


def test_a_bill_that_is_paid_later_each_month_drifts() -> None:
    def bill(days_later: int) -> dict[str, list[Payment]]:
        days = [date(2025, month, 3 + days_later * place) for place, month in enumerate(range(2, 7))]
        return {"rent": [payment((AS_OF - day).days - 0.5, 80_000) for day in days]}

    steady, slipping = table([fold_row("s", bill(0)), fold_row("d", bill(4))])
    assert steady["bill_count"] == slipping["bill_count"] == 1
    assert steady["bill_drift_mean"] == steady["bill_late_max"] == 0
    assert slipping["bill_late_max"] == 16 and slipping["bill_drift_mean"] == pytest.approx(14 - 4)
    assert slipping["bill_missed"] == 0


def test_trends_point_forward_in_time() -> None:
    # Month 0 is the newest: one payment 170 days ago, then more and more.
    rising = [payment(175 - 30 * month, 1000 * (month + 1)) for month in range(6)]
    steady = [payment(175 - 30 * month, 1000) for month in range(6)]
    (up, flat) = table([fold_row("up", {"m": rising}), fold_row("flat", {"m": steady})])
    assert [up[f"month_sum_{month}"] for month in range(6)] == [60, 50, 40, 30, 20, 10]
    assert up["month_sum_trend"] == pytest.approx(10 / 35)  # 10 a month, on a level of 35
    assert up["month_sum_change"] == pytest.approx(10 / 35)
    assert up["month_count_trend"] == 0 and flat["month_sum_trend"] == 0


def test_the_vocabulary_is_the_most_frequent_buckets_of_the_training_folds() -> None:
    visits = [payment(5, category=c, words=(c,)) for c in (7, 7, 7, 2, 2, 9, 9, 4)]
    training = pack([fold_row("u", {"m": visits}, names={"m": (5, 5, 6)})])
    vocabulary = Vocabulary.of([training.take(np.array([0])), training], categories=3, words=2, names=1)
    assert vocabulary.categories.tolist() == [7, 2, 9]  # a tie by bucket
    assert vocabulary.words.tolist() == [7, 2] and vocabulary.names.tolist() == [5]
    found = table([fold_row("v", {"m": [payment(5, category=11)]})], vocabulary)
    assert found[0]["category_7_count_30"] == 0 and "category_11_count_30" not in found[0]


def test_users_do_not_touch_each_other(rows: list[Row]) -> None:
    vocabulary = Vocabulary.of([pack(rows)])
    for row, found in zip(rows, table(rows, vocabulary), strict=True):
        assert found == pytest.approx(table([row], vocabulary)[0], rel=1e-5, abs=1e-5, nan_ok=True)


def test_shorter_views_and_blank_fields_have_aggregates_too(rows: list[Row]) -> None:
    packed = pack(rows)
    whole = table_of(packed)
    for days in (45, 90):
        for short, long in zip(table_of(View(days=days).of(packed)), whole, strict=True):
            assert short["count_180"] == short["count_90"] == (long["count_90"] if days == 90 else short["count_60"])
            same(short, {f"{name}_30": long[f"{name}_30"] for name in ("sum", "night_share", "category_3_count")})
    for field in FIELDS:
        columns = table_of(View(without=field).of(packed))
        assert not any(np.isinf(value) for user in columns for value in user.values())
        kind = {"description": "word_", "merchant_name": "name_"}.get(field)
        assert kind is None or not any(name.startswith(kind) for name in columns[0])
    assert table_of(View(unfolded=True).of(packed))[3]["merchants_180"] <= 1


def test_no_users_and_no_payments_are_no_trouble() -> None:
    packed = pack(random_rows(4, seed=3))
    vocabulary = Vocabulary.of([packed])
    assert aggregate_features(packed.take(np.zeros(0, np.int64)), vocabulary)[0].shape[0] == 0
    nobody = packed.take(np.array([0, 0]))
    found = table_of(nobody, vocabulary)[1]
    assert nobody.payments == 0 and found["count_30"] == 0 and np.isnan(found["days_since_last"])
    assert list(found) == list(table_of(packed, vocabulary)[0])
