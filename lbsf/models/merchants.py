"""Merchant-level aggregation: encodes each merchant's sequence of payments as one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lbsf.config.models import ModelConfig
from lbsf.models.batch import FoldBatch
from lbsf.models.fields import DAY, TokenBag, day_of_month
from lbsf.models.relations import RelationalLayer
from lbsf.models.segments import (
    length_buckets,
    pad_segments,
    restore_order,
    segment_positions,
    segment_softmax,
    segment_starts,
    segment_sum,
)

# Changes compare the payments of the last RECENT_DAYS with the earlier ones.
RECENT_DAYS = 60
NIGHT_ENDS = 6
MONTHS = 6
DAYS_A_MONTH = 30
CALENDAR_MONTH = 30.44
# Time constants of the tallies' exponential decay, in days. None: no decay.
MEMORIES = (None, 60.0, 15.0)
STATISTICS = 16 + 2 * MONTHS


class MerchantEncoder(nn.Module):
    """Encodes a merchant as one vector, from its payments (attention pooling), its name and its statistics.

    Each vector is followed by tallies: sums over the merchant's payments of learned non-negative features (ReLU), with
    and without exponential decay over time. Attention pooling averages, so it shows what kinds of payments there are;
    the tallies show how many there are of each kind.
    """

    def __init__(self, model: ModelConfig, token_buckets: int):
        super().__init__()
        width, self.heads = model.width, model.heads
        self.width = width
        self.tallies = len(MEMORIES) * (width // 2)
        self.kinds = nn.Linear(width, width // 2)
        self.sequence = _sequence(model)
        self.score = nn.Linear(width, self.heads)
        self.value = nn.Linear(width, width)
        self.name = TokenBag(token_buckets, width, model.word_width, model.hidden_words)
        self.statistics = nn.Linear(STATISTICS, width)
        self.fuse = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, payments: Tensor, batch: FoldBatch) -> Tensor:
        """Pool (P, width) payment vectors to (M, width + tallies) merchant vectors."""
        merchants, merchant_of_payment = len(batch.merchant_len), batch.merchant_of_payment
        payments = self.sequence(payments, batch.merchant_len)
        weights = segment_softmax(self.score(payments), merchant_of_payment, merchants)
        values = self.value(payments).unflatten(1, (self.heads, -1)) * weights[:, :, None]
        pooled = segment_sum(values.flatten(1), merchant_of_payment, merchants)
        name = self.name(batch.merchant_token, batch.merchant_token_len)
        statistics = self.statistics(merchant_statistics(batch))
        fused = self.norm(self.fuse(torch.cat([pooled, name, statistics], dim=1)))
        return torch.cat([fused, self._tally(payments, batch)], dim=1)

    def _tally(self, payments: Tensor, batch: FoldBatch) -> Tensor:
        """Compute the tallies, (M, tallies), from (P, width) payment vectors."""
        kinds = torch.relu(self.kinds(payments))
        age = ((batch.payment_as_of - batch.paid_at).float() / DAY)[:, None]
        parts = [kinds if days is None else kinds * torch.exp(-age / days) for days in MEMORIES]
        return segment_sum(torch.cat(parts, dim=1), batch.merchant_of_payment, len(batch.merchant_len))


def _sequence(model: ModelConfig) -> nn.Module:
    if model.sequence == "gru":
        return WithinMerchant(Recurrent(model.width))
    if model.sequence == "transformer":
        return WithinMerchant(RelationalLayer(model.width, model.heads, model.dropout))
    return EachAlone()


class EachAlone(nn.Module):
    """Leaves payments unchanged: they are not related to each other, and only ages and gaps show their order."""

    def forward(self, payments: Tensor, lengths: Tensor) -> Tensor:
        """Return `payments`."""
        return payments


class WithinMerchant(nn.Module):
    """Applies a sequence layer to each merchant's payments; merchants of similar length are padded together."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, payments: Tensor, lengths: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            payments: (P, width).
            lengths: (M,) int64, payments of each merchant.

        Returns:
            (P, width).
        """
        if not len(payments):
            return payments
        parts, found = [], []
        for merchants in length_buckets(lengths):
            dense, present = pad_segments(payments, lengths, merchants)
            parts.append(self.layer(dense, present)[present])
            found.append(segment_positions(lengths, merchants, present))
        return restore_order(parts, found)


class Recurrent(nn.Module):
    """A GRU with a residual connection."""

    def __init__(self, width: int):
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        """Apply the GRU: (n, K, width) -> (n, K, width). It reads forwards, so padding at the end has no effect."""
        # Not packed: the backward pass of torch's packed GRU is quadratic in the length on a CPU.
        out: Tensor = vectors + self.gru(vectors)[0]
        return out


def merchant_statistics(batch: FoldBatch) -> Tensor:
    """Compute statistics of each merchant's payments: frequency, recency, regularity, amounts, changes, months.

    Args:
        batch: folds with M merchants.

    Returns:
        (M, STATISTICS) float32.
    """
    merchants, merchant_of_payment = len(batch.merchant_len), batch.merchant_of_payment
    count = batch.merchant_len.float()
    first = segment_starts(batch.merchant_len)

    def mean(values: Tensor, weight: Tensor | None = None) -> Tensor:
        """Average (P,) values over each merchant's payments, or over those with weight 1 (0 if there is none)."""
        if weight is None:
            return segment_sum(values, merchant_of_payment, merchants) / count
        total = segment_sum(weight, merchant_of_payment, merchants)
        return segment_sum(values * weight, merchant_of_payment, merchants) / total.clamp(min=1.0)

    age = (batch.payment_as_of - batch.paid_at).float() / DAY
    newest, oldest = age[first + batch.merchant_len - 1], age[first]
    amount = batch.amount_cents.float() / 100.0
    size = torch.log1p(amount.abs())
    late = (age <= RECENT_DAYS).float()
    late_count = segment_sum(late, merchant_of_payment, merchants)
    both = ((late_count > 0) & (late_count < count)).float()
    # A change of the day of the month shows bills that are paid later and later.
    days = torch.div(batch.paid_at, DAY, rounding_mode="floor")
    month_day = day_of_month(days).float()
    night = ((batch.paid_at - days * DAY) < NIGHT_ENDS * 3_600).float()
    # Deviation in days, -15 to 15, from monthly intervals since the first payment: near 0 for a bill paid on time,
    # increasing if it is paid later each month.
    since_first = oldest[merchant_of_payment] - age
    slip = since_first - CALENDAR_MONTH * torch.round(since_first / CALENDAR_MONTH)
    gap = (oldest - newest) / (count - 1.0).clamp(min=1.0)
    month = torch.div(age, DAYS_A_MONTH, rounding_mode="floor").long().clamp(0, MONTHS - 1)
    month_of_merchant = merchant_of_payment * MONTHS + month
    by_month = segment_sum(torch.stack([torch.ones_like(age), amount.abs()], 1), month_of_merchant, merchants * MONTHS)
    statistics = torch.stack(
        [
            torch.log1p(count),
            torch.log1p(newest),
            newest / 90.0,
            (oldest - newest) / 90.0,
            torch.log1p(gap),
            # Time since the last payment beyond the mean gap, relative to that gap.
            torch.tanh((newest - gap) / (gap + 7.0)),
            torch.log1p(late_count),
            late_count / count,
            mean(size) / 5.0,
            both * (mean(size, late) - mean(size, 1.0 - late)),
            both * (mean(month_day, late) - mean(month_day, 1.0 - late)) / 5.0,
            mean(slip.abs()) / 10.0,
            slip[first + batch.merchant_len - 1] / 10.0,
            both * (mean(slip, late) - mean(slip, 1.0 - late)) / 5.0,
            mean(night),
            mean(torch.sign(amount)),
        ],
        dim=1,
    )
    payments, amounts = torch.log1p(by_month).unbind(1)
    months = torch.stack([payments, amounts * 0.2], 1).view(merchants, MONTHS * 2)
    return torch.cat([statistics, months], dim=1)
