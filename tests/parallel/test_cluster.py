"""Ingest and fold on a Spark standalone cluster of two executors, against the same in one process."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from pyspark.sql import Row, SparkSession
from small import PROJECT, SMALL

from jobs import fold_payments, ingest_payments
from jobs.common import Job
from lbsf.config import load_config
from lbsf.schemas import FOLDS, PAYMENTS, TableSchema

CLUSTER = PROJECT / "benchmarks/tools/cluster.py"
SOURCE = "conf/sources/synthetic_payments.yaml"
AS_OF = date(2025, 3, 20)
SETTINGS = [*SMALL, "fold.window_days=30"]
# A JVM that runs for seconds loses more time to its optimising compiler than that wins.
SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def delivery(file: Path) -> None:
    """1,000 payments of 40 users from 1 February to 21 March, as the simulated bank delivers them."""
    rng = np.random.default_rng(7)
    begin = datetime(2025, 2, 1, tzinfo=UTC)
    payments = [
        {
            "txn_id": f"t{number}",
            "customer": f"user {rng.integers(40)}",
            "payee_id": f"m{rng.integers(9)}",
            "booked_at": (begin + timedelta(seconds=int(rng.integers(48 * 86_400)))).isoformat(),
            "value": f"{rng.integers(-9_999, 99_999) / 100:.2f}",
            "ccy": "EUR",
            "mcc_text": f"category {rng.integers(5)}",
            "channel": "POS",
            "payee_name": f"Shop number {rng.integers(9)}",
            "memo": None if number % 3 else f"Order {number}",
        }
        for number in range(1000)
    ]
    file.parent.mkdir(parents=True)
    pd.DataFrame(payments).to_parquet(file)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession) -> Job:
    """A warehouse whose payments were ingested and folded in this process."""
    root = tmp_path_factory.mktemp("local")
    delivery(root / "raw/payments/payments.parquet")
    overrides = [*SETTINGS, f"storage.root={root}"]
    job = Job(load_config("conf/local.yaml", overrides), "conf/local.yaml", overrides)
    ingest_payments.run(job, source=SOURCE)
    fold_payments.run(job, as_of=[AS_OF])
    return job


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A running cluster: the master's URL, and the folder of its logs."""
    specification = importlib.util.spec_from_file_location("cluster", CLUSTER)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as environment, ExitStack() as running:
        # The cluster's clocks may stand in another zone than the driver's.
        environment.setenv("TZ", "Asia/Tokyo")
        url, status = running.enter_context(module.cluster(workers=2, memory="1500m", work=work))
        environment.undo()
        assert [worker["cores"] for worker in module.ask(status)["workers"]] == [1, 1]
        yield url, work


def submit(job: str, root: Path, master: tuple[str, Path], *arguments: str) -> Path:
    """Runs a job as its own program on the cluster; Spark's log of what ran where."""
    url, work = master
    log = work / f"events of {len(list(work.glob('events*')))}"
    log.mkdir()
    settings = {
        "spark.executor.memory": "1g",
        "spark.executor.extraJavaOptions": SHORT_LIVED,
        "spark.cores.max": "2",
        # No task runs before both executors are there.
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": log.as_uri(),
    }
    values = [*SETTINGS, f"storage.root={root}", f"spark.settings={json.dumps(settings)}", f"spark.master={url}"]
    command = [sys.executable, f"jobs/{job}.py", *arguments, *(part for value in values for part in ("--set", value))]
    environment = {**os.environ, "JAVA_TOOL_OPTIONS": SHORT_LIVED}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (events,) = log.iterdir()
    return events


def executors_by_stage(events: Path) -> dict[str, set[str]]:
    """Of each stage's name the executors on which its tasks succeeded."""
    names: dict[int, str] = {}
    found = defaultdict(set)
    for line in events.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["Event"] == "SparkListenerStageSubmitted":
            names[event["Stage Info"]["Stage ID"]] = event["Stage Info"]["Stage Name"]
        elif event["Event"] == "SparkListenerTaskEnd" and event["Task End Reason"]["Reason"] == "Success":
            found[names[event["Stage ID"]]].add(event["Task Info"]["Executor ID"])
    return found


def processes(events: Path, work: Path) -> list[int]:
    """Process ids of an application's executors, as they stand in the executors' own logs."""
    logs = [path.read_text(encoding="utf-8") for path in work.glob(f"worker*/{events.name}/*/stderr")]
    return [int(pid) for log in logs for pid in re.findall(r"Started daemon with process name: (\d+)@", log)]


def stored(job: Job, root: Path, table: TableSchema) -> list[Row]:
    """A table's rows under a root, but for when they were ingested."""
    rows = job.spark.read.format("delta").load(f"{root}/tables/{table.name}")
    return rows.drop("ingested_at").orderBy(*table.key).collect()


def test_a_cluster_stores_and_folds_what_one_process_does(local: Job, master: tuple[str, Path], tmp_path: Path) -> None:
    raw = str(local.root / "raw/payments")
    ingested = submit("ingest_payments", tmp_path, master, "--source", SOURCE, "--path", raw)
    payments = stored(local, local.root, PAYMENTS)
    assert len(payments) == 1000
    assert stored(local, tmp_path, PAYMENTS) == payments

    as_of = ("--as-of", str(AS_OF))
    folds = stored(local, local.root, FOLDS)
    assert len(folds) == 40
    by_files = submit("fold_payments", tmp_path, master, *as_of)
    assert stored(local, tmp_path, FOLDS) == folds
    through_spark = submit("fold_payments", tmp_path, master, *as_of, "--set", "fold.through_spark=true")
    assert stored(local, tmp_path, FOLDS) == folds

    for events in (ingested, by_files, through_spark):
        assert set.union(*executors_by_stage(events).values()) == {"0", "1"}
        assert len(set(processes(events, master[1]))) == 2
    # The buckets themselves were folded on both.
    (folding,) = [ids for name, ids in executors_by_stage(by_files).items() if "fold_run.py" in name]
    assert folding == {"0", "1"}


@pytest.mark.parametrize("end", ["command", signal.SIGTERM, signal.SIGKILL], ids=str)
def test_a_cluster_ends_with_its_script(end: str | signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print(sys.argv[1:], flush=True); sys.stdin.read(); sys.exit(7)"]
    script = subprocess.Popen(
        [sys.executable, str(CLUSTER), "--workers", "1", "--work", str(tmp_path), "--", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert script.stdin is not None and script.stdout is not None
    try:
        assert re.fullmatch(r"\['--set', 'spark.master=spark://127.0.0.1:\d+'\]\n", script.stdout.readline())
        started = psutil.Process(script.pid).children(recursive=True)
        running = [process for process in started if process.status() != psutil.STATUS_ZOMBIE]
        assert len(running) == 3  # master, worker, command
        if end == "command":
            script.stdin.close()
            assert script.wait(30) == 7
        else:
            os.kill(script.pid, end)
            assert script.wait(30) == {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGKILL: -signal.SIGKILL}[end]
        _, alive = psutil.wait_procs(started, timeout=30)
        assert alive == []
    finally:
        script.kill()
