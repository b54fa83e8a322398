"""Trains the cells: several at a time, each in its own process, each only once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.experiment.cells import SETTINGS, TREES, Cell, Setting
from benchmarks.experiment.data import PROJECT, Data, fewer_labels
from benchmarks.experiment.intervals import Floats
from benchmarks.experiment.predictions import read
from lbsf.config.models import Config, TrainingConfig
from lbsf.models.artifact import files_digest
from lbsf.training.distributed import launch
from lbsf.training.plan import TrainingPlan
from lbsf.training.run_folder import RunFolder
from lbsf.training.teacher import with_teacher

RESULT = "result.json"
# How often a user is repeated in an epoch, at most, if there are fewer labels than usual.
MOST_TIMES = 4
# LightGBM's threads must not wait actively, as this would take CPU time from cells that are trained at the same time.
_ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "passive"}


class Runner:
    """Trains the cells that are not trained yet, so that a stopped run can simply be started again."""

    def __init__(self, config: Config, data: Data, at_once: int):
        self.config, self.data, self.at_once = config, data, at_once
        self.folder = data.root / "experiment"

    def train(self, cells: Sequence[Cell]) -> list[Cell]:
        """Train the cells, those that others depend on first.

        Returns:
            The cells that failed.
        """
        then = [cell for cell in cells if cell.network == "fusion" or cell.taught or cell.pretrained]
        first = [cell for cell in cells if cell not in then]
        # Pretraining takes longer than a cell, so it starts first; one run serves all cells that start from it.
        weights = {self._pretrained_folder(cell): cell for cell in cells if cell.pretrained == "visits"}
        with ThreadPoolExecutor(self.at_once) as pool:
            pretraining = [pool.submit(self._pretrain, cell) for cell in weights.values()]
            with tqdm(total=len(cells), desc="experiment", unit="cell", disable=None) as bar:
                failed = []
                for part in (first, then):
                    for cell, ended_well in zip(part, pool.map(self._train, part), strict=True):
                        bar.update()
                        failed += [] if ended_well else [cell]
                    # The next cells depend on the pretraining.
                    for run in pretraining:
                        run.result()
                return failed

    def choose_settings(self, trials: Mapping[str, Sequence[Cell]]) -> dict[str, Setting]:
        """Choose each network's setting: the one with the highest validation AUC.

        Args:
            trials: network -> cells that differ only by setting. A network without trained cells gets no setting.
        """
        chosen = {}
        for network, cells in trials.items():
            results = {cell.setting: result for cell in cells if (result := self.result(cell))}
            if results:
                chosen[network] = max(results, key=lambda setting: _best_validation(results[setting]["epochs"]))
        return chosen

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """Return a cell's result; None if it is not trained, or was trained with other settings."""
        path = self.folder / cell.name / RESULT
        if not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found if found["key"] == self.plan(cell).key else None

    def plan(self, cell: Cell) -> TrainingPlan:
        """Return the cell's training plan; draw its labels if it has another number of them than usual."""
        splits = dict(self.data.splits)
        if cell.labels is not None:
            # With few labels an epoch has few steps, so users are repeated; but too many repetitions would overfit.
            times = min(MOST_TIMES, max(1, splits["train"].users // cell.labels)) if _by_ranks(cell) else 1
            splits["train"] = fewer_labels(self.data, cell.labels, cell.seed, times)
        if cell.network == "lightgbm":
            splits["unlabelled"] = self.data.every_train
        plan = cell.plan(self.config, splits, str(self.folder / cell.name))
        if not cell.pretrained:
            return plan
        start_from = RunFolder(self._pretrained_folder(cell)).model
        start = {"start_from": str(start_from), "start_sha256": files_digest(start_from)}
        return plan.model_copy(update=start)

    def _train(self, cell: Cell) -> bool:
        if self.result(cell) is not None:
            return True
        folder = self.folder / cell.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if cell.pretrained == "teacher":
            # Its teacher has this cell's labels, so this pretraining is not shared with other cells.
            self._pretrain(cell)
        plan = self.plan(cell)
        if cell.taught:
            said = self._teacher_probabilities(cell, "train")
            plan = with_teacher(plan, {"train": np.tile(said, plan.splits["train"].users // len(said))})
        plan.save(RunFolder(folder).plan_file)
        started = time.monotonic()
        events = _run(self._command(cell, folder), folder / "log.txt", plan.training if _by_ranks(cell) else None)
        if events is None:
            tqdm.write(f"{cell.name}: failed, see {folder / 'log.txt'}")
            return False
        epochs = [event for event in events if event["event"] == "epoch"]
        found = {
            "cell": cell.describe(),
            "key": plan.key,
            "seconds": time.monotonic() - started,
            "epochs": epochs,
            "labels": cell.labels or plan.splits["train"].users,
        }
        (folder / RESULT).write_text(json.dumps(found), encoding="utf-8")
        best = f", best validation AUC {_best_validation(epochs):.4f}" if epochs else ""
        tqdm.write(f"{cell.name}: {found['seconds']:.0f} s{best}")
        return True

    def _command(self, cell: Cell, folder: Path) -> list[str]:
        if _by_ranks(cell):
            return _rank(folder)
        command = [sys.executable, "-m", "benchmarks.experiment.trees", "--plan", str(RunFolder(folder).plan_file)]
        if cell.network == "fusion":
            # The fusion has the setting of the network that it combines with LightGBM.
            combined = [replace(cell, network=network) for network in ("lightgbm", "lbsf")]
            command += ["--weigh", *(str(self.folder / one.name) for one in combined)]
        return command

    def _teacher_probabilities(self, cell: Cell, split: str) -> Floats:
        """Return the probabilities of a split's users from the LightGBM with the cell's seed, days and labels."""
        trees = replace(cell, network="lightgbm", taught=False, pretrained=None)
        return read(self.folder / trees.name, split)[1]

    def _pretrained_folder(self, cell: Cell) -> Path:
        if cell.pretrained == "teacher":
            return self.folder / cell.name / "pretrained"
        return self.folder / f"pretrained-seed{cell.seed}-{cell.setting.head}"

    def _pretrain(self, cell: Cell) -> None:
        """Pretrain the weights that a cell starts from, on the folds of all training users, without their labels."""
        folder = self._pretrained_folder(cell)
        splits = {**self.data.splits, "train": self.data.every_train}
        setting = SETTINGS[0]._replace(head=cell.setting.head)
        plan = Cell("lbsf", cell.days, cell.seed, setting=setting).plan(self.config, splits, str(folder))
        training = plan.training.model_copy(update={"epochs": self.config.pretraining.epochs})
        plan = plan.model_copy(update={"objective": cell.pretrained, "training": training})
        run = RunFolder(folder)
        if run.model.exists() and TrainingPlan.load(run.plan_file).key == plan.key:
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if cell.pretrained == "teacher":
            asked = (("train", "unlabelled"), ("validation", "validation"))
            plan = with_teacher(plan, {name: self._teacher_probabilities(cell, of) for name, of in asked})
        plan.save(run.plan_file)
        if _run(_rank(folder), folder / "log.txt", training) is None:
            raise SystemExit(f"pretraining failed, see {folder / 'log.txt'}")


def _best_validation(epochs: Sequence[dict[str, Any]]) -> float:
    return max(float(epoch["validation.auc"]) for epoch in epochs)


def _by_ranks(cell: Cell) -> bool:
    return cell.network not in TREES


def _rank(folder: Path) -> list[str]:
    """One rank of the plan in a folder."""
    return [sys.executable, str(PROJECT / "jobs/train_rank.py"), "--plan", str(RunFolder(folder).plan_file)]


def _run(command: Sequence[str], log: Path, training: TrainingConfig | None) -> list[dict[str, Any]] | None:
    """Run a command, with horovodrun if the training has several ranks.

    Returns:
        The JSON lines that it printed, or None if it failed.
    """
    if training is not None and training.ranks > 1:
        lines: list[str] = []
        network = training.network_interfaces
        status = launch(
            command,
            training.ranks,
            training.hosts,
            lines.append,
            network_interfaces=network,
            timeout_seconds=training.rank_timeout_seconds,
        )
        log.write_text("\n".join(lines), encoding="utf-8")
    else:
        with log.open("w", encoding="utf-8") as errors:
            done = subprocess.run(
                command, cwd=PROJECT, env=_ENVIRONMENT, stdout=subprocess.PIPE, stderr=errors, text=True, check=False
            )
            errors.write(done.stdout)
        status, lines = done.returncode, done.stdout.splitlines()
    return None if status else [json.loads(line) for line in lines if line.startswith("{")]
