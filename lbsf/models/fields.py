"""Multi-field behaviour encoding: encodes all fields of a payment as one vector."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lbsf.config.models import FoldConfig, ModelConfig
from lbsf.models.batch import FoldBatch
from lbsf.models.segments import segment_starts, segment_sum

DAY = 86_400


def piecewise_linear(values: Tensor, knots: Tensor) -> Tensor:
    """Encode numbers piecewise linearly (Gorishniy et al. 2022).

    Args:
        values: (E,) float.
        knots: (K + 1,) ascending bounds of K intervals.

    Returns:
        (E, K): 1 for intervals below the value, 0 for those above it, and the value's relative position in its own.

    >>> piecewise_linear(torch.tensor([1.5]), torch.tensor([0.0, 1.0, 2.0, 3.0])).tolist()
    [[1.0, 0.5, 0.0]]
    """
    low, high = knots[:-1], knots[1:]
    return ((values[:, None] - low) / (high - low)).clamp(0.0, 1.0)


def day_of_month(days: Tensor) -> Tensor:
    """Return the day of the month, 1 to 31, of days since 1970-01-01 (H. Hinnant, chrono-compatible date algorithms).

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

    Embeddings are factorised (Lan et al. 2020, ALBERT): a narrow table, and a matrix that projects it to the full
    width. A table of full width would make up most of the network's weights, and of what ranks exchange at each step.

    In training, a random share `hidden` of the lists is treated as empty. This prevents overfitting to words that
    occur in one merchant's name only, and trains the other fields to do without words.
    """

    def __init__(self, buckets: int, width: int, word_width: int, hidden: float):
        super().__init__()
        self.hidden = hidden
        self.bag = nn.EmbeddingBag(buckets, word_width, mode="mean")
        self.spread = nn.Linear(word_width, width, bias=False)
        nn.init.normal_(self.bag.weight, std=0.2)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Average the embeddings of each list.

        Args:
            tokens: (W,) int64, hash buckets of the words of all lists.
            lengths: (E,) int64, words of each list; sums to W.

        Returns:
            (E, width).
        """
        pooled: Tensor = self.bag(tokens, segment_starts(lengths))
        if self.training and self.hidden:
            pooled = pooled * (torch.rand(len(pooled), 1, device=pooled.device) >= self.hidden)
        spread: Tensor = self.spread(pooled)
        return spread


class PaymentEncoder(nn.Module):
    """Encodes amount, time, category, channel and description of a payment as one vector.

    An amount is encoded by its sign, its log size (piecewise linearly), and its log size relative to the
    user's mean at the same merchant, which is comparable between small and large spenders.
    Time is encoded as age before as_of, gap to the previous payment at the merchant, hour,
    weekday and day of the month. The batch contains nothing later than as_of.
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
        # The category is the most informative field: larger initial embeddings than for the times.
        for table, std in ((self.category, 0.5), (self.channel, 0.1), (self.hour, 0.1)):
            nn.init.normal_(table.weight, std=std)
        for table in (self.weekday, self.month_day):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, batch: FoldBatch) -> Tensor:
        """Return the encoding of every payment of the batch, (P, width)."""
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
        first = torch.ones_like(age)
        first[1:] = (batch.merchant_of_payment[1:] != batch.merchant_of_payment[:-1]).float()
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
