"""The initial weights of a training run, and the averaged weights that predict."""

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
    """Copy the model to an exponential moving average of its weights and buffers over about `steps` steps.

    At the beginning it averages over about a tenth of the steps done, so that the initial weights soon lose influence.
    """

    def update(averaged: Any, current: Any, number: Any) -> None:
        done = int(number)
        weight = max(1 / steps, 9 / (10 + done))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:
            torch._foreach_copy_(averaged, current)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def starting_weights(plan: TrainingPlan, folder: Path) -> dict[str, Tensor]:
    """Load the initial weights of the plan.

    Raises:
        InputError: the weights have changed since the plan was made, or belong to other model or fold settings.
    """
    if files_digest(folder) != plan.start_sha256:
        raise InputError(f"{folder}: not the weights that were planned; let all hosts read one storage")
    start, card = load_model(folder)
    if (card.model, card.fold.spec) != (plan.model, plan.fold.spec):
        raise InputError(f"{folder}: pretrained with other settings of model or fold; pretrain again with these")
    return start.state_dict()
