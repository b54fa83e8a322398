"""Matured scores: which label meets which score, and what is measured then."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession
from score_rows import score_frame, score_row

from lbsf.config import load_config
from lbsf.evaluation.delong import auc_interval
from lbsf.evaluation.metrics import evaluate
from lbsf.monitoring.matured import matured_counts, matured_measures
from lbsf.schemas import LABELS

LIMITS = load_config("conf/base.yaml", ["monitoring.matured_days=30", "monitoring.score_age_days=7"]).monitoring
NIGHT = date(2025, 7, 1)
OBSERVED = date(2025, 5, 20)


def back(day: date, days: int) -> date:
    return day - timedelta(days=days)


def test_a_label_meets_its_latest_score_not_after_observed_on(spark: SparkSession) -> None:
    scores = [
        score_row("same_day", OBSERVED, 0.1),
        score_row("same_day", back(OBSERVED, 1), 0.9),
        score_row("same_day", back(OBSERVED, -1), 0.9),  # knows what came after
        score_row("week_old", back(OBSERVED, 7), 0.2),
        score_row("too_old", back(OBSERVED, 8), 0.3),
        score_row("later", back(OBSERVED, -1), 0.4),
        score_row("twice", OBSERVED, 0.02),
        score_row("twice", back(OBSERVED, 10), 0.02),
        score_row("tomorrow", OBSERVED, 0.5),
        score_row("long_ago", OBSERVED, 0.5),
    ]
    labels = [
        ("same_day", OBSERVED, 1, NIGHT),
        ("week_old", OBSERVED, 0, back(NIGHT, 29)),
        ("too_old", OBSERVED, 1, NIGHT),
        ("later", OBSERVED, 1, NIGHT),
        ("unscored", OBSERVED, 1, NIGHT),
        ("twice", OBSERVED, 1, NIGHT),
        ("twice", back(OBSERVED, 10), 0, NIGHT),
        ("tomorrow", OBSERVED, 1, back(NIGHT, -1)),  # nobody knows it yet
        ("long_ago", OBSERVED, 1, back(NIGHT, 30)),
    ]
    frame = spark.createDataFrame(labels, LABELS.struct)
    found = matured_counts(frame, score_frame(spark, scores), NIGHT, LIMITS)
    assert [tuple(row) for row in found.itertuples(index=False)] == [
        ("B", 0.02, 2, 1),
        ("D", 0.1, 1, 1),
        ("E", 0.2, 1, 0),
    ]
    none = matured_counts(frame, score_frame(spark, scores), back(NIGHT, 300), LIMITS)
    assert none.empty and list(none.columns) == ["band", "probability", "users", "defaults"]
    assert [one.value for one in matured_measures(none, LIMITS)][:2] == [0, 0]


def sample(users: int, factor: float = 1.0, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Counts, and the very labels and probabilities, which are right where `factor` is 1."""
    rng = np.random.default_rng(seed)
    truth = np.round(rng.beta(1, 9, users), 2)
    label = (rng.random(users) < truth).astype(float)
    rows = pd.DataFrame({"probability": np.round(truth * factor, 6), "label": label})
    rows["band"] = np.where(rows["probability"] <= 0.05, "A", "B")
    counts = rows.groupby(["band", "probability"])["label"].agg(users="size", defaults="sum").reset_index()
    return counts, label, rows["probability"].to_numpy()


def test_measures_over_counts_are_those_over_the_users() -> None:
    counts, label, probability = sample(5_000)
    assert len(counts) < 100
    found = {(one.measure, one.segment): one for one in matured_measures(counts, LIMITS)}
    expected = evaluate(label, probability)
    for measure, name in (("matured_auc", "auc"), ("matured_ks", "ks"), ("matured_calibration", "calibration")):
        assert found[measure, "all"].value == pytest.approx(expected[name])
        assert found[measure, "all"].threshold is not None and not found[measure, "all"].breached
    limits = found["matured_auc_low", "all"].value, found["matured_auc_high", "all"].value
    assert limits == pytest.approx(auc_interval(label, probability))
    assert found["matured_users", "all"].value == 5_000 and found["matured_defaults", "all"].value == label.sum()
    inside = probability > 0.05
    assert found["matured_default_rate", "B"][2:] == (pytest.approx(label[inside].mean()), None, False, inside.sum())
    assert found["matured_mean_probability", "B"].value == pytest.approx(probability[inside].mean())
    assert found["matured_default_rate", "all"].value == pytest.approx(label.mean())


def test_scores_that_say_nothing_or_say_too_much_breach() -> None:
    counts, _, _ = sample(5_000, factor=0.3)
    tight = {one.measure: one for one in matured_measures(counts, LIMITS) if one.breached}
    assert set(tight) == {"matured_calibration"} and tight["matured_calibration"].threshold == 0.5
    counts, _, _ = sample(5_000)
    shuffled = counts.assign(defaults=(counts["users"] * 0.1).round())
    found = {one.measure for one in matured_measures(shuffled, LIMITS) if one.breached}
    assert found == {"matured_auc", "matured_ks"}


def test_few_defaults_are_shown_and_not_judged() -> None:
    counts, _, _ = sample(300, factor=0.1)
    assert counts["defaults"].sum() < LIMITS.min_defaults
    assert not any(one.breached or one.threshold is not None for one in matured_measures(counts, LIMITS))
    one_class = matured_measures(counts.assign(defaults=0), LIMITS)
    assert {one.measure: one.value for one in one_class}["matured_auc"] is None
