"""A real MLflow store: sqlite and files in the test's own folder."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from fold_rows import Row, pack, random_rows, small_model

from lbsf.config import load_config
from lbsf.errors import InputError
from lbsf.loading.packed import LIST_COLUMNS
from lbsf.models.artifact import load_model, save_model
from lbsf.models.predict import predict_probabilities
from lbsf.tracking import CHALLENGER, CHAMPION, RegisteredModel, Tracker


def frame(rows: list[Row]) -> pd.DataFrame:
    columns = ["as_of", "fold_spec", *LIST_COLUMNS]
    found = pd.DataFrame([{name: row[name] for name in columns} for row in rows])
    return found.assign(as_of=pd.to_datetime(found["as_of"]))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tracker, list[RegisteredModel]]:
    """A store with two registered versions; each test sets the aliases that it needs."""
    root = tmp_path_factory.mktemp("store")
    tracker = Tracker(load_config("conf/local.yaml", [f"storage.root={root}"]), root)
    models = []
    for seed in (0, 1):
        save_model(root / f"m{seed}", *small_model(seed))
        with tracker.run("train") as run:
            run.params({"seed": seed})
            run.metrics({"auc": 0.7}, step=0)
            run.metrics({"auc": 0.8}, step=1)
            models.append(tracker.register(run, root / f"m{seed}", frame(random_rows(3, seed=4))))
    return tracker, models


def test_the_newest_registered_model_is_the_challenger(store: tuple[Tracker, list[RegisteredModel]]) -> None:
    tracker, models = store
    assert [model.version for model in models] == ["1", "2"]
    assert tracker.fetch(CHALLENGER).version == "2"
    assert tracker.fetch(CHALLENGER).metrics["auc"] == 0.8


def test_promotion_moves_the_alias(store: tuple[Tracker, list[RegisteredModel]]) -> None:
    tracker, models = store
    with pytest.raises(InputError, match="no champion of model lbsf"):
        tracker.fetch(CHAMPION)
    tracker.tag(models[1], {"validation": "passed"})
    tracker.promote(tracker.fetch(CHALLENGER))
    assert tracker.fetch(CHAMPION).version == "2"
    assert tracker.fetch(CHAMPION).tags["validation"] == "passed"
    assert tracker.find(CHALLENGER) is None


def test_a_registered_model_holds_no_pickle_and_scores_as_the_network_does(
    store: tuple[Tracker, list[RegisteredModel]],
) -> None:
    tracker, models = store
    logged = mlflow.pyfunc.load_model(f"models:/{models[0].name}/{models[0].version}")
    files = [path for path in models[0].folder.parents[1].rglob("*") if path.is_file()]
    assert {path.suffix for path in files} & {".pkl", ".pickle", ".pt", ".pth", ".bin"} == set()
    assert (models[0].folder / "weights.safetensors") in files
    rows = random_rows(20, seed=9)
    expected = predict_probabilities(*load_model(models[0].folder), [pack(rows)])
    found = logged.predict(frame(rows))["probability"]
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_a_logged_model_refuses_folds_of_another_spec(store: tuple[Tracker, list[RegisteredModel]]) -> None:
    _, models = store
    logged = mlflow.pyfunc.load_model(f"models:/{models[0].name}/{models[0].version}")
    with pytest.raises(InputError, match="the model reads folds of spec v2-w180"):
        logged.predict(frame(random_rows(2, seed=1)).assign(fold_spec="v2-w90-m1f1-p1-c2-h2-t2x2"))


def test_a_run_that_raises_is_marked_failed(store: tuple[Tracker, list[RegisteredModel]], tmp_path: Path) -> None:
    tracker, _ = store
    with pytest.raises(ZeroDivisionError), tracker.run("broken") as run:
        raise ZeroDivisionError
    assert mlflow.get_run(run.run_id).info.status == "FAILED"
