"""What train_model leaves on a run, from predictions as the ranks write them; training itself is tested elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from example_files import training_plan
from fold_rows import small_model
from sklearn.metrics import roc_auc_score

from jobs.train_model import _evaluate, _save_reference
from lbsf.baselines.boosting import probabilities_by_split
from lbsf.config import load_config
from lbsf.evaluation.reference import Reference, count, drift
from lbsf.evaluation.segments import describe
from lbsf.folds.packed import PackedFolds
from lbsf.loading.petastorm_reader import every_user_once
from lbsf.models.artifact import save_model
from lbsf.models.predict import predict_scores
from lbsf.tracking import Tracker
from lbsf.training.plan import TrainingPlan
from lbsf.training.predictions import Predictions
from lbsf.training.run_folder import RunFolder

SPLITS = ("validation", "out_of_time")


def read(plan: TrainingPlan, split: str) -> PackedFolds:
    return PackedFolds.concat(list(every_user_once(plan.splits[split].files, shard=0, shards=1, batch_users=64)))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingPlan, Path, dict[str, float]]:
    """A plan, its run's files and the metrics; the model is an untrained one."""
    folder = tmp_path_factory.mktemp("run")
    plan = training_plan(folder)
    save_model(RunFolder.of(plan).model, *small_model())
    for split in SPLITS:
        packed = read(plan, split)
        probability = predict_scores(*small_model(), [packed]).probability
        assert packed.label is not None
        found = Predictions(packed.label.astype(float), np.zeros(len(packed)), describe(packed))
        found.save(RunFolder.of(plan).predictions(split), probability)
    config = load_config("conf/local.yaml", [f"storage.root={folder}"])
    tracker = Tracker(config, folder)
    with tracker.run("train") as run:
        trees = probabilities_by_split({name: split.files for name, split in plan.splits.items()}, seed=1)
        metrics = _evaluate(plan, trees, run)
        _save_reference(plan, run)
    assert mlflow.get_run(run.run_id).data.metrics == pytest.approx(metrics)
    return plan, Path(mlflow.artifacts.download_artifacts(run_id=run.run_id)), metrics


def test_each_split_is_measured_for_the_network_and_for_lightgbm(
    finished: tuple[TrainingPlan, Path, dict[str, float]],
) -> None:
    plan, _, metrics = finished
    for split in SPLITS:
        packed = read(plan, split)
        assert packed.label is not None
        auc = roc_auc_score(packed.label, predict_scores(*small_model(), [packed]).probability)
        assert metrics[f"{split}.auc"] == pytest.approx(auc)
        assert f"lightgbm.{split}.auc" in metrics
        assert {f"{split}.calibration_{name}" for name in ("intercept", "slope", "ece")} <= set(metrics)


def test_segments_stand_as_tables_and_metrics(finished: tuple[TrainingPlan, Path, dict[str, float]]) -> None:
    plan, files, metrics = finished
    for split in SPLITS:
        table = pd.read_csv(files / f"tables/segments_{split}.csv", dtype={"band": str})
        assert set(table.groupby("segment")["users"].sum()) == {plan.splits[split].users}
        measured = table[table["auc"].notna()]
        assert len(measured) > 3
        for row in measured.itertuples():
            assert metrics[f"segment.{split}.{row.segment}.{row.band}.auc"] == pytest.approx(row.auc)
        assert len(json.loads((files / f"tables/segments_{split}.json").read_text())) == len(table)


def test_pictures_are_drawn(finished: tuple[TrainingPlan, Path, dict[str, float]]) -> None:
    _, files, _ = finished
    kinds = ("roc", "ks", "precision_recall", "calibration", "gain", "lift", "scores", "segments")
    names = {f"{split}_{kind}.png" for split in SPLITS for kind in kinds}
    assert {path.name for path in (files / "figures").iterdir()} == names


def test_the_reference_is_of_the_training_split_and_stands_beside_the_model(
    finished: tuple[TrainingPlan, Path, dict[str, float]],
) -> None:
    plan, files, _ = finished
    reference = Reference.load(RunFolder.of(plan).model)
    assert Reference.load(files) == reference
    train = read(plan, "train")
    assert reference.numbers["payments"].count == len(train)
    assert reference.numbers["amount_cents"].count == train.payments
    assert max(found.psi for found in drift(reference, count(train)).values()) == pytest.approx(0, abs=1e-12)
    validation = predict_scores(*small_model(), [read(plan, "validation")]).probability
    # Users without payments are thin files.
    validation = validation[read(plan, "validation").merchant_count > 0]
    np.testing.assert_allclose(reference.score.shares, reference.score.shares_of(validation))
