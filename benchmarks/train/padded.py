"""LBSF over padded instead of packed batches: users x merchants x payments, with LBSF's own weights and masks.

The payment encoder, the scores and values of the pooling, the merchants' fusion and the relational layers compute the
padding too. Names and statistics of merchants, which do not need the payments' vectors, are computed packed and then
padded, so that the padded network is not slower than necessary.
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
        packed: the same users, packed.
        cells: a batch of n x M merchants with L payments each, including the padding.
        payment_at: (P,) int64, position of each payment among the n x M x L cells.
        merchant_at: (merchants,) int64, position of each merchant among the n x M padded ones.
        shape: n, M, L.
    """

    packed: FoldBatch
    cells: FoldBatch
    payment_at: Tensor
    merchant_at: Tensor
    shape: tuple[int, int, int]


def pad(batch: FoldBatch) -> Padded:
    """Pad a batch, as a padding loader would."""
    users, merchants = len(batch), int(batch.merchant_count.max())
    payments = int(batch.merchant_len.max())
    user, merchant = batch.user_of_merchant, batch.merchant_of_payment
    merchant_at = user * merchants + torch.arange(len(user)) - segment_starts(batch.merchant_count)[user]
    payment_at = (
        merchant_at[merchant] * payments + torch.arange(len(merchant)) - segment_starts(batch.merchant_len)[merchant]
    )
    size = users * merchants * payments

    def spread(values: Tensor) -> Tensor:
        return torch.zeros(size, dtype=values.dtype).index_copy(0, payment_at, values)

    # The encoder uses amounts relative to their merchant's mean. The padding holds that mean, so it does not change it.
    amounts = torch.log1p(batch.amount_cents.abs() / 100.0)
    usual = torch.zeros(users * merchants).index_copy(
        0, merchant_at, segment_sum(amounts, merchant, len(user)) / batch.merchant_len
    )
    filled = torch.expm1(usual).repeat_interleave(payments) * 100.0
    cells = replace(
        batch,
        merchant_count=torch.full((users,), merchants),
        merchant_len=torch.full((users * merchants,), payments),
        paid_at=spread(batch.paid_at),
        amount_cents=filled.index_copy(0, payment_at, batch.amount_cents.float()),
        category=spread(batch.category),
        channel=spread(batch.channel),
        description_token_len=spread(batch.description_token_len),
    )
    return Padded(batch, cells, payment_at, merchant_at, (users, merchants, payments))


class PaddedLBSF(nn.Module):
    """LBSF over padded batches.

    Raises:
        ValueError: model.sequence is not none; sequence layers within merchants are not implemented here.
    """

    def __init__(self, model: LBSF):
        super().__init__()
        if not isinstance(model.merchants.sequence, EachAlone):
            raise ValueError("only model.sequence=none has a padded form")
        self.model = model

    def forward(self, batch: Padded) -> Tensor:
        """Return the logits of default, (n,)."""
        users, merchants, payments = batch.shape
        encoded = self.model.payments(batch.cells)
        is_payment = (
            torch.zeros(len(encoded), dtype=torch.bool).index_fill(0, batch.payment_at, True).view(-1, payments)
        )
        pooled = self._pooled(encoded.view(users * merchants, payments, -1), is_payment)
        tally = self._tally(batch, encoded, is_payment)
        vectors = self._merchants(batch, pooled)
        tokens = torch.cat([self.model.user.expand(users, 1, -1), vectors.view(users, merchants, -1)], dim=1)
        present = torch.arange(merchants) < batch.packed.merchant_count[:, None]
        for layer in self.model.relations:
            tokens = layer(tokens, F.pad(present, (1, 0), value=True))
        logits: Tensor = self.model.head(self.model.pool(tokens, present, tally)).squeeze(1)
        return logits

    def _pooled(self, payments: Tensor, is_payment: Tensor) -> Tensor:
        """Pool (n x M, L, width) payments with their mask, (n x M, L) bool, to (n x M, width); 0 without payments."""
        encoder = self.model.merchants
        scores = encoder.score(payments).masked_fill(~is_payment[:, :, None], float("-inf"))
        weights = torch.softmax(scores, dim=1).nan_to_num(0.0)
        values = encoder.value(payments).unflatten(2, (encoder.heads, -1)) * weights[:, :, :, None]
        pooled: Tensor = values.sum(1).flatten(1)
        return pooled

    def _tally(self, batch: Padded, encoded: Tensor, is_payment: Tensor) -> Tensor:
        """Compute the tallies, (n, tallies), from (n x M x L, width) payments and their mask, (n x M, L) bool."""
        kinds = torch.relu(self.model.merchants.kinds(encoded)) * is_payment.view(-1, 1)
        age = ((batch.cells.payment_as_of - batch.cells.paid_at).float() / DAY)[:, None] * is_payment.view(-1, 1)
        parts = [kinds if days is None else kinds * torch.exp(-age / days) for days in MEMORIES]
        return torch.cat(parts, dim=1).view(batch.shape[0], -1, self.model.merchants.tallies).sum(1)

    def _merchants(self, batch: Padded, pooled: Tensor) -> Tensor:
        """Combine pooled payments, names and statistics to the merchants' vectors, (n x M, width)."""
        encoder, packed = self.model.merchants, batch.packed
        statistics = encoder.statistics(merchant_statistics(packed))
        name = encoder.name(packed.merchant_token, packed.merchant_token_len)
        own = torch.cat([name, statistics], dim=1)
        spread = torch.zeros((len(pooled), own.shape[1])).index_copy(0, batch.merchant_at, own)
        fused: Tensor = encoder.norm(encoder.fuse(torch.cat([pooled, spread], dim=1)))
        return fused
