"""Runs one contender on one dataset in its own folder and process, checks its folds and returns a record."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.fold.checksum import checksum_of_folds, checksum_of_nested
from benchmarks.fold.contenders import CONTENDERS, CORES, PROJECT, Spent, Task, folds_root, run, write_task
from benchmarks.fold.dataset import BYTES_A_PAYMENT, Dataset, require_disk
from benchmarks.harness.processes import Limits, Watched, watch
from lbsf.schemas import PAYMENTS
from lbsf.tables.log import snapshot_files

# Runs a task; returns how it ended, and its times if it was successful.
Runner = Callable[[Task, Path], tuple[Watched, Spent | None]]


def in_own_process(limits: Limits) -> Runner:
    """Return a runner that starts a monitored process for each run, so that each has its own peak memory."""

    def start(task: Task, folder: Path) -> tuple[Watched, Spent | None]:
        write_task(task, folder / "task.json")
        env = {"TMPDIR": task.temp, "PYTHONPATH": str(PROJECT)}
        if task.contender == "polars":
            env["POLARS_MAX_THREADS"] = str(CORES)
        command = [sys.executable, "-m", "benchmarks.fold.contenders", str(folder / "task.json")]
        log = folder / "log.txt"
        watched = watch(command, temp=Path(task.temp), log=log, env=env, cwd=PROJECT, limits=limits)
        result = folder / "result.json"
        if watched.status == "failed":
            print(log.read_text(encoding="utf-8", errors="replace")[-3000:], file=sys.stderr)
        if watched.status != "ok":
            return watched, None
        return watched, Spent(**json.loads(result.read_text(encoding="utf-8")))

    return start


def here(task: Task, folder: Path) -> tuple[Watched, Spent | None]:
    """Run a task in this process, for tests."""
    return Watched("ok", 0, 0), run(task)


@dataclass(frozen=True)
class Bench:
    """Runs contenders on one dataset.

    Attributes:
        data: the payments that are folded.
        scratch: folder for the runs' folders, each of which is removed after the run.
        runner: starts contenders.
        nights: whether our full folds are kept, for the contenders that read last night's folds.
    """

    data: Dataset
    scratch: Path
    runner: Runner
    nights: bool = True

    def measure(self, name: str) -> dict[str, Any]:
        """Run a contender and check the folds that it wrote.

        Returns:
            Its status and, if that is `ok`, its times and the size of its output in bytes.

        Raises:
            SystemExit: its folds differ from the generated payments, or the disk is too small.
        """
        contender = CONTENDERS[name]
        if contender.of_night and not self._night.exists() and self.measure("ours")["status"] != "ok":
            return {"contender": name, "status": "no folds to go on from"}
        folder = self.scratch / "run"
        shutil.rmtree(folder, ignore_errors=True)
        require_disk(self.scratch, self.data.payments * BYTES_A_PAYMENT, f"folds of {self.data.payments:,} payments")
        task = self._set_up(name, folder)
        # Writing the previous run's dirty pages to disk would slow this one down.
        os.sync()
        load = os.getloadavg()[0]
        watched, spent = self.runner(task, folder)
        record = {"contender": name, **watched._asdict(), "load_before": load}
        if spent is not None:
            record |= spent._asdict()
            files = _written(task)
            self._check(task, files)
            record["output"] = sum(file.stat().st_size for file in files)
            if name == "ours" and self.nights and not self._night.exists():
                Path(folds_root(task)).rename(self._night)
        shutil.rmtree(folder)
        return record

    def close(self) -> None:
        """Remove the kept folds."""
        shutil.rmtree(self._night, ignore_errors=True)

    @property
    def _night(self) -> Path:
        return self.scratch / "night"

    def _set_up(self, name: str, folder: Path) -> Task:
        contender = CONTENDERS[name]
        day = self.data.next_day if contender.next_day else self.data.last_day
        warehouse, out, temp = folder / "warehouse", folder / "out", folder / "temp"
        for made in (warehouse / "tables", out, temp):
            made.mkdir(parents=True)
        payments = self.data.root / ("second" if contender.next_day else "first") / "tables" / PAYMENTS.name
        (warehouse / "tables" / PAYMENTS.name).symlink_to(payments, target_is_directory=True)
        task = Task(name, str(warehouse), str(out), str(temp), day.isoformat(), self.data.buckets)
        if contender.of_night:
            shutil.copytree(self._night, folds_root(task), copy_function=_link)
        return task

    def _check(self, task: Task, files: list[Path]) -> None:
        check = checksum_of_folds if CONTENDERS[task.contender].ours else checksum_of_nested
        found, expected = check(files), self.data.expected[date.fromisoformat(task.as_of)]
        if found != expected:
            raise SystemExit(f"{task.contender} as of {task.as_of} differs:\n  found {found}\n  expected {expected}")


def _written(task: Task) -> list[Path]:
    """Return the Parquet files with the contender's folds."""
    if task.contender in ("ours", "ours_through_spark", "ours_incremental"):
        stored = snapshot_files(folds_root(task))
        return [Path(file.path) for file in stored if file.partition["as_of"] == task.as_of]
    return sorted(Path(task.out).rglob("*.parquet"))


def _link(source: str, target: str) -> None:
    """Hard-link a data file, as data files are never changed; copy a file of the log."""
    if "_delta_log" in source:
        shutil.copy2(source, target)
    else:
        os.link(source, target)
