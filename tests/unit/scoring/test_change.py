"""What changed since the night before, against arithmetic by hand."""

from __future__ import annotations

import math
from datetime import date

import pytest
from pyspark.sql import SparkSession

from lbsf.scoring.change import with_change

SINCE = date(2025, 6, 30)
NOW = "user_id string, probability double, thin_file boolean, new_payments int, by_new_payments double"
THEN = "user_id string, probability double, thin_file boolean, model_version string"


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_changes_and_their_sentences(spark: SparkSession) -> None:
    now = [
        ("new", 0.10, False, 3, 0.2),
        ("older", 0.02, False, 1, 0.01),
        ("quiet", 0.021, False, 0, 0.0),
        ("same", 0.1001, False, 2, 0.0),
        ("other model", 0.3, False, 0, 0.0),
        ("thin now", 0.3, True, 1, 0.0),
        ("thin then", 0.3, False, 1, 0.0),
        ("unknown", 0.3, False, 1, 0.0),
        ("certain", 1.0, False, 1, 9.0),
    ]
    then = [
        ("new", 0.08, False, "4"),
        ("older", 0.05, False, "4"),
        ("quiet", 0.03, False, "4"),
        ("same", 0.1, False, "4"),
        ("other model", 0.1, False, "3"),
        ("thin now", 0.1, False, "4"),
        ("thin then", 0.1, True, "4"),
        ("gone", 0.5, False, "4"),
        ("certain", 0.5, False, "4"),
    ]
    found = with_change(spark.createDataFrame(now, NOW), spark.createDataFrame(then, THEN), SINCE, "4")
    assert found.columns == ["user_id", "probability", "thin_file", "change"]
    rows = {row["user_id"]: row["change"] for row in found.collect()}
    assert rows.keys() == {row[0] for row in now}
    for user in ("thin now", "thin then", "unknown"):
        assert rows.pop(user) is None
    earlier = {row[0]: row[1] for row in then}
    for user, change in rows.items():
        probability, new, did = next((row[1], row[3], row[4]) for row in now if row[0] == user)
        assert (change["since"], change["probability"], change["new_payments"], change["by_new_payments"]) == (
            SINCE,
            earlier[user],
            new,
            did,
        )
        if user != "certain":
            moved = log_odds(probability) - log_odds(earlier[user])
            assert change["contribution"] == pytest.approx(moved, abs=1e-4)
    assert rows["certain"]["contribution"] == pytest.approx(log_odds(1 - 1e-6), abs=1e-4)
    assert {user: change["text"] for user, change in rows.items()} == {
        "new": "Rose from 8.0 % on 2025-06-30 to 10.0 %: mostly by 3 new payments.",
        "older": "Fell from 5.0 % on 2025-06-30 to 2.0 %: 1 new payment did little of it, older payments receding did "
        "more.",
        "quiet": "Fell from 3.0 % on 2025-06-30 to 2.1 %: by older payments receding, there is no new one.",
        "same": "Nearly unchanged: 10.0 % after 10.0 % on 2025-06-30.",
        "other model": "Rose from 10.0 % on 2025-06-30 to 30.0 %: another model scored then.",
        "certain": "Rose from 50.0 % on 2025-06-30 to 100.0 %: mostly by 1 new payment.",
    }


def test_the_first_night_has_no_changes(spark: SparkSession) -> None:
    found = with_change(spark.createDataFrame([("u", 0.1, False, None, None)], NOW), None, None, "1")
    assert [row["change"] for row in found.collect()] == [None]
    assert found.schema["change"].dataType.fieldNames() == [
        "since",
        "probability",
        "contribution",
        "new_payments",
        "by_new_payments",
        "text",
    ]
