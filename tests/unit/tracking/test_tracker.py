"""A real MLflow store: sqlite and files in the test's own folder."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from fold_rows import THIN, Row, pack, random_rows, small_model
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from lbsf.config import load_config
from lbsf.errors import InputError
from lbsf.evaluation.reference import Reference, count, make_reference
from lbsf.folds.packed import LIST_COLUMNS
from lbsf.models.artifact import files_digest, load_model, save_model
from lbsf.models.predict import predict_scores
from lbsf.tracking import CHALLENGER, CHAMPION, RegisteredModel, Tracker


def frame(rows: list[Row]) -> pd.DataFrame:
    columns = ["as_of", "fold_spec", *LIST_COLUMNS]
    found = pd.DataFrame([{name: row[name] for name in columns} for row in rows])
    return found.assign(as_of=pd.to_datetime(found["as_of"]))


def loaded(model: RegisteredModel) -> mlflow.pyfunc.PyFuncModel:
    return mlflow.pyfunc.load_model(f"models:/{model.name}/{model.version}")


def new_tracker(root: Path) -> Tracker:
    return Tracker(load_config("conf/local.yaml", [f"storage.root={root}"]), root)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tracker, list[RegisteredModel]]:
    """A store with two registered versions; each test sets the aliases that it needs."""
    root = tmp_path_factory.mktemp("store")
    tracker = new_tracker(root)
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


def test_a_registered_model_holds_no_pickle_and_scores_as_everybody_does(
    store: tuple[Tracker, list[RegisteredModel]],
) -> None:
    _, models = store
    files = [path for path in models[0].folder.parents[1].rglob("*") if path.is_file()]
    assert {path.suffix for path in files} & {".pkl", ".pickle", ".pt", ".pth", ".bin"} == set()
    assert (models[0].folder / "weights.safetensors") in files
    rows = random_rows(300, seed=9)
    expected = predict_scores(*load_model(models[0].folder), [pack(rows)])
    assert 5 < expected.thin_file.sum() < 295
    found = loaded(models[0]).predict(frame(rows))
    np.testing.assert_allclose(found["probability"], expected.probability, atol=1.5e-6)
    assert found["thin_file"].tolist() == expected.thin_file.tolist()
    assert set(found["probability"][expected.thin_file]) == {THIN.probability}


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


def test_a_version_is_bound_to_its_files(store: tuple[Tracker, list[RegisteredModel]]) -> None:
    tracker, models = store
    tag = {"sha256": files_digest(models[0].folder)}
    assert {name: models[0].tags[name] for name in tag} == tag
    # Of this local store, these are the files that it holds.
    whole = {path: path.read_bytes() for path in models[0].folder.iterdir()}
    for path, content in whole.items():
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(InputError, match="model lbsf version 1 is damaged: the SHA-256 of its files is "):
            tracker.of_version("lbsf", "1")
        with pytest.raises(InputError, match="the model in .* is damaged: the SHA-256 of its files is "):
            loaded(models[0])
        path.write_bytes(content)
    tracker.tag(models[0], {"sha256": None})
    with pytest.raises(InputError, match="model lbsf version 1 has no SHA-256 of its files"):
        tracker.of_version("lbsf", "1")
    tracker.tag(models[0], tag)
    assert tracker.of_version("lbsf", "1") == models[0]


def test_files_of_a_version_that_are_gone_are_named(store: tuple[Tracker, list[RegisteredModel]]) -> None:
    tracker, models = store
    root = models[0].folder.parents[1]
    root.rename(root.with_name("away"))
    try:
        with pytest.raises(InputError, match="model lbsf version 1: its files cannot be read"):
            tracker.of_version("lbsf", "1")
    finally:
        root.with_name("away").rename(root)


def test_a_registered_model_has_a_signature_and_an_example(store: tuple[Tracker, list[RegisteredModel]]) -> None:
    _, models = store
    root = next(folder for folder in models[0].folder.parents if (folder / "MLmodel").exists())
    logged = Model.load(root)
    assert logged.signature is not None
    assert [column.name for column in logged.signature.inputs.inputs] == ["as_of", "fold_spec", *LIST_COLUMNS]
    assert [column.name for column in logged.signature.outputs.inputs] == ["probability", "thin_file"]
    example = logged.load_input_example(str(root))
    assert len(example) == 3
    assert "user_id" not in example


def test_nobody_is_scored_with_the_right_types(store: tuple[Tracker, list[RegisteredModel]]) -> None:
    found = loaded(store[1][0]).predict(frame(random_rows(2, seed=1))[:0])
    assert found.dtypes.to_dict() == {"probability": np.float64, "thin_file": np.bool_}
    assert len(found) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"as_of": [None, None, pd.Timestamp("2025-07-01")]}, "column as_of is null in 2 of 3 rows"),
        ({"as_of": [None] * 3}, "column as_of is null in 3 of 3 rows"),
        ({"as_of": pd.Timestamp("2025-07-01 12:00")}, "column as_of is not a whole day in 3 of 3 rows"),
        ({"fold_spec": ["v2", None, "v2"]}, "column fold_spec is null in 1 of 3 rows"),
        ({"fold_spec": "v2-w90-m1f1-p1-c2-h2-t2x2"}, "the model reads folds of spec v2-w180"),
        ({"category": [[1]] * 3}, "folds are damaged: category has 3 elements where "),
    ],
)
def test_a_logged_model_refuses_what_it_cannot_score(
    store: tuple[Tracker, list[RegisteredModel]], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        loaded(store[1][0]).predict(frame(random_rows(3, seed=1)).assign(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"missing inputs \['paid_at'\]"),
        ({"paid_at": [None] * 3}, "Expected data to be list or numpy array, got NoneType"),
        ({"paid_at": [["a"]] * 3}, "Can not safely convert object to int64"),
        ({"paid_at": [[1.5]] * 3}, "Can not safely convert float64 to int64"),
        ({"paid_at": [[None]] * 3}, "Can not safely convert object to int64"),
        ({"as_of": "yesterday"}, "as_of"),
        ({"as_of": 20250701}, "as_of"),
    ],
)
def test_mlflow_refuses_what_is_not_of_the_signature(
    store: tuple[Tracker, list[RegisteredModel]], changes: dict[str, object], message: str
) -> None:
    rows = frame(random_rows(3, seed=1))
    rows = rows.assign(**changes) if changes else rows.drop(columns="paid_at")
    with pytest.raises(MlflowException) as refused:
        loaded(store[1][0]).predict(rows)
    # It shows the rows and the schema first.
    assert re.search(message, str(refused.value).rpartition("Error: ")[2])


def test_a_run_that_raises_is_marked_failed(store: tuple[Tracker, list[RegisteredModel]], tmp_path: Path) -> None:
    tracker, _ = store
    with pytest.raises(ZeroDivisionError), tracker.run("broken") as run:
        raise ZeroDivisionError
    assert mlflow.get_run(run.run_id).info.status == "FAILED"


# These have stores of their own, and so come last: a Tracker points MLflow at its store for the whole process.


def test_files_beside_the_weights_come_with_the_registered_model(tmp_path: Path) -> None:
    """As the reference that the nightly scores are held against."""
    tracker = new_tracker(tmp_path)
    save_model(tmp_path / "m", *small_model())
    rows = random_rows(30, seed=1)
    reference = make_reference(count(pack(rows)), predict_scores(*small_model(), [pack(rows)]).probability)
    reference.save(tmp_path / "m")
    with tracker.run("train") as run:
        tracker.register(run, tmp_path / "m", frame(rows[:2]))
    assert Reference.load(tracker.fetch(CHALLENGER).folder) == reference


def test_tables_and_documents_of_a_second_validation_replace_the_first(
    tmp_path: Path,
) -> None:
    tracker = new_tracker(tmp_path)
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
