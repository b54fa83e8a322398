"""A teacher's probabilities lie in the run's folder, and the plan names them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from example_files import training_plan

from lbsf.training.teacher import with_teacher


def test_the_plan_names_what_the_teacher_says_of_each_split(tmp_path: Path) -> None:
    plan = training_plan(tmp_path, users=40, teacher_share=0.75)
    said = np.linspace(0, 1, 40)
    taught = with_teacher(plan, {"train": said})
    teacher = taught.splits["train"].teacher
    assert teacher is not None and np.load(teacher).tolist() == said.astype(np.float32).tolist()
    # The teacher follows from the splits and the seed, so it is no part of the plan's key.
    assert taught.key == plan.key and taught.splits["validation"].teacher is None


def test_without_a_teacher_the_plan_stays(tmp_path: Path) -> None:
    plan = training_plan(tmp_path, users=40)
    assert with_teacher(plan, {}) == plan
