"""Knowledge distillation: adds a teacher's probabilities to the splits of a training plan."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lbsf.evaluation.metrics import Floats
from lbsf.training.plan import TrainingPlan
from lbsf.training.run_folder import RunFolder


def with_teacher(plan: TrainingPlan, probability: Mapping[str, Floats]) -> TrainingPlan:
    """Write a teacher's probabilities into the run's folder and return the plan that reads them.

    Args:
        plan: of the run; its folder is created if it is missing.
        probability: split -> (users,) probability of default that the teacher gives each user, in the order of the
            split's files.
    """
    folder = RunFolder.of(plan)
    folder.path.mkdir(parents=True, exist_ok=True)
    splits = dict(plan.splits)
    for name, of_split in probability.items():
        np.save(folder.teacher(name), of_split.astype(np.float32))
        splits[name] = splits[name].model_copy(update={"teacher": str(folder.teacher(name))})
    return plan.model_copy(update={"splits": splits})
