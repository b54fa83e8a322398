"""What is minimised: default risk, as the labels and a teacher tell it, or one of the objectives that need no label."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lbsf.errors import InputError
from lbsf.models.batch import FoldBatch
from lbsf.models.lbsf import LBSF
from lbsf.models.pretraining import OBJECTIVES
from lbsf.training.inputs import positive_weight
from lbsf.training.networks import build_network
from lbsf.training.plan import TrainingPlan

DEFAULT = "default"


class DefaultRisk(nn.Module):
    """Cross-entropy of the labels, or of what lies between them and a teacher's probabilities.

    A teacher that sees what the network is slow to learn hands it on (distillation, Hinton et al. 2015), and its
    probabilities say more of a user than whether he defaulted.

    Attributes:
        network: what gives logits.
        weight: how often a defaulter counts; None: once, like others.
        teacher_share: of the teacher in the target, the rest is the label's; batches need a teacher where it is not 0.
    """

    def __init__(self, network: nn.Module, weight: float | None, teacher_share: float = 0.0):
        super().__init__()
        self.network = network
        self.weight = weight
        self.teacher_share = teacher_share

    def forward(self, batch: FoldBatch) -> Tensor:
        """The mean loss of a labelled batch, a scalar, in float32."""
        assert batch.label is not None
        target = batch.label
        if self.teacher_share:
            assert batch.teacher is not None
            target = torch.lerp(batch.label, batch.teacher, self.teacher_share)
        logits = self.network(batch).float()
        weight = None if self.weight is None else logits.new_tensor(self.weight)
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)


def build_objective(plan: TrainingPlan) -> nn.Module:
    """The plan's objective, a batch in and a loss out, over its fresh network, which is its `network`.

    Raises:
        InputError: the plan names a network that is not there, pretrains another than LBSF, balances labels of
            one class, or asks for a teacher that it does not have.
    """
    network = build_network(plan.network, plan.model, plan.fold)
    if plan.objective == DEFAULT:
        share = plan.training.teacher_share
        if share and plan.splits["train"].teacher is None:
            raise InputError(f"training.teacher_share is {share}, but nothing teaches: set it to 0")
        return DefaultRisk(network, positive_weight(plan), share)
    if not isinstance(network, LBSF):
        raise InputError(f"only lbsf is pretrained, not {plan.network}")
    return OBJECTIVES[plan.objective](network, plan.fold)
