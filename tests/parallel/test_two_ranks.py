"""Training with two real Horovod ranks over Gloo, fed by Petastorm."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_files import labelled_rows, training_plan, write_examples
from sklearn.metrics import roc_auc_score

from lbsf.loading.petastorm_reader import every_user_once
from lbsf.models.artifact import load_model
from lbsf.models.predict import predict_probabilities
from lbsf.training.distributed import launch
from lbsf.training.plan import Split, TrainingPlan

RANK = Path(__file__).parents[2] / "jobs" / "train_rank.py"


def train(plan: TrainingPlan) -> tuple[int, list[dict[str, Any]]]:
    """Runs the plan's ranks; horovodrun's status and the events that ranks printed."""
    output = Path(plan.output)
    output.mkdir(parents=True, exist_ok=True)
    plan.save(output / "plan.json")
    lines: list[str] = []
    status = launch(
        [sys.executable, str(RANK), "--plan", str(output / "plan.json")], plan.training.ranks, None, lines.append
    )
    return status, [json.loads(line) for line in lines if line.startswith("{")]


def epochs(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == "epoch"]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingPlan, list[dict[str, Any]]]:
    plan = training_plan(tmp_path_factory.mktemp("two"), users=512, ranks=2, epochs=3)
    status, events = train(plan)
    assert status == 0, events
    return plan, events


def test_two_ranks_learn_what_the_data_shows(two_ranks: tuple[TrainingPlan, list[dict[str, Any]]]) -> None:
    plan, events = two_ranks
    steps = [event for event in events if event["event"] == "step"]
    assert len(steps) == plan.steps_per_epoch * 3
    with np.load(Path(plan.output) / "out_of_time.npz", allow_pickle=False) as saved:
        assert len(saved["label"]) == plan.splits["out_of_time"].users
        assert roc_auc_score(saved["label"], saved["probability"]) > 0.75
        # Calibrated on validation, so near the rate on other users of the same kind.
        assert saved["probability"].mean() == pytest.approx(saved["label"].mean(), abs=0.1)


def test_the_saved_model_gives_the_probabilities_that_the_ranks_gave(
    two_ranks: tuple[TrainingPlan, list[dict[str, Any]]],
) -> None:
    plan, _ = two_ranks
    batches = list(every_user_once(plan.splits["out_of_time"].files, shard=0, shards=1, batch_users=64))
    found = predict_probabilities(*load_model(Path(plan.output) / "model"), batches)
    with np.load(Path(plan.output) / "out_of_time.npz", allow_pickle=False) as saved:
        np.testing.assert_allclose(np.sort(found), np.sort(saved["probability"]), atol=1e-5)


def test_the_same_plan_gives_the_same_losses(
    two_ranks: tuple[TrainingPlan, list[dict[str, Any]]], tmp_path: Path
) -> None:
    plan, events = two_ranks
    status, again = train(plan.model_copy(update={"output": str(tmp_path / "again")}))
    assert status == 0
    for first, second in zip(epochs(events), epochs(again), strict=True):
        assert first["train.loss"] == pytest.approx(second["train.loss"], rel=1e-6)
        assert first["validation.auc"] == pytest.approx(second["validation.auc"], rel=1e-6)


def test_ranks_with_unequal_shards_take_equal_steps_and_read_all_validation_users_once(tmp_path: Path) -> None:
    plan = training_plan(tmp_path, users=90, ranks=2, epochs=1)
    # Three row groups of validation: one rank reads two of them.
    rows = labelled_rows(47, seed=5)
    path = write_examples(tmp_path / "uneven.parquet", rows, row_group_rows=20)
    plan = plan.model_copy(update={"splits": {**plan.splits, "validation": Split(files=(path,), users=47)}})
    status, events = train(plan)
    assert status == 0, events
    assert epochs(events)[0]["validation.users"] == 47


def test_a_split_that_changed_under_the_run_is_refused_in_one_line(tmp_path: Path) -> None:
    plan = training_plan(tmp_path, users=64, ranks=2, epochs=1)
    changed = plan.splits["validation"].model_copy(update={"users": 1})
    status, events = train(plan.model_copy(update={"splits": {**plan.splits, "validation": changed}}))
    assert status != 0
    errors = {event["message"] for event in events if event["event"] == "error"}
    assert errors == {"split validation: 32 users were read, 1 were planned"}


def test_ranks_that_were_told_differently_stop_at_once(tmp_path: Path) -> None:
    plan = training_plan(tmp_path, users=64, ranks=2)
    for rank in (0, 1):
        plan.model_copy(update={"output": f"/nowhere/{rank}"}).save(tmp_path / f"plan{rank}.json")
    lines: list[str] = []
    script = f"exec {sys.executable} {RANK} --plan {tmp_path}/plan$HOROVOD_RANK.json"
    status = launch(["bash", "-c", script], 2, None, lines.append)
    assert status != 0
    assert any("ranks [1] were given another training plan than rank 0" in line for line in lines), lines
