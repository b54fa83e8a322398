"""The whole path of a model over a real MLflow server, and one answer for a user whoever asks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import mlflow
import numpy as np
import pytest
from example_files import labelled_rows
from fold_rows import AS_OF, FOLD, in_table, random_rows
from mlflow import MlflowClient
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from requests import ConnectionError as NoConnection
from requests import get
from small import SMALL

from jobs import promote_model, replay_score, score_users, train_model, validate_model
from jobs.common import Job
from lbsf.config import load_config
from lbsf.folds.packed import LIST_COLUMNS
from lbsf.schemas import EXAMPLES, FOLDS, SCORES
from lbsf.tracking import CHALLENGER, CHAMPION

# Of sums in float32, which depend on who shares a batch.
ONE_IN_THE_LAST_DECIMAL = 1.5e-6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a sqlite backend that serves artifacts itself; its URI."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--serve-artifacts"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    # MLflow behaves otherwise where it believes to be in its own tests.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while not _answers(f"http://127.0.0.1:{port}"):
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _answers(uri: str) -> bool:
    try:
        return get(f"{uri}/health", timeout=5).ok
    except NoConnection:
        return False


@pytest.fixture
def server_job(server: str, spark: SparkSession, tmp_path: Path) -> Job:
    """Examples to train on and a night's folds to score, with the server as the store."""
    buckets = [
        f"fold.{name}={getattr(FOLD, name)}" for name in ("category_buckets", "channel_buckets", "token_buckets")
    ]
    lenient = ["min_defaults=2", "max_calibration_error=0.99", "calibration_slope=[0.0001, 10000]", "max_score_psi=100"]
    quick = ["ranks=1", "epochs=2", "batch_users=16", "learning_rate=0.01", "average_steps=4"]
    values = [*SMALL, *buckets, *(f"promotion.{limit}" for limit in lenient), *(f"training.{one}" for one in quick)]
    values += ["model.width=16", "scoring.thin_file_payments=5", f"storage.root={tmp_path}", f"tracking.uri={server}"]
    job = Job(load_config("conf/local.yaml", values), "conf/local.yaml", values)
    examples = [
        {**row, "user_id": f"{split} {row['user_id']}", "matured_on": date(2025, 7, 31), "split": split}
        for seed, (split, users) in enumerate({"train": 192, "validation": 64, "out_of_time": 64}.items())
        for row in labelled_rows(users, seed)
    ]
    job.warehouse.overwrite(EXAMPLES, spark.createDataFrame(examples, EXAMPLES.struct), row_group_rows=32)
    folds = spark.createDataFrame(in_table(random_rows(40, seed=5)), FOLDS.struct)
    job.warehouse.replace_day(FOLDS, folds, AS_OF)
    return job


def test_a_model_goes_from_training_to_scores_over_a_server(
    server_job: Job, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, client = server_job, MlflowClient

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    # Ended between the version and the alias; then the same command again.
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(client, "set_registered_model_alias", killed)
        train_model.run(job)
    assert job.tracker.find(CHALLENGER) is None
    train_model.run(job)
    (version,) = client().search_model_versions("name='lbsf'")
    challenger = job.tracker.fetch(CHALLENGER)
    assert challenger.run_id == version.run_id
    assert [run.info.status for run in client().search_runs([_experiment()])] == ["FINISHED"]
    assert len(client().search_logged_models([_experiment()])) == 1

    assert validate_model.run(job).details["verdict"] == "passed"
    judged = job.tracker.fetch(CHALLENGER).metrics
    assert judged["gate.auc"] == pytest.approx(judged["out_of_time.auc"])
    promote_model.run(job)
    assert (job.tracker.version_of(CHAMPION), job.tracker.version_of(CHALLENGER)) == ("1", None)
    score_users.run(job, as_of=AS_OF)
    assert replay_score.run(job, user="u0007", score_date=AS_OF).details["same"] == "yes"
    _whoever_asks(job)


def _experiment() -> str:
    experiment = mlflow.get_experiment_by_name("lbsf")
    assert experiment is not None
    return str(experiment.experiment_id)


def _whoever_asks(job: Job) -> None:
    """The champion by MLflow's own ways gives every user, thin files among them, what stands in `scores`."""
    stored = job.warehouse.read(SCORES).orderBy("user_id").toPandas()
    assert 5 < stored["thin_file"].sum() < 35
    columns = ["as_of", "fold_spec", *LIST_COLUMNS]
    folds = job.warehouse.read(FOLDS).orderBy("user_id")
    asked = mlflow.pyfunc.load_model(f"models:/lbsf@{CHAMPION}").predict(folds.select(columns).toPandas())
    udf = mlflow.pyfunc.spark_udf(job.spark, f"models:/lbsf@{CHAMPION}", env_manager="local")
    scored = folds.select("user_id", udf(*map(F.col, columns)).alias("score")).select("user_id", "score.*")
    for found in (asked, scored.orderBy("user_id").toPandas()):
        np.testing.assert_allclose(found["probability"], stored["probability"], rtol=0, atol=ONE_IN_THE_LAST_DECIMAL)
        assert found["thin_file"].tolist() == stored["thin_file"].tolist()
        thin = stored["thin_file"]
        assert found["probability"][thin].tolist() == stored["probability"][thin].tolist()
