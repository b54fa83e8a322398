"""Multi-field behaviour encoding: each payment becomes one vector from all its fields."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lbsf.config.models import FoldConfig, ModelConfig
from lbsf.models.batch import FoldBatch
from lbsf.models.segments import segment_starts, segment_sum

DAY = 86_400


def piecewise_linear(values: Tensor, knots: Tensor) -> Tensor:
    """Piecewise-linear encoding (Gorishniy et al. 2022): how far a value fills each interval.

    Args:
        values: (E,) float.
        knots: (K + 1,) rising.

    Returns:
        (E, K): 1 for intervals below the value, 0 above it, the filled share within its own.

    >>> piecewise_linear(torch.tensor([1.5]), torch.tensor([0.0, 1.0, 2.0, 3.0])).tolist()
    [[1.0, 0.5, 0.0]]
    """
    low, high = knots[:-1], knots[1:]
    return ((values[:, None] - low) / (high - low)).clamp(0.0, 1.0)


def day_of_month(days: Tensor) -> Tensor:
    """Day of the month, 1 to 31, of days since 1970-01-01 (H. Hinnant, chrono-compatible date algorithms).

    >>> day_of_month(torch.tensor([0, 30, 31, 59])).tolist()
    [1, 31, 1, 1]
    """
    shifted = days + 719_468
    day_of_era = shifted - torch.div(shifted, 146_097, rounding_mode="floor") * 146_097
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    return day_of_year - (153 * month + 2) // 5 + 1


class TokenBag(nn.Module):
    """The mean embedding of a short list of hashed words; zeros for an empty list.

    Words have few features of their own, which one matrix spreads over the width (factorised embeddings, Lan et al.
    2020, ALBERT): a table of full width would be most of the network's weights, and of what ranks exchange each step.

    In training a share of the lists is hidden, each as if it were empty: words that stand for one merchant alone
    are learnt by heart from a few users, and the other fields must do without them.
    """

    def __init__(self, buckets: int, width: int, word_width: int, hidden: float):
        super().__init__()
        self.hidden = hidden
        self.bag = nn.EmbeddingBag(buckets, word_width, mode="mean")
        self.spread = nn.Linear(word_width, width, bias=False)
        nn.init.normal_(self.bag.weight, std=0.2)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """(W,) words cut by (E,) lengths -> (E, width)."""
        pooled: Tensor = self.bag(tokens, segment_starts(lengths))
        if self.training and self.hidden:
            pooled = pooled * (torch.rand(len(pooled), 1, device=pooled.device) >= self.hidden)
        spread: Tensor = self.spread(pooled)
        return spread


class PaymentEncoder(nn.Module):
    """Amount, time, category, channel and words of a payment, fused to one vector.

    Amounts are read three ways: sign, log size in a piecewise-linear code, and against the same
    user's mean at the same merchant, so that a level means something for small and large spenders
    alike. Time is read as age before as_of, gap to the previous payment at the merchant, hour,
    weekday and day of month. Nothing later than as_of is in the batch.
    """

    amount_knots: Tensor
    age_knots: Tensor
    gap_knots: Tensor

    def __init__(self, model: ModelConfig, fold: FoldConfig):
        super().__init__()
        width, window_days = model.width, fold.window_days
        self.register_buffer("amount_knots", torch.linspace(0.0, math.log1p(1e6), 17), persistent=False)
        self.register_buffer("age_knots", torch.linspace(0.0, float(window_days), 13), persistent=False)
        self.register_buffer("gap_knots", torch.linspace(0.0, math.log1p(float(window_days)), 13), persistent=False)
        numbers = 16 + 12 + 12 + 5
        self.numbers = nn.Linear(numbers, width)
        self.category = nn.Embedding(fold.category_buckets, width)
        self.channel = nn.Embedding(fold.channel_buckets, width)
        self.hour = nn.Embedding(24, width)
        self.weekday = nn.Embedding(7, width)
        self.month_day = nn.Embedding(31, width)
        self.description = TokenBag(fold.token_buckets, width, model.word_width, model.hidden_words)
        self.fuse = nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width), nn.GELU())
        # What is bought says most; a random clock should not drown it at the start.
        for table, std in ((self.category, 0.5), (self.channel, 0.1), (self.hour, 0.1)):
            nn.init.normal_(table.weight, std=std)
        for table in (self.weekday, self.month_day):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, batch: FoldBatch) -> Tensor:
        """Encode every payment of the batch; (P, width)."""
        mixed = self.numbers(self._numbers(batch))
        days = torch.div(batch.paid_at, DAY, rounding_mode="floor")
        mixed = mixed + self.category(batch.category) + self.channel(batch.channel)
        mixed = mixed + self.hour((batch.paid_at - days * DAY) // 3_600)
        # 1970-01-01 was a Thursday: weekday 3 where Monday is 0.
        mixed = mixed + self.weekday((days + 3) % 7) + self.month_day(day_of_month(days) - 1)
        mixed = mixed + self.description(batch.description_token, batch.description_token_len)
        encoded: Tensor = self.fuse(mixed)
        return encoded

    def _numbers(self, batch: FoldBatch) -> Tensor:
        amount = batch.amount_cents.float() / 100.0
        size = torch.log1p(amount.abs())
        count = batch.merchant_len.float()
        usual = segment_sum(size, batch.merchant_of_payment, len(count)) / count.clamp(min=1.0)
        age = (batch.payment_as_of - batch.paid_at).float() / DAY
        gap = torch.zeros_like(age)
        gap[1:] = (batch.paid_at[1:] - batch.paid_at[:-1]).float() / DAY
        first = torch.zeros_like(age)
        first[segment_starts(batch.merchant_len)[batch.merchant_len > 0]] = 1.0
        gap = torch.log1p((gap * (1.0 - first)).clamp(min=0.0))
        singles = torch.stack(
            [torch.sign(amount), size / 10.0, size - usual[batch.merchant_of_payment], first, gap / 5.0], 1
        )
        return torch.cat(
            [
                piecewise_linear(size, self.amount_knots),
                piecewise_linear(age, self.age_knots),
                piecewise_linear(gap, self.gap_knots),
                singles,
            ],
            dim=1,
        )
