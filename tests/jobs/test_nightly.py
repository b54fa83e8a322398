"""Whole nights over a small simulated bank: the record, failures, catching up, two at once, runs that are ended."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from fold_rows import FOLD
from processes import command_line, program
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F
from small import PROJECT, SMALL

from jobs import generate_payments, nightly
from jobs.common import Job
from lbsf.config import load_config
from lbsf.errors import InputError
from lbsf.schemas import NIGHTLY_RUNS, SCORES
from lbsf.tables.log import snapshot_files

LAST = date(2025, 3, 2)  # the day after 60 days from 2025-01-01
BANK = (
    "synthetic.users=120",
    "synthetic.days=60",
    "synthetic.payments_per_user_day=0.5",
    "synthetic.observation_days=[20, 30]",
    "synthetic.label_horizon_days=20",
    "synthetic.default_rate=0.1",
    *(f"fold.{name}={getattr(FOLD, name)}" for name in ("category_buckets", "channel_buckets", "token_buckets")),
)
# The champion of the tests was made for other folds: whatever drift is found is no finding here.
CALM = ("monitoring.max_input_psi=1000", "monitoring.max_score_psi=1000")
STEPS = ["ingest", "labels", "fold", "score", "monitor", "report"]


def settings(root: Path, uri: str | None, *further: str) -> list[str]:
    own = [f"tracking.uri={uri}"] if uri else []
    return [*SMALL, *BANK, *CALM, f"storage.root={root}", *own, *further]


def job_over(root: Path, uri: str | None, *further: str) -> Job:
    values = settings(root, uri, *further)
    return Job(load_config("conf/local.yaml", values), "conf/local.yaml", values)


@pytest.fixture(scope="module")
def delivered(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse of which only the raw files are there."""
    root = tmp_path_factory.mktemp("nights") / "warehouse"
    generate_payments.run(job_over(root, None))
    return root


def records(job: Job, as_of: date) -> list[Row]:
    rows = job.warehouse.read(NIGHTLY_RUNS).where(F.col("as_of") == F.lit(as_of))
    return rows.orderBy("number").collect()


