"""Which labels go where."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from pyspark.sql import SparkSession

from lbsf.config.models import ExamplesConfig
from lbsf.examples import split_of
from lbsf.schemas import LABELS

CUT = date(2025, 8, 1)
BEFORE, AT = date(2025, 6, 1), CUT
HASHED = ExamplesConfig(validation_share=0.2, test_share=0.1, out_of_time_from=None)
BY_DATE = ExamplesConfig(validation_share=0.2, test_share=0.1, out_of_time_from=CUT)


def splits(spark: SparkSession, labels: list[tuple[str, date, date]], config: ExamplesConfig) -> list[str | None]:
    rows = [(user, observed_on, 0, matured_on) for user, observed_on, matured_on in labels]
    found = split_of(spark.createDataFrame(rows, LABELS.struct), config).collect()
    by_key = {(row["user_id"], row["observed_on"]): row["split"] for row in found}
    return [by_key[user, observed_on] for user, observed_on, _ in labels]


def test_splits_by_user_are_part_of_the_contract(spark: SparkSession) -> None:
    # Models are compared across months on the same test users: a user's split never changes.
    users = {"u1": "train", "u2": "train", "u5": "test", "u12": "test", "u13": "validation", "ü": "train"}
    assert splits(spark, [(user, BEFORE, AT) for user in users], HASHED) == list(users.values())


@pytest.mark.parametrize(
    ("observed_on", "matured_on", "split"),
    [
        pytest.param(BEFORE, BEFORE + timedelta(days=30), "train", id="known well before the cut"),
        pytest.param(BEFORE, CUT, "train", id="known on the day of the cut"),
        pytest.param(BEFORE, CUT + timedelta(days=1), None, id="known a day after the cut: left out"),
        pytest.param(CUT - timedelta(days=1), CUT + timedelta(days=29), None, id="observed just before: left out"),
        pytest.param(CUT, CUT + timedelta(days=30), "out_of_time", id="observed on the day of the cut"),
        pytest.param(CUT + timedelta(days=9), CUT + timedelta(days=39), "out_of_time", id="observed after the cut"),
    ],
)
def test_the_out_of_time_day(spark: SparkSession, observed_on: date, matured_on: date, split: str | None) -> None:
    assert splits(spark, [("u1", observed_on, matured_on)], BY_DATE) == [split]


def test_shares_are_kept_and_a_user_has_one_split(spark: SparkSession) -> None:
    users = [f"user-{number:06d}" for number in range(10_000)]
    labels = [(user, day, day) for user in users for day in (BEFORE, BEFORE + timedelta(days=31))]
    found = splits(spark, labels, HASHED)
    first, second = found[::2], found[1::2]
    assert first == second
    # Four standard deviations of a binomial count.
    assert first.count("test") == pytest.approx(1000, abs=120)
    assert first.count("validation") == pytest.approx(2000, abs=160)
    assert first.count("train") == 10_000 - first.count("test") - first.count("validation")
