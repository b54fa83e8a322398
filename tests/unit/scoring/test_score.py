"""Scores in Spark: equal to the same folds scored in one process; ranks against a plain oracle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from chispa import assert_df_equality
from fold_rows import in_table, pack, random_rows, small_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lbsf.models.artifact import save_model
from lbsf.schemas import FOLDS
from lbsf.schemas.scores import REASON_FIELDS, THIN_BAND
from lbsf.scoring import ModelFiles, score_batch, score_folds, with_rank
from lbsf.scoring.rank import band

BANDS = {"A": 0.01, "B": 0.5, "C": 1.0}


def test_tasks_score_like_one_process_whatever_the_partitions(spark: SparkSession, tmp_path: Path) -> None:
    model, card = small_model()
    save_model(tmp_path, model, card)
    rows = random_rows(40, seed=1)
    folds = spark.createDataFrame(in_table(rows), FOLDS.struct)
    files = ModelFiles.read(tmp_path)
    whole = score_folds(folds.coalesce(1), files, batch_users=1000, reasons=2)
    cut = score_folds(folds.repartition(3, "user_id"), files, batch_users=7, reasons=2)
    # Numbers to the noise of float32 sums, which may lie on the border of a rounding; all else exactly.
    by_user = {row["user_id"]: row for row in cut.collect()}
    for row in whole.collect():
        other = by_user[row["user_id"]]
        assert row["probability"] == pytest.approx(other["probability"], abs=2e-6)
        contributions = [reason["contribution"] for reason in row["reasons"]]
        assert contributions == pytest.approx([reason["contribution"] for reason in other["reasons"]], abs=2e-4)
    assert_df_equality(without_numbers(whole), without_numbers(cut), ignore_row_order=True)

    expected = score_batch(model, card, pack(rows), reasons=2)
    merchants = [merchant for row in rows for merchant in row["merchant_id"]]
    place = 0
    for user, row in enumerate(whole.orderBy("user_id").collect()):
        assert row["user_id"] == rows[user]["user_id"]
        assert row["probability"] == pytest.approx(expected.probability[user], abs=1.5e-6)
        assert len(row["reasons"]) == expected.reason_count[user]
        for reason in row["reasons"]:
            assert reason["merchant_id"] == merchants[expected.reason_merchant[place]]
            assert reason["merchant_name"] == f"Name of {reason['merchant_id']}"
            assert reason["contribution"] == pytest.approx(expected.contribution[place], abs=2e-4)
            assert reason["text"].startswith(f"Name of {reason['merchant_id']}: ")
            assert reason["field"] in (None, *REASON_FIELDS)
            assert reason["direction"] == ("raises" if reason["contribution"] > 0 else "lowers")
            place += 1
        assert row["thin_file"] == (rows[user]["payments_kept"] == 0)
        assert row["payments_version"] == 0


def without_numbers(scores: DataFrame) -> DataFrame:
    reasons = F.transform("reasons", lambda reason: reason.dropFields("contribution"))
    return scores.drop("probability").withColumn("reasons", reasons)


def ranked(spark: SparkSession, probabilities: list[float], thin: Sequence[int] = ()) -> DataFrame:
    rows = [(f"u{place:03d}", value, place in thin) for place, value in enumerate(probabilities)]
    return with_rank(spark.createDataFrame(rows, "user_id string, probability double, thin_file boolean"), BANDS)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 30), min_size=1, max_size=30))
def test_percentile_is_the_share_of_users_below(spark: SparkSession, steps: list[int]) -> None:
    probabilities = [step / 30 for step in steps]
    kept = [round(value, 6) for value in probabilities]
    expected = [100 * sum(other < value for other in kept) / len(kept) for value in kept]
    rows = ranked(spark, kept).orderBy("user_id").collect()
    assert [row["percentile"] for row in rows] == pytest.approx(expected, abs=1e-9)


def test_neighbouring_probabilities_keep_their_ranks(spark: SparkSession) -> None:
    # The last decimal that is kept separates users; 0.000003 * 10**6 is 2.9999999999999996.
    rows = ranked(spark, [0.000003, 0.000002, 0.000004, 1.0]).orderBy("user_id").collect()
    assert [row["percentile"] for row in rows] == [25.0, 0.0, 50.0, 75.0]


def test_a_limit_belongs_to_its_own_band(spark: SparkSession) -> None:
    values = {0.0: "A", 0.01: "A", 0.010001: "B", 0.5: "B", 0.500001: "C", 1.0: "C"}
    df = spark.createDataFrame([(value,) for value in values], "probability double")
    found = df.select("probability", band(F.col("probability"), BANDS).alias("band")).collect()
    assert {row["probability"]: row["band"] for row in found} == values


def test_thin_files_stand_outside_the_ranks(spark: SparkSession) -> None:
    rows = ranked(spark, [0.3, 0.07, 0.2, 0.07, 0.6], thin=[1, 3]).orderBy("user_id").collect()
    assert [row["percentile"] for row in rows] == [pytest.approx(100 / 3), None, 0.0, None, pytest.approx(200 / 3)]
    assert [row["band"] for row in rows] == ["B", THIN_BAND, "B", THIN_BAND, "C"]
    everyone = ranked(spark, [0.07, 0.07], thin=[0, 1]).collect()
    assert [row["percentile"] for row in everyone] == [None, None]
