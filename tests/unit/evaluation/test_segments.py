from __future__ import annotations

import re

import numpy as np
import pytest
from fold_rows import fold_row, pack, payment, random_rows
from sklearn.metrics import roc_auc_score

from lbsf.evaluation.delong import auc_interval
from lbsf.evaluation.metrics import Floats
from lbsf.evaluation.segments import (
    HISTORY_BANDS,
    Names,
    describe,
    each_band,
    segment_metrics,
    segment_table,
    segment_users,
)
from lbsf.folding import truncation


def scored() -> tuple[Floats, Floats, dict[str, Names]]:
    """400 users in two bands; all of a third band are paid back."""
    rng = np.random.default_rng(0)
    label = (rng.random(400) < 0.3).astype(float)
    band = np.repeat(["a", "b", "c"], [200, 150, 50])
    label[band == "c"] = 0
    return label, np.clip(0.3 + 0.2 * label + 0.1 * rng.normal(size=400), 0.01, 0.99), {"history": band}


def test_facts_are_those_of_the_folds() -> None:
    rows = random_rows(30, seed=1)
    found = describe(pack(rows))
    assert found["payments"].tolist() == [row["payments_kept"] for row in rows]
    assert found["merchants"].tolist() == [row["merchants_kept"] for row in rows]
    assert found["history_days"].tolist() == [row["history_days"] for row in rows]
    assert {values.dtype for values in found.values()} == {np.dtype(np.int64)}
    assert found["history_days"][0] == 0  # user 0 has no payments


def test_a_payment_of_the_last_second_has_a_history_of_one_day() -> None:
    rows = [fold_row("a", {"m": [payment(1 / 86_400)]}), fold_row("b", {"m": [payment(1.0)]})]
    assert describe(pack(rows))["history_days"].tolist() == [1, 1]


def test_bands_begin_where_they_say() -> None:
    facts = {
        "payments": np.array([0, 1, 9, 10, 299, 300]),
        "merchants": np.array([0, 1, 2, 3, 29, 30]),
        "history_days": np.array([0, 1, 29, 30, 179, 180]),
    }
    found = segment_users(facts, thin_payments=10, thin_merchants=3)
    assert found["payments"].tolist() == ["000", "001-009", "001-009", "010-029", "100-299", "300-up"]
    assert found["merchants"].tolist() == ["000", "001-002", "001-002", "003-009", "010-029", "030-up"]
    assert found["history"].tolist() == ["000", "001-029", "001-029", "030-059", "150-179", "180-up"]
    assert found["file"].tolist() == ["thin", "thin", "thin", "full", "full", "full"]
    # Few merchants alone make a thin file as well.
    few = {**facts, "merchants": np.full(6, 2)}
    assert set(segment_users(few, thin_payments=1, thin_merchants=3)["file"]) == {"thin"}


def test_history_has_the_bands_of_the_fold_loss() -> None:
    assert HISTORY_BANDS == truncation.BANDS


def test_each_row_measures_its_own_users() -> None:
    label, probability, segments = scored()
    table = segment_table(label, probability, segments).set_index("band")
    assert table["users"].to_dict() == {"a": 200, "b": 150, "c": 50}
    chosen = segments["history"] == "a"
    assert table.loc["a", "auc"] == pytest.approx(roc_auc_score(label[chosen], probability[chosen]))
    assert (table.loc["a", "auc_low"], table.loc["a", "auc_high"]) == auc_interval(label[chosen], probability[chosen])
    assert table.loc["a", "default_rate"] == pytest.approx(label[chosen].mean())
    assert table.loc["a", "brier"] == pytest.approx(np.mean((label[chosen] - probability[chosen]) ** 2))
    assert table["defaults"].sum() == label.sum()


def test_a_band_of_one_class_has_no_auc_and_no_metric() -> None:
    label, probability, segments = scored()
    table = segment_table(label, probability, segments)
    paid_back = table.set_index("band").loc["c"]
    assert paid_back[["auc", "auc_low", "auc_high", "ks", "calibration"]].isna().all()
    assert paid_back["default_rate"] == 0
    assert set(segment_metrics(table, "test")) == {"segment.test.history.a.auc", "segment.test.history.b.auc"}


def test_names_are_such_as_mlflow_takes() -> None:
    facts = dict.fromkeys(("payments", "merchants", "history_days"), np.arange(400))
    for segment, band, _ in each_band(segment_users(facts, 10, 3)):
        assert re.fullmatch(r"[\w.\- :/]+", f"segment.out_of_time.{segment}.{band}.auc")


def test_bands_are_a_partition_of_the_users() -> None:
    facts = describe(pack(random_rows(50, seed=2)))
    for segment, names in segment_users(facts, 10, 3).items():
        masks = [mask for of, _, mask in each_band({segment: names}) if of == segment]
        assert (np.sum(masks, axis=0) == 1).all()
