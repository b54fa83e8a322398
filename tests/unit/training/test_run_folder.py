"""The folder of a training run: found again by the plan, and emptied of what would be resumed."""

from __future__ import annotations

from pathlib import Path

from example_files import training_plan

from lbsf.training.plan import TrainingPlan
from lbsf.training.run_folder import RunFolder


def test_the_same_settings_find_the_same_folder(tmp_path: Path) -> None:
    plan = training_plan(tmp_path, users=20)
    settings = {name: value for name, value in plan if name != "output"}
    first, again = (TrainingPlan.in_folder(tmp_path, **settings) for _ in range(2))
    assert first == again
    assert RunFolder.of(first).path == tmp_path / first.key
    other = settings | {"training": plan.training.model_copy(update={"seed": 8})}
    assert RunFolder.of(TrainingPlan.in_folder(tmp_path, **other)).path != RunFolder.of(first).path


def test_a_run_that_begins_anew_forgets_its_checkpoint_and_its_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.run_id is None
    folder.note_run_id("abc")
    folder.checkpoint.touch()
    folder.plan_file.touch()
    assert folder.run_id == "abc"
    folder.forget_progress()
    assert folder.run_id is None
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
