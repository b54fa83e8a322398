"""The weights that a run starts from, and their average that predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from lbsf.errors import InputError
from lbsf.models.artifact import files_digest, load_model
from lbsf.training.plan import TrainingPlan


def averaged_copy(model: nn.Module, steps: int) -> AveragedModel:
    """A copy of the model whose weights and buffers follow it: an exponential average over about `steps` steps.

    Over fewer at the beginning (a tenth or so of those taken), so that it soon forgets the first weights.
    """

    def follow(averaged: Any, current: Any, number: Any) -> None:
        taken = int(number)
        part = max(1 / steps, 9 / (10 + taken))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, part)
        else:
            torch._foreach_copy_(averaged, current)

    return AveragedModel(model, multi_avg_fn=follow, use_buffers=True)


def starting_weights(plan: TrainingPlan, folder: Path) -> dict[str, Tensor]:
    """The weights that the plan starts from.

    Raises:
        InputError: others are there now, or they are of another network or of other folds.
    """
    if files_digest(folder) != plan.start_sha256:
        raise InputError(f"{folder}: not the weights that were planned; let all hosts read one storage")
    start, card = load_model(folder)
    if (card.model, card.fold.spec) != (plan.model, plan.fold.spec):
        raise InputError(f"{folder}: pretrained with other settings of model or fold; pretrain again with these")
    return start.state_dict()
