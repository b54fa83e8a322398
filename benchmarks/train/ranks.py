"""The product's training as train_model starts it: horovodrun, Petastorm, one thread per rank."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from sklearn.metrics import roc_auc_score

from benchmarks.harness.machine import PROJECT
from benchmarks.train.dataset import Dataset
from lbsf.config import load_config
from lbsf.config.models import TrainingConfig
from lbsf.training.distributed import launch
from lbsf.training.plan import Split, TrainingPlan
from lbsf.training.predictions import SavedPredictions
from lbsf.training.run_folder import RunFolder

SPLITS = ("train", "validation", "test")


def train(data: Dataset, ranks: int, epochs: int, output: Path, **settings: Any) -> dict[str, Any]:
    """Train all epochs; return each epoch's seconds and share of waiting for data, and the best one's test AUC.

    `settings` are further ones of lbsf.config.models.TrainingConfig.

    Raises:
        RuntimeError: a rank failed.
    """
    config = load_config("conf/base.yaml")
    # Trained on the labels only, like the networks that it is compared with.
    changed = {"ranks": ranks, "epochs": epochs, "patience": epochs, "threads_per_rank": 1, "teacher_share": 0.0}
    changed |= settings
    plan = TrainingPlan(
        model=config.model,
        fold=config.fold,
        training=TrainingConfig(**{**config.training.model_dump(), **changed}),
        splits={name: Split(files=data.files(name), users=data.users_of(name)) for name in SPLITS},
        output=str(output),
    )
    output.mkdir(parents=True)
    folder = RunFolder(output)
    plan.save(folder.plan_file)
    lines: list[str] = []
    command = [sys.executable, str(PROJECT / "jobs/train_rank.py"), "--plan", str(folder.plan_file)]
    if launch(command, ranks, None, lines.append):
        raise RuntimeError("\n".join(lines[-30:]))
    events = [json.loads(line) for line in lines if line.startswith("{")]
    found = [event for event in events if event["event"] == "epoch"]
    test = SavedPredictions.load(folder.predictions("test"))
    test_auc = float(roc_auc_score(test.label, test.probability))
    return {
        "epoch_seconds": [event["seconds"] for event in found],
        "payments_per_second": max(event["payments_per_second"] for event in found),
        "data_wait_share": [event["data_wait_share"] for event in found],
        "validation_auc": max(event["validation.auc"] for event in found),
        "test_auc": test_auc,
    }
