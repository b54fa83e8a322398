"""Drift counted in Spark is drift counted by hand."""

from __future__ import annotations

from datetime import date

import numpy as np
from fold_rows import fold_row, pack, payment, random_rows
from pyspark.sql import SparkSession
from score_rows import score_frame, score_row

from lbsf.config import load_config
from lbsf.evaluation.reference import Reference, add, count, drift, make_reference
from lbsf.monitoring.drift import count_inputs, count_scores, drift_measures
from lbsf.schemas import FOLDS
from lbsf.schemas.scores import THIN_BAND

LIMITS = load_config("conf/base.yaml").monitoring
NIGHT = date(2025, 7, 1)


def reference(users: int = 400) -> Reference:
    return make_reference(count(pack(random_rows(users, seed=1))), np.random.default_rng(0).beta(1, 20, users))


def folds(spark: SparkSession, rows: list[dict[str, object]], partitions: int):  # type: ignore[no-untyped-def]
    full = [{**row, "user_bucket": 0, "payments_version": 0} for row in rows]
    return spark.createDataFrame(full, FOLDS.struct).repartition(partitions)


def test_inputs_counted_in_tasks_are_those_counted_at_once(spark: SparkSession) -> None:
    rows = random_rows(60, seed=2)
    expected = count(pack(rows))
    for partitions in (1, 5):
        found = count_inputs(folds(spark, rows, partitions))
        assert set(found) == set(expected)
        for name, counts in add([expected]).items():
            np.testing.assert_array_equal(found[name], counts)
    nobody_pays = count_inputs(folds(spark, [fold_row("a", {}), fold_row("b", {})], 1))
    assert nobody_pays["payments"].tolist() == [2] and not len(nobody_pays["category"])
    assert set(drift(reference(), nobody_pays)) == {"payments", "merchants", "history_days"}


def test_scores_fall_into_the_references_bins_without_thin_files(spark: SparkSession) -> None:
    bins = reference().score
    probability = np.append(np.random.default_rng(3).beta(1, 20, 50).round(6), bins.edges[3])
    rows = [score_row(f"u{number}", NIGHT, float(p)) for number, p in enumerate(probability)]
    rows += [score_row(f"t{number}", NIGHT, 0.04, THIN_BAND) for number in range(9)]
    found = count_scores(score_frame(spark, rows), bins)
    assert found.sum() == 51
    np.testing.assert_allclose(found / 51, bins.shares_of(probability))


def test_what_moved_breaches_and_chance_does_not(spark: SparkSession) -> None:
    known = reference()
    same = [
        score_row(f"u{n}", NIGHT, round(float(p), 6)) for n, p in enumerate(np.random.default_rng(5).beta(1, 20, 300))
    ]
    inputs = count(pack(random_rows(300, seed=4)))
    found = drift_measures(score_frame(spark, same), inputs, known, LIMITS)
    assert [one.segment for one in found] == ["all", *known.numbers, *known.codes]
    assert not any(one.breached for one in found)
    assert {one.counted for one in found if one.segment in ("all", "payments", "merchants")} == {300}
    # Of few users chance explains more than is allowed.
    few = drift_measures(score_frame(spark, same[:20]), count(pack(random_rows(20, seed=4))), known, LIMITS)
    assert max(one.threshold or 0 for one in few) > 4 * LIMITS.max_input_psi
    assert not any(one.breached for one in few)

    moved = [row | {"probability": min(row["probability"] * 4, 1.0)} for row in same]
    refunds = [fold_row(f"u{n}", {"m": [payment(5, cents=-100)] * 9}) for n in range(300)]
    found = drift_measures(score_frame(spark, moved), count(pack(refunds)), known, LIMITS)
    breached = {(one.measure, one.segment) for one in found if one.breached}
    assert {("score_psi", "all"), ("input_psi", "refund"), ("input_psi", "age_days")} <= breached

    thin = [score_row("t", NIGHT, 0.04, THIN_BAND)]
    assert drift_measures(score_frame(spark, thin), inputs, known, LIMITS)[0][2:] == (None, None, False, 0)
