"""What is minimised: default risk, or one of the objectives that need no label."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lbsf.errors import InputError
from lbsf.models.batch import FoldBatch
from lbsf.models.lbsf import LBSF
from lbsf.models.pretraining import OBJECTIVES
from lbsf.training.networks import build_network
from lbsf.training.plan import TrainingPlan

DEFAULT = "default"


class DefaultRisk(nn.Module):
    """Cross-entropy of the labels."""

    def __init__(self, network: nn.Module, positive_weight: Tensor | None):
        super().__init__()
        self.network = network
        self.positive_weight = positive_weight

    def forward(self, batch: FoldBatch) -> Tensor:
        """The mean loss of a labelled batch, a scalar, in float32."""
        assert batch.label is not None
        logits = self.network(batch).float()
        return F.binary_cross_entropy_with_logits(logits, batch.label, pos_weight=self.positive_weight)


def build_objective(plan: TrainingPlan, positive_weight: Tensor | None) -> nn.Module:
    """The plan's objective, a batch in and a loss out, over its fresh network, which is its `network`.

    Raises:
        InputError: the plan names a network that is not there, or pretrains another than LBSF.
    """
    network = build_network(plan.network, plan.model, plan.fold)
    if plan.objective == DEFAULT:
        return DefaultRisk(network, positive_weight)
    if not isinstance(network, LBSF):
        raise InputError(f"only lbsf is pretrained, not {plan.network}")
    return OBJECTIVES[plan.objective](network, plan.fold)
