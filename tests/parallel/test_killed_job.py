"""train_model, killed and ended by a signal while it trains, and run again."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import mlflow
import psutil
import pytest
from example_files import labelled_rows
from fold_rows import FOLD
from processes import command_line
from pyspark.sql import SparkSession
from small import PROJECT, SMALL

from jobs import train_model
from jobs.common import Job
from lbsf.config import load_config
from lbsf.schemas import EXAMPLES
from lbsf.tracking import CHALLENGER


def arguments(root: Path) -> list[str]:
    """Settings under which the examples of `labelled_rows` can be trained on, in three epochs."""
    same = ("category_buckets", "channel_buckets", "token_buckets")
    values = [*SMALL, f"storage.root={root}", "training.epochs=3", "training.patience=3", "model.width=16"]
    return [*values, *(f"fold.{name}={getattr(FOLD, name)}" for name in same)]


def ended(command: list[str], at: str, number: int) -> tuple[int, str]:
    """Sends a signal to train_model when it prints a line; its exit code and standard error. No process is left."""
    script = str(PROJECT / "jobs/train_model.py")
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    job = subprocess.Popen([sys.executable, script, *command], stdout=pipe, stderr=pipe, text=True, env=environment)
    assert job.stdout is not None
    try:
        assert any(line.startswith(at) for line in job.stdout)
        started = psutil.Process(job.pid).children(recursive=True)
        assert any("jobs.train_rank" in command_line(process) for process in started)
        job.send_signal(number)
        _, errors = job.communicate(timeout=60)
    finally:
        job.kill()
        job.wait()
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []
    return job.returncode, errors


def test_a_killed_train_model_goes_on_when_it_is_run_again(
    tmp_path: Path, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = arguments(tmp_path)
    job = Job(load_config("conf/local.yaml", settings), "conf/local.yaml", settings)
    rows = [
        {**row, "user_id": f"{split} {row['user_id']}", "matured_on": date(2025, 7, 31), "split": split}
        for seed, (split, users) in enumerate({"train": 256, "validation": 96, "out_of_time": 96}.items())
        for row in labelled_rows(users, seed)
    ]
    frame = spark.createDataFrame([[row[c.name] for c in EXAMPLES.columns] for row in rows], EXAMPLES.struct)
    job.warehouse.overwrite(EXAMPLES, frame, row_group_rows=32)

    command = [part for value in settings for part in ("--set", value)]
    # Once the second epoch is there, the first one's checkpoint is.
    code, _ = ended(command, "  epoch 2 ", signal.SIGKILL)
    assert code == -signal.SIGKILL
    # A scheduler ends what goes on from it.
    code, errors = ended(command, "  goes on in epoch ", signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert errors.splitlines()[-1] == "train_model.py: ended by SIGTERM"
    assert "Traceback" not in errors
    (folder,) = (tmp_path / "training").iterdir()
    run_id = (folder / "mlflow_run").read_text(encoding="utf-8")
    assert job.tracker.find(CHALLENGER) is None

    with (folder / "training.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert train_model.main(command) == 2
    assert "another train_model trains this now" in capsys.readouterr().err

    train_model.run(job)
    printed = capsys.readouterr().out
    assert "  goes on in epoch " in printed
    assert "  epoch 1 " not in printed
    challenger = job.tracker.find(CHALLENGER)
    assert challenger is not None
    assert challenger.run_id == run_id
    history = mlflow.MlflowClient().get_metric_history(run_id, "train.loss")
    assert {metric.step for metric in history} == {0, 1, 2}
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    assert not folder.exists()