def test_nights_are_done_resumed_and_caught_up(
    delivered: Path, champion_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = LAST - timedelta(days=3)
    # Without a champion the night stops at its score, and says so.
    without = job_over(delivered, None)
    before = datetime.now(UTC)
    with pytest.raises(InputError, match="no champion"):
        nightly.run(without, as_of=first)
    found = records(without, first)
    assert [(row["step"], row["outcome"]) for row in found] == [
        *((step, "done") for step in STEPS[:3]),
        ("score", "failed"),
    ]
    assert "no champion" in found[-1]["message"] and not without.warehouse.exists(SCORES)
    assert found[0]["rows_out"] > 1_000 and json.loads(found[0]["details"])["payments version"] == 0
    assert len({row["run_id"] for row in found}) == 1 and len(found[0]["code_version"]) == 40
    assert all(before.replace(tzinfo=None) <= row["started_at"] <= row["ended_at"] for row in found)
    assert "  night 2025-02-27: ingest, labels, fold, score, monitor, report\n" in capsys.readouterr().out

    # The next night goes on where that one failed, then does the one that was missed, then itself.
    job = job_over(delivered, champion_uri)
    assert nightly.run(job, as_of=LAST - timedelta(days=1)).details["steps done"] == 3 + 6 + 6
    printed = capsys.readouterr().out
    assert "  night 2025-02-27: score, monitor, report\n" in printed
    for night in (first, first + timedelta(days=1), LAST - timedelta(days=1)):
        again = records(job, night)
        assert [(row["step"], row["outcome"]) for row in again] == [(step, "done") for step in STEPS]
        assert (delivered / "reports" / f"{night}.html").exists()
        scores = job.warehouse.read(SCORES).where(F.col("score_date") == F.lit(night))
        assert scores.count() == again[3]["rows_out"] > 50
    assert [row["attempt"] for row in records(job, first)] == [1, 1, 1, 2, 1, 1]
    # One delivery for both nights.
    second, third = (records(job, first + timedelta(days=number)) for number in (1, 2))
    assert third[0]["message"] == f"done with {first + timedelta(days=1)}"
    assert (second[0]["started_at"], second[0]["run_id"]) == (third[0]["started_at"], third[0]["run_id"])
    # Nothing was delivered since the first night: it counted all rows, the others none.
    took_in = records(job, first)[0]
    assert took_in["rows_in"] > took_in["rows_out"] > 1_000 and took_in["quarantined"] > 0
    for night in (second, third):
        assert [(row["rows_in"], row["rows_out"], row["quarantined"]) for row in night[:2]] == [(0, 0, 0)] * 2
    assert json.loads(second[0]["details"])["known before"] == took_in["rows_in"]

    # What is done is not done again, unless it is asked for.
    written = job.warehouse.version(SCORES)
    assert nightly.run(job, as_of=LAST - timedelta(days=1)).details["steps done"] == 0
    assert job.warehouse.version(SCORES) == written
    assert nightly.run(job, as_of=first, only=True, again=True).details["steps done"] == 6
    assert [row["attempt"] for row in records(job, first)] == [2, 2, 2, 3, 2, 2]
    assert job.warehouse.version(SCORES) == written + 1

    # A finding does not stop the night, and is said again by whoever asks for the night again: here that of a day's
    # file whose rows are all refused, and that of monitoring.
    refused = job.spark.read.parquet(f"{delivered}/raw/payments/delivered_on=2025-02-01").withColumn(
        "ccy", F.lit("XXX")
    )
    refused.coalesce(1).write.parquet(f"{delivered}/raw/payments/delivered_on=2025-03-09")
    strict = job_over(delivered, champion_uri, "monitoring.max_input_psi=0.001", "monitoring.min_counted=1")
    found = nightly.run(strict, as_of=LAST).findings
    rows = refused.count()
    assert (
        f": {rows} of {rows} new rows were refused, more than ingest.max_refused_share (0.5): currency is" in found[0]
    )
    assert found[1].startswith(f"{LAST}: --as-of {LAST}: ")
    ended = records(job, LAST)
    assert [row["outcome"] for row in ended] == ["finding", "done", "done", "done", "finding", "done"]
    assert (ended[0]["rows_in"], ended[0]["rows_out"], ended[0]["quarantined"]) == (rows, 0, rows)
    assert ended[4]["rows_in"] > 50
    assert nightly.run(job, as_of=LAST).findings == found
    shutil.rmtree(delivered / "raw/payments/delivered_on=2025-03-09")

    # A night without payments yet is refused, and leaves the scores alone.
    with pytest.raises(InputError, match="table payments holds"):
        nightly.run(job, as_of=LAST + timedelta(days=1))
    assert records(job, LAST + timedelta(days=1))[-1]["outcome"] == "failed"
    assert job.warehouse.read(SCORES).where(F.col("score_date") > F.lit(LAST)).isEmpty()


def test_two_at_once_are_refused(delivered: Path, champion_uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [part for value in settings(delivered, champion_uri) for part in ("--set", value)]
    with (delivered / "nightly.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert nightly.main(["--as-of", str(LAST), *arguments]) == 2
    assert "another nightly run is at work here" in capsys.readouterr().err


class Night:
    """A night in a process of its own, with a process group of its own, as a shell would start it."""

    def __init__(self, root: Path, uri: str, folder: Path):
        arguments = [part for value in settings(root, uri) for part in ("--set", value)]
        command = [sys.executable, str(PROJECT / "jobs/nightly.py"), "--as-of", str(LAST), *arguments]
        self.root, self.errors = root, folder / "stderr"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(command, stdout=errors, stderr=errors, start_new_session=True)

    def outcomes(self) -> dict[str, tuple[str, str | None]]:
        """Outcome and message of each step, read without Spark."""
        table = self.root / "tables" / "nightly_runs"
        if not any(table.glob("_delta_log/*.json")):
            return {}
        (file,) = snapshot_files(str(table)) or [None]
        rows = [] if file is None else pq.read_table(file.path, partitioning=None).to_pylist()
        return {row["step"]: (row["outcome"], row["message"]) for row in rows}

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Returns as soon as it is so; fails where the night ends before."""
        while not reached():
            assert self.process.poll() is None, self.errors.read_text()
            time.sleep(0.02)

    def end(self, number: int, whole_group: bool = False, java: bool = False) -> tuple[int, list[str]]:
        """Ends it, or its Spark process; its exit code and what it printed from then on. No process is left."""
        started = psutil.Process(self.process.pid).children(recursive=True)
        before = len(self.errors.read_text())
        if java:
            (spark,) = (child for child in started if program(child) == "java")
            spark.send_signal(number)
        elif whole_group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        _, alive = psutil.wait_procs(started, timeout=10)
        assert alive == []
        return code, self.errors.read_text()[before:].splitlines()


def test_a_night_that_is_ended_says_so_and_is_finished_by_the_next_run(
    delivered: Path, spark: SparkSession, champion_uri: str, tmp_path: Path
) -> None:
    root = tmp_path / "warehouse"
    root.mkdir()
    (root / "raw").symlink_to(delivered / "raw")

    # A scheduler ends it while Spark writes the payments.
    night = Night(root, champion_uri, tmp_path)
    night.wait_until((root / "tables" / "payments").exists)
    code, lines = night.end(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM
    assert lines == [f"nightly.py: ended by SIGTERM; night {LAST}: step ingest is on record as failed"]
    assert night.outcomes() == {"ingest": ("failed", "Interrupted: ended by SIGTERM")}

    # The machine takes Spark's memory while the payments are read again.
    night = Night(root, champion_uri, tmp_path)
    night.wait_until(lambda: night.outcomes()["ingest"][0] == "started")
    code, lines = night.end(signal.SIGKILL, java=True)
    assert code == 2
    (line,) = lines
    assert line.startswith("nightly.py: Spark's process ended by SIGKILL: where nobody ended it, the machine's memory")
    assert "spark.driver_memory (2g)" in line and f"night {LAST}: step ingest is on record as failed" in line
    outcome, message = night.outcomes()["ingest"]
    assert outcome == "failed"
    assert message is not None and message.startswith("SparkLostError: Spark's process ended by SIGKILL")

    # Ctrl-C reaches every process of the terminal, here while Python computes for Spark.
    night = Night(root, champion_uri, tmp_path)
    night.wait_until(lambda: night.outcomes().get("score", ("",))[0] == "started")
    mine = psutil.Process(night.process.pid)
    night.wait_until(lambda: any("pyspark.daemon" in command_line(child) for child in mine.children(recursive=True)))
    code, lines = night.end(signal.SIGINT, whole_group=True)
    assert code == 128 + signal.SIGINT
    assert lines == [f"nightly.py: ended by SIGINT; night {LAST}: step score is on record as failed"]
    assert night.outcomes()["score"] == ("failed", "Interrupted: ended by SIGINT")

    job = job_over(root, champion_uri)
    nightly.run(job, as_of=LAST)
    found = records(job, LAST)
    assert [(row["step"], row["outcome"]) for row in found] == [(step, "done") for step in STEPS]
    assert [row["attempt"] for row in found] == [3, 1, 1, 2, 1, 1]
    scores = job.warehouse.read(SCORES)
    assert scores.count() == scores.select("user_id").distinct().count() > 50


def test_a_killed_night_is_finished_by_the_next_run(
    delivered: Path, spark: SparkSession, champion_uri: str, tmp_path: Path
) -> None:
    root = tmp_path / "warehouse"
    root.mkdir()
    (root / "raw").symlink_to(delivered / "raw")
    arguments = [part for value in settings(root, champion_uri) for part in ("--set", value)]
    command = [sys.executable, str(PROJECT / "jobs/nightly.py"), "--as-of", str(LAST), *arguments]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert killed.stdout is not None
    try:
        # The payments are stored; the labels' step is at work, or the fold's.
        assert any(line.startswith("ingest_payments") for line in killed.stdout)
    finally:
        os.killpg(killed.pid, 9)
        killed.wait()
    job = job_over(root, champion_uri)
    left = {row["step"]: row["outcome"] for row in records(job, LAST)}
    assert left["ingest"] in ("started", "done") and "report" not in left
    nightly.run(job, as_of=LAST)
    assert [(row["step"], row["outcome"]) for row in records(job, LAST)] == [(step, "done") for step in STEPS]
    scores = job.warehouse.read(SCORES)
    assert scores.count() == scores.select("user_id").distinct().count() > 50
