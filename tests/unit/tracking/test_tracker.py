"""A real MLflow store: sqlite and files in the test's own folder."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from fold_rows import Row, pack, random_rows, small_model
from mlflow.models import Model

from lbsf.config import load_config
from lbsf.errors import InputError
from lbsf.evaluation.reference import Reference, count, make_reference
from lbsf.folds.packed import LIST_COLUMNS
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


def is_pickle(path: Path) -> bool:
    """Whether a file can be unpickled by its looks: a pickle of protocol 2 or later, or a torch or joblib archive."""
    begin = path.read_bytes()[:2]
    return (begin[:1] == b"\x80" and begin[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")) or zipfile.is_zipfile(path)


def test_no_file_of_a_registered_model_is_a_pickle_whatever_its_name(
    store: tuple[Tracker, list[RegisteredModel]], tmp_path: Path
) -> None:
    _, models = store
    files = [path for path in models[0].folder.parents[1].rglob("*") if path.is_file()]
    assert "MLmodel" in {path.name for path in files}
    assert [path for path in files if is_pickle(path)] == []
    # The test itself knows one when it sees one.
    torch.save({"a": torch.zeros(1)}, tmp_path / "saved")
    (tmp_path / "pickled").write_bytes(pickle.dumps({"a": 1}))
    assert is_pickle(tmp_path / "saved") and is_pickle(tmp_path / "pickled")


def test_a_registered_model_has_a_signature_and_an_example(store: tuple[Tracker, list[RegisteredModel]]) -> None:
    _, models = store
    root = next(folder for folder in models[0].folder.parents if (folder / "MLmodel").exists())
    logged = Model.load(root)
    assert logged.signature is not None
    assert [column.name for column in logged.signature.inputs.inputs] == ["as_of", "fold_spec", *LIST_COLUMNS]
    assert [column.name for column in logged.signature.outputs.inputs] == ["probability"]
    example = logged.load_input_example(str(root))
    assert len(example) == 3
    assert "user_id" not in example


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


# These have stores of their own, and so come last: a Tracker points MLflow at its store for the whole process.


def test_files_beside_the_weights_come_with_the_registered_model(tmp_path: Path) -> None:
    """As the reference that the nightly scores are held against."""
    tracker = Tracker(load_config("conf/local.yaml", [f"storage.root={tmp_path}"]), tmp_path)
    save_model(tmp_path / "m", *small_model())
    rows = random_rows(30, seed=1)
    reference = make_reference(count(pack(rows)), predict_probabilities(*small_model(), [pack(rows)]))
    reference.save(tmp_path / "m")
    with tracker.run("train") as run:
        tracker.register(run, tmp_path / "m", frame(rows[:2]))
    assert Reference.load(tracker.fetch(CHALLENGER).folder) == reference


def test_tables_and_documents_of_a_second_validation_replace_the_first(
    tmp_path: Path,
) -> None:
    tracker = Tracker(load_config("conf/local.yaml", [f"storage.root={tmp_path}"]), tmp_path)
    with tracker.run("train") as first:
        first.params({"seed": 7})
    trained = RegisteredModel("lbsf", "1", first.run_id, tmp_path, {}, {})
    for auc in (0.6, 0.7):
        with tracker.resume(trained.run_id) as run:
            run.table(pd.DataFrame({"band": ["a", "b"], "auc": [auc, float("nan")]}), "segments")
            run.document({"passed": auc > 0.65}, "gate.json")
            run.document({"training": {"seed": 7}}, "config.yaml")
    files = Path(mlflow.artifacts.download_artifacts(run_id=first.run_id))
    assert json.loads((files / "tables/segments.json").read_text()) == [
        {"band": "a", "auc": 0.7},
        {"band": "b", "auc": None},
    ]
    assert pd.read_csv(files / "tables/segments.csv")["auc"].tolist()[:1] == [0.7]
    assert json.loads((files / "gate.json").read_text()) == {"passed": True}
    assert yaml.safe_load((files / "config.yaml").read_text()) == {"training": {"seed": 7}}
