"""What is minimised: default risk, or one of the objectives that need no label."""

from __future__ import annotations

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
    """Cross-entropy of the labels, in which a defaulter counts `weight` times; None: once, like others."""

    def __init__(self, network: nn.Module, weight: float | None):
        super().__init__()
        self.network = network
        self.weight = weight

    def forward(self, batch: FoldBatch) -> Tensor:
        """The mean loss of a labelled batch, a scalar, in float32."""
        assert batch.label is not None
        logits = self.network(batch).float()
        weight = None if self.weight is None else logits.new_tensor(self.weight)
        return F.binary_cross_entropy_with_logits(logits, batch.label, pos_weight=weight)


def build_objective(plan: TrainingPlan) -> nn.Module:
    """The plan's objective, a batch in and a loss out, over its fresh network, which is its `network`.

    Raises:
        InputError: the plan names a network that is not there, pretrains another than LBSF, or balances labels of
            one class.
    """
    network = build_network(plan.network, plan.model, plan.fold)
    if plan.objective == DEFAULT:
        return DefaultRisk(network, positive_weight(plan))
    if not isinstance(network, LBSF):
        raise InputError(f"only lbsf is pretrained, not {plan.network}")
    return OBJECTIVES[plan.objective](network, plan.fold)
