"""Registration and its twins, ended between any two steps and done again; stores that cannot be used."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from fold_rows import random_rows, small_model
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from sqlalchemy import create_engine, text

from lbsf.config import load_config
from lbsf.errors import InputError
from lbsf.folds.packed import LIST_COLUMNS
from lbsf.models.artifact import save_model
from lbsf.tracking import CHALLENGER, CHAMPION, StoreError, Tracker, store
from lbsf.tracking.store import store_failures


class Killed(BaseException):
    """As if the process had been ended here."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for these tests, each of which has an experiment and a registered model of its own."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def tracker(root: Path, request: pytest.FixtureRequest) -> Tracker:
    names = [f"tracking.{key}={request.node.name}" for key in ("experiment", "model_name")]
    return Tracker(load_config("conf/local.yaml", [f"storage.root={root}", *names]), root)


@pytest.fixture(scope="module")
def saved(root: Path) -> Path:
    save_model(root / "saved", *small_model())
    return root / "saved"


def example() -> pd.DataFrame:
    rows = pd.DataFrame(random_rows(2, seed=4))[["as_of", "fold_spec", *LIST_COLUMNS]]
    return rows.assign(as_of=pd.to_datetime(rows["as_of"]))


def killed_at(monkeypatch: pytest.MonkeyPatch, step: str, before: bool = True) -> None:
    """Ends the process, once, before or after a call of MLflow's client."""
    original: Callable[..., Any] = getattr(MlflowClient, step)

    def killed(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        monkeypatch.undo()
        if not before:
            original(self, *args, **kwargs)
        raise Killed

    monkeypatch.setattr(MlflowClient, step, killed)


def begun(tracker: Tracker, key: str) -> str:
    """A run that its process left RUNNING, as a kill does; its id."""
    with tracker.run("train", key) as run:
        pass
    MlflowClient().update_run(run.run_id, status="RUNNING")
    return run.run_id


def status(run_id: str) -> str:
    return str(mlflow.get_run(run_id).info.status)


@pytest.mark.parametrize(
    ("step", "before"),
    [
        ("create_registered_model", False),
        ("log_model_artifacts", True),
        ("log_model_artifacts", False),
        ("create_model_version", True),
        ("create_model_version", False),
        ("set_registered_model_alias", False),
    ],
)
def test_a_registration_that_was_ended_anywhere_is_done_once(
    tracker: Tracker, saved: Path, monkeypatch: pytest.MonkeyPatch, step: str, before: bool
) -> None:
    run_id = begun(tracker, "k")
    killed_at(monkeypatch, step, before)
    with pytest.raises(Killed), tracker.resume(run_id, "k") as run:
        tracker.register(run, saved, example())
    with tracker.resume(run_id, "k") as run:
        registered = tracker.register(run, saved, example())
        assert tracker.register(run, saved, example()) == registered
    assert (registered.version, registered.run_id) == ("1", run_id)
    assert tracker.fetch(CHALLENGER) == registered
    client = MlflowClient()
    assert len(client.search_model_versions(f"name='{tracker.model_name}'")) == 1
    experiment = mlflow.get_run(run_id).info.experiment_id
    logged = client.search_logged_models([experiment])
    assert [model.status for model in logged] == [LoggedModelStatus.READY]
    assert status(run_id) == "FINISHED"


def test_a_promoted_version_does_not_become_challenger_again(tracker: Tracker, saved: Path) -> None:
    with tracker.run("train") as run:
        tracker.promote(tracker.register(run, saved, example()))
        assert tracker.register(run, saved, example()).version == "1"
    assert (tracker.version_of(CHAMPION), tracker.version_of(CHALLENGER)) == ("1", None)


def test_runs_that_a_kill_left_running_are_ended_when_their_work_is_taken_up(tracker: Tracker) -> None:
    # Killed before its id was noted; and another one's, at work.
    left, other = begun(tracker, "this"), begun(tracker, "that")
    with tracker.run("train", "this") as run:
        assert (status(left), status(run.run_id)) == ("KILLED", "RUNNING")
    second = begun(tracker, "this")
    with tracker.resume(run.run_id, "this"):
        assert (status(second), status(run.run_id)) == ("KILLED", "RUNNING")
    assert (status(other), status(run.run_id)) == ("RUNNING", "FINISHED")


def test_what_is_logged_to_a_finished_run_does_not_change_its_status(tracker: Tracker) -> None:
    with tracker.run("train") as run:
        pass
    run.metrics({"gate.auc": 0.7})
    run.document({"passed": True}, "gate.json")
    run.table(pd.DataFrame({"a": [1]}), "gate")
    assert status(run.run_id) == "FINISHED"
    assert mlflow.get_run(run.run_id).data.metrics == {"gate.auc": 0.7}


def test_a_promotion_that_was_ended_half_way_may_be_repeated(
    tracker: Tracker, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracker.run("train") as run:
        model = tracker.register(run, saved, example())
    killed_at(monkeypatch, "set_registered_model_alias", before=False)
    with pytest.raises(Killed):
        tracker.promote(model)
    assert (tracker.version_of(CHAMPION), tracker.version_of(CHALLENGER)) == ("1", "1")
    tracker.promote(model)
    assert (tracker.version_of(CHAMPION), tracker.version_of(CHALLENGER)) == ("1", None)


def test_pretrained_weights_are_bound_to_their_run(
    tracker: Tracker, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Those of a run that was ended before its last step are not found.
    killed_at(monkeypatch, "set_tag")
    with pytest.raises(Killed), tracker.run("pretrain") as run:
        tracker.save_pretrained(run, saved)
    with pytest.raises(InputError, match="no pretrained weights"):
        tracker.latest_pretrained(tmp_path / "start")
    with tracker.run("pretrain") as run:
        tracker.save_pretrained(run, saved)
    assert tracker.latest_pretrained(tmp_path / "start") == run.run_id
    weights = Path(mlflow.artifacts.download_artifacts(run_id=run.run_id)) / "pretrained/weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=f"pretrained weights of run {run.run_id} is damaged"):
        tracker.latest_pretrained(tmp_path / "start")


# Stores that cannot be used.


def refused(root: Path, uri: str) -> str:
    with pytest.raises(StoreError) as caught:
        Tracker(load_config("conf/local.yaml", [f"storage.root={root}", f"tracking.uri={uri}"]), root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as taken:
        # Bound and not listened on: nobody else answers there meanwhile.
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        said = refused(tmp_path, f"http://somebody:s3cret@127.0.0.1:{port}")
    assert said == (
        f"MLflow's store http://127.0.0.1:{port} cannot be reached (NewConnectionError): "
        "start it or mend tracking.uri, then run the same command again"
    )


def test_a_server_that_gives_no_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = refused(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert "cannot be reached (ReadTimeoutError)" in said


def test_a_locked_store_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PROBE_SECONDS", 0.2)
    path = tmp_path / "mlflow.db"
    with sqlite3.connect(path) as holder:
        holder.execute("CREATE TABLE t (a)")
        holder.execute("BEGIN EXCLUSIVE")
        said = refused(tmp_path, f"sqlite:///{path}")
        # As it is raised later, under way.
        connection = create_engine(f"sqlite:///{path}?timeout=0").connect()
        with connection, pytest.raises(StoreError, match="database is locked"), store_failures("sqlite:///x"):
            connection.execute(text("SELECT * FROM t"))
    assert f"sqlite:///{path} cannot be used (database is locked): wait for the process that holds it" in said


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database " * 100)
    assert "cannot be used (file is not a database): mend it" in refused(
        tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}"
    )
