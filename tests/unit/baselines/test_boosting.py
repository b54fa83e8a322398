"""The baseline learns what aggregates can show, and learns it the same way twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fold_rows import arrow, fold_row, pack, payment, random_rows
from sklearn.metrics import roc_auc_score

from lbsf.baselines.boosting import predict, probabilities_by_split, train_boosting
from lbsf.errors import InputError
from lbsf.folds.packed import PackedFolds
from lbsf.folds.views import View

pytestmark = pytest.mark.usefixtures("one_thread")


def examples(users: int, seed: int) -> pa.Table:
    """Users of whom those with more payments of category 3 default more often."""
    rng = np.random.default_rng(seed)
    rows, labels = [], []
    for user in range(users):
        lender = int(rng.poisson(1.5))
        visits = [payment(float(rng.uniform(0, 90)), category=3) for _ in range(lender)]
        others = [payment(float(rng.uniform(0, 180)), category=int(rng.integers(4, 9))) for _ in range(5)]
        rows.append(fold_row(f"u{user}", {"lender": visits, "shop": others} if visits else {"shop": others}))
        labels.append(int(rng.random() < 1 / (1 + np.exp(3 - 1.2 * lender))))
    return arrow(rows).append_column("label", pa.array(labels, pa.int32()))


def test_it_learns_and_repeats_itself() -> None:
    train, validation, test = (PackedFolds.from_arrow(examples(n, seed)) for seed, n in enumerate((900, 300, 500)))
    model = train_boosting([train], [validation], seed=1)
    probabilities = predict(model, [test])
    assert roc_auc_score(test.label, probabilities) > 0.72
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert abs(probabilities.mean() - train.label.mean()) < 0.05  # type: ignore[union-attr]
    again = train_boosting([train], [validation], seed=1)
    assert (predict(again, [test]) == probabilities).all()
    # In parts or whole, the same.
    cut = [test.take(np.arange(0, 250)), test.take(np.arange(250, 500))]
    assert (predict(model, cut) == probabilities).all()


def either_but_not_both(users: int, seed: int) -> PackedFolds:
    """Users who default if they pay a lender or a casino, but not if they pay both or neither."""
    rng = np.random.default_rng(seed)
    rows, labels = [], []
    for user in range(users):
        lender, casino = bool(rng.integers(2)), bool(rng.integers(2))
        kinds = [5, *([3] if lender else []), *([4] if casino else [])]
        visits = {f"m{kind}": [payment(float(day), category=kind) for day in (10, 40, 80)] for kind in kinds}
        rows.append(fold_row(f"u{user}", visits))
        labels.append(int(rng.random() < (0.8 if lender != casino else 0.1)))
    return PackedFolds.from_arrow(arrow(rows).append_column("label", pa.array(labels, pa.int32())))


def test_validation_chooses_between_single_splits_and_deeper_trees() -> None:
    train, validation, test = (either_but_not_both(users, seed) for seed, users in enumerate((900, 300, 500)))
    model = train_boosting([train], [validation], seed=1)
    assert model.booster.params["num_leaves"] == 15
    assert roc_auc_score(test.label, predict(model, [test])) > 0.75


def test_held_out_splits_are_scored_in_the_files_order(tmp_path: Path) -> None:
    files = {}
    for seed, (split, users) in enumerate({"train": 800, "validation": 200, "out_of_time": 300}.items()):
        table, paths = examples(users, seed), []
        for place, part in enumerate((table.slice(0, users // 2), table.slice(users // 2))):
            paths.append(str(tmp_path / f"{split}{place}.parquet"))
            pq.write_table(part, paths[-1], row_group_size=90)
        files[split] = paths
    found = probabilities_by_split(files, seed=3)
    assert list(found) == ["train", "validation", "out_of_time"]
    label, probability = found["out_of_time"]
    assert label.tolist() == examples(300, 2)["label"].to_pylist() and probability.shape == (300,)
    assert roc_auc_score(label, probability) > 0.7


def test_the_trees_see_what_the_view_shows(tmp_path: Path) -> None:
    files = {}
    for seed, (split, users) in enumerate({"train": 800, "validation": 200, "test": 400}.items()):
        files[split] = [str(tmp_path / f"{split}.parquet")]
        pq.write_table(examples(users, seed), files[split][0])

    def auc(view: View) -> float:
        label, probability = probabilities_by_split(files, seed=3, view=view)["test"]
        return float(roc_auc_score(label, probability))

    # The risk stands in the payments of one category of the last 90 days.
    whole = auc(View())
    assert auc(View(days=90)) > whole - 0.05
    assert auc(View(days=5)) < whole - 0.08
    assert auc(View(without="channel")) > whole - 0.05


def test_folds_without_labels_are_refused() -> None:
    folds = [pack(random_rows(5, seed=1))]
    with pytest.raises(InputError, match="needs folds with labels"):
        train_boosting(folds, folds, seed=1)
