"""Pretraining objectives without labels: payments of the next days, masked fields, or a teacher's probabilities."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lbsf.config.models import FoldConfig
from lbsf.models.batch import FoldBatch, keep_payments
from lbsf.models.fields import DAY
from lbsf.models.lbsf import LBSF
from lbsf.models.segments import segment_ids, segment_sum

# The days ahead that are predicted.
AHEAD_DAYS = 30
# They end 0 to ENDS_BEFORE days before as_of, drawn for each batch.
ENDS_BEFORE = 60
MASKED_SHARE = 0.15


class Pretraining(nn.Module):
    """A network with the layers that predict from its vectors; only the network is kept after pretraining."""

    def __init__(self, network: LBSF):
        super().__init__()
        self.network = network

    @abstractmethod
    def forward(self, batch: FoldBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""


class VisitsAhead(Pretraining):
    """Predicts the payments of 30 days from those before: their number at each known merchant and in each category.

    The predicted days are the last ones of each fold and are removed from the input, so neither labels nor payments
    after as_of are needed. The loss is the Poisson negative log-likelihood of the counts.
    """

    def __init__(self, network: LBSF, fold: FoldConfig):
        super().__init__(network)
        width = network.user.shape[0]
        self.buckets = fold.category_buckets
        self.visits = nn.Linear(width, 1)
        by_category = nn.Linear(network.features, self.buckets)
        # Most categories are rare: the initial prediction is e^-4 payments per month.
        nn.init.constant_(by_category.bias, -4.0)
        self.categories = nn.Sequential(nn.BatchNorm1d(network.features, momentum=0.03), by_category)

    def forward(self, batch: FoldBatch) -> Tensor:
        """Return the loss of a batch, a scalar. The end of the days ahead is drawn from torch's generator."""
        back = int(torch.randint(0, ENDS_BEFORE + 1, (1,)))
        now = batch.as_of - (back + AHEAD_DAYS) * DAY
        merchant, user = batch.merchant_of_payment, batch.user_of_payment
        past = batch.paid_at < now[user]
        ahead = ~past & (batch.paid_at < now[user] + AHEAD_DAYS * DAY)
        visits = segment_sum(ahead.float(), merchant, len(batch.merchant_len))
        known = segment_sum(past.long(), merchant, len(batch.merchant_len)) > 0
        of_category = segment_sum(ahead.float(), user * self.buckets + batch.category, len(batch) * self.buckets)
        merchants, users = self.network.related_to_users(replace(keep_payments(batch, past), as_of=now))
        by_merchant = F.poisson_nll_loss(self.visits(merchants).squeeze(1), visits[known], reduction="sum")
        by_category = F.poisson_nll_loss(self.categories(users), of_category.view(len(batch), -1), reduction="sum")
        loss: Tensor = by_merchant / known.sum().clamp(min=1) + 0.1 * by_category / len(batch)
        return loss


class MaskedFields(Pretraining):
    """Predicts amount, category and channel of masked payments from the merchant's and the user's other payments."""

    def __init__(self, network: LBSF, fold: FoldConfig):
        super().__init__(network)
        width = network.user.shape[0]
        self.size = nn.Linear(2 * width, 1)
        self.category = nn.Linear(2 * width, fold.category_buckets)
        self.channel = nn.Linear(2 * width, fold.channel_buckets)

    def forward(self, batch: FoldBatch) -> Tensor:
        """Return the loss of a batch, a scalar. The masked payments are drawn from torch's generator."""
        hidden = torch.rand(len(batch.paid_at)).to(batch.paid_at.device) < MASKED_SHARE
        shown = (~hidden).long()
        keep_words = ~hidden[segment_ids(batch.description_token_len, len(batch.description_token))]
        masked = replace(
            batch,
            amount_cents=batch.amount_cents * shown,
            category=batch.category * shown,
            channel=batch.channel * shown,
            description_token_len=batch.description_token_len * shown,
            description_token=batch.description_token[keep_words],
        )
        merchants, users = self.network.related_to_users(masked)
        merchant, user = batch.merchant_of_payment[hidden], batch.user_of_payment[hidden]
        context = torch.cat([merchants[merchant], users[user, : merchants.shape[1]]], dim=1)
        size = torch.log1p(batch.amount_cents[hidden].float().abs() / 100.0)
        parts = [
            F.mse_loss(self.size(context).squeeze(1), size, reduction="sum"),
            F.cross_entropy(self.category(context), batch.category[hidden], reduction="sum"),
            F.cross_entropy(self.channel(context), batch.channel[hidden], reduction="sum"),
        ]
        loss: Tensor = torch.stack(parts).sum() / hidden.sum().clamp(min=1)
        return loss


class Distillation(Pretraining):
    """Cross-entropy against a teacher's probability of default, on users with and without a label.

    The teacher was trained on labels; with few of them it learns more than a network does. The network, including its
    head, then learns from the teacher on all folds (knowledge distillation, Hinton et al. 2015).
    """

    def __init__(self, network: LBSF, fold: FoldConfig):
        super().__init__(network)

    def forward(self, batch: FoldBatch) -> Tensor:
        """Return the loss of a batch, a scalar."""
        assert batch.teacher is not None
        return F.binary_cross_entropy_with_logits(self.network(batch).float(), batch.teacher)


OBJECTIVES: dict[str, type[VisitsAhead] | type[MaskedFields] | type[Distillation]] = {
    "visits": VisitsAhead,
    "masked": MaskedFields,
    "teacher": Distillation,
}
