"""Checkpoints on disk: whole or not there, and only for the run that wrote them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from example_files import training_plan
from safetensors import safe_open

from lbsf.errors import InputError
from lbsf.training.checkpoint import Checkpoint, Progress, load_checkpoint, save_checkpoint
from lbsf.training.plan import TrainingPlan
from lbsf.training.run_folder import RunFolder

FILE = "checkpoint.safetensors"


@pytest.fixture
def plan(tmp_path: Path) -> TrainingPlan:
    return training_plan(tmp_path, users=20)


@pytest.fixture
def checkpoint() -> Checkpoint:
    progress = Progress(epoch=2, step=3, ranks=2, loss=0.1 + 0.2, best_epoch=1, best_score=2 / 3)
    weights = {"head.weight": torch.randn(3, 2), "head.count": torch.tensor(7)}
    return Checkpoint(
        progress,
        model=weights,
        optimizer={"0.step": torch.tensor(8.0), "0.exp_avg": torch.randn(3, 2)},
        averaged={name: tensor + 2 for name, tensor in weights.items()},
        best={name: tensor + 1 for name, tensor in weights.items()},
    )


def test_what_is_read_is_what_was_written(tmp_path: Path, plan: TrainingPlan, checkpoint: Checkpoint) -> None:
    assert load_checkpoint(tmp_path, plan) is None
    save_checkpoint(tmp_path, replace(checkpoint, progress=Progress()), plan)
    save_checkpoint(tmp_path, checkpoint, plan)
    found = load_checkpoint(tmp_path, plan)
    assert found is not None
    assert found.progress == checkpoint.progress
    for part in ("model", "optimizer", "averaged", "best"):
        written, read = getattr(checkpoint, part), getattr(found, part)
        assert written.keys() == read.keys()
        assert all(torch.equal(tensor, read[name]) for name, tensor in written.items())
    assert [path.name for path in tmp_path.glob("*safetensors*")] == [FILE]


def test_a_write_that_fails_leaves_the_old_checkpoint(
    tmp_path: Path, plan: TrainingPlan, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, checkpoint, plan)

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path, replace(checkpoint, progress=Progress()), plan)
    found = load_checkpoint(tmp_path, plan)
    assert found is not None
    assert found.progress == checkpoint.progress
    assert [path.name for path in tmp_path.glob("*safetensors*")] == [FILE]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"width": 32}}, r"model.width is 16 there, 32 here"),
        ({"training": {"learning_rate": 0.5}}, r"training.learning_rate is 0.01 there, 0.5 here"),
        ({"network": "other"}, r"network is lbsf there, other here"),
        ({"splits": {"train": {"files": ["elsewhere"]}}}, r"splits.train.files differ"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, plan: TrainingPlan, checkpoint: Checkpoint, change: dict[str, Any], message: str
) -> None:
    save_checkpoint(tmp_path, checkpoint, plan)
    with pytest.raises(InputError, match=f"{FILE}: a checkpoint of another run .{message}.: train with --fresh"):
        load_checkpoint(tmp_path, changed(plan, change))


@pytest.mark.parametrize(
    "change",
    [{"output": "elsewhere"}, {"training": {"hosts": "a:1,b:1"}}, {"training": {"network_interfaces": "eth1"}}],
)
def test_a_run_may_go_on_elsewhere(
    tmp_path: Path, plan: TrainingPlan, checkpoint: Checkpoint, change: dict[str, Any]
) -> None:
    save_checkpoint(tmp_path, checkpoint, plan)
    moved = changed(plan, change)
    assert moved != plan
    assert moved.key == plan.key
    assert load_checkpoint(tmp_path, moved) is not None


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, plan: TrainingPlan, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path, checkpoint, plan)
    path = RunFolder(tmp_path).checkpoint
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{FILE}: no readable checkpoint .*train with --fresh"):
        load_checkpoint(tmp_path, plan)


def test_the_header_is_plain_json(tmp_path: Path, plan: TrainingPlan, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path, checkpoint, plan)
    with safe_open(RunFolder(tmp_path).checkpoint, "pt") as file:
        header = file.metadata()
    assert json.loads(header["progress"])["best_score"] == 2 / 3
    assert json.loads(header["plan"])["model"] == plan.model.model_dump()


def changed(plan: TrainingPlan, change: dict[str, Any]) -> TrainingPlan:
    """The plan with some values of its JSON form replaced."""

    def lay(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
        return {
            **under,
            **{name: lay(under[name], value) if isinstance(value, dict) else value for name, value in over.items()},
        }

    return TrainingPlan.model_validate(lay(plan.model_dump(mode="json"), change))


def test_a_flipped_bit_is_found_out(tmp_path: Path, plan: TrainingPlan, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path, checkpoint, plan)
    whole = RunFolder(tmp_path).checkpoint.read_bytes()
    # The last byte is one of a tensor's, and the progress stands in the header.
    place = whole.index(b"best_epoch") + len(b'best_epoch\\": ')
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:place] + b"0" + whole[place + 1 :]):
        assert damaged != whole
        RunFolder(tmp_path).checkpoint.write_bytes(damaged)
        with pytest.raises(InputError, match="a damaged checkpoint, its SHA-256 is not the recorded one: .*--fresh"):
            load_checkpoint(tmp_path, plan)


def test_weights_that_are_no_numbers_are_not_gone_on_with(
    tmp_path: Path, plan: TrainingPlan, checkpoint: Checkpoint
) -> None:
    nan = {**checkpoint.best, "head.weight": torch.full((3, 2), float("nan"))}
    save_checkpoint(tmp_path, replace(checkpoint, best=nan), plan)
    with pytest.raises(InputError, match="--fresh.*: damaged weights: 6 of 6 numbers in best.head.weight"):
        load_checkpoint(tmp_path, plan)
