"""LBSF without packing: users x merchants x payments, each padded to the largest, with LBSF's own weights.

What a user's merchants and payments are is told by masks. The payment encoder, the scores and values of the pooling,
the merchants' fusion and the relational layers run over padding too. Names and statistics of merchants, which need no
payment's vector, are computed packed and then padded: padding is not made more expensive than it must be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lbsf.models.batch import FoldBatch
from lbsf.models.fields import DAY
from lbsf.models.lbsf import LBSF
from lbsf.models.merchants import MEMORIES, EachAlone, merchant_statistics
from lbsf.models.segments import segment_starts, segment_sum


@dataclass(frozen=True)
class Padded:
    """A batch of n users, padded to M merchants of L payments.

    Attributes:
        packed: the same users, not padded.
        cells: n x M merchants of L payments each, as if there were so many.
        cell: (P,) int64, at which of the n x M x L cells each payment stands.
        place: (merchants,) int64, at which of the n x M places each merchant stands.
        shape: n, M, L.
    """

    packed: FoldBatch
    cells: FoldBatch
    cell: Tensor
    place: Tensor
    shape: tuple[int, int, int]


def pad(batch: FoldBatch) -> Padded:
    """The batch, padded; what a loader that pads would deliver."""
    users, merchants = len(batch), int(batch.merchant_count.max())
    payments = int(batch.merchant_len.max())
    user, merchant = batch.user_of_merchant, batch.merchant_of_payment
    place = user * merchants + torch.arange(len(user)) - segment_starts(batch.merchant_count)[user]
    cell = place[merchant] * payments + torch.arange(len(merchant)) - segment_starts(batch.merchant_len)[merchant]
    size = users * merchants * payments

    def spread(values: Tensor) -> Tensor:
        return torch.zeros(size, dtype=values.dtype).index_copy(0, cell, values)

    # The encoder holds an amount against the mean of its merchant: padding holds that mean, which changes nothing.
    amounts = torch.log1p(batch.amount_cents.abs() / 100.0)
    usual = torch.zeros(users * merchants).index_copy(
        0, place, segment_sum(amounts, merchant, len(user)) / batch.merchant_len
    )
    filled = torch.expm1(usual).repeat_interleave(payments) * 100.0
    cells = replace(
        batch,
        merchant_count=torch.full((users,), merchants),
        merchant_len=torch.full((users * merchants,), payments),
        paid_at=spread(batch.paid_at),
        amount_cents=filled.index_copy(0, cell, batch.amount_cents.float()),
        category=spread(batch.category),
        channel=spread(batch.channel),
        description_token_len=spread(batch.description_token_len),
    )
    return Padded(batch, cells, cell, place, (users, merchants, payments))


class PaddedLBSF(nn.Module):
    """LBSF over padded batches.

    Raises:
        ValueError: LBSF's merchants read their payments in sequence, which this has no padded form of.
    """

    def __init__(self, model: LBSF):
        super().__init__()
        if not isinstance(model.merchants.sequence, EachAlone):
            raise ValueError("only model.sequence=none has a padded form")
        self.model = model

    def forward(self, batch: Padded) -> Tensor:
        """Logits of default, (n,)."""
        users, merchants, payments = batch.shape
        encoded = self.model.payments(batch.cells)
        there = torch.zeros(len(encoded), dtype=torch.bool).index_fill(0, batch.cell, True).view(-1, payments)
        pooled = self._pooled(encoded.view(users * merchants, payments, -1), there)
        tally = self._tally(batch, encoded, there)
        vectors = self._merchants(batch, pooled)
        everyone = torch.cat([self.model.user.expand(users, 1, -1), vectors.view(users, merchants, -1)], dim=1)
        present = torch.arange(merchants) < batch.packed.merchant_count[:, None]
        for layer in self.model.relations:
            everyone = layer(everyone, F.pad(present, (1, 0), value=True))
        logits: Tensor = self.model.head(self.model.pool(everyone, present, tally)).squeeze(1)
        return logits

    def _pooled(self, payments: Tensor, there: Tensor) -> Tensor:
        """(n x M, L, width) payments and (n x M, L) bool -> (n x M, width); 0 where no payment is."""
        encoder = self.model.merchants
        scores = encoder.score(payments).masked_fill(~there[:, :, None], float("-inf"))
        weights = torch.softmax(scores, dim=1).nan_to_num(0.0)
        values = encoder.value(payments).unflatten(2, (encoder.heads, -1)) * weights[:, :, :, None]
        pooled: Tensor = values.sum(1).flatten(1)
        return pooled

    def _tally(self, batch: Padded, encoded: Tensor, there: Tensor) -> Tensor:
        """(n, tallies) of (n x M x L, width) payments, (n x M, L) bool."""
        kinds = torch.relu(self.model.merchants.kinds(encoded)) * there.view(-1, 1)
        age = ((batch.cells.payment_as_of - batch.cells.paid_at).float() / DAY)[:, None] * there.view(-1, 1)
        parts = [kinds if days is None else kinds * torch.exp(-age / days) for days in MEMORIES]
        return torch.cat(parts, dim=1).view(batch.shape[0], -1, self.model.merchants.tallies).sum(1)

    def _merchants(self, batch: Padded, pooled: Tensor) -> Tensor:
        """(n x M, width): pooled payments, name and statistics, fused."""
        encoder, packed = self.model.merchants, batch.packed
        statistics = encoder.statistics(merchant_statistics(packed))
        name = encoder.name(packed.merchant_token, packed.merchant_token_len)
        told = torch.cat([name, statistics], dim=1)
        spread = torch.zeros((len(pooled), told.shape[1])).index_copy(0, batch.place, told)
        fused: Tensor = encoder.norm(encoder.fuse(torch.cat([pooled, spread], dim=1)))
        return fused
