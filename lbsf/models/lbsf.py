"""LBSF: fold by merchant, encode each merchant's sequence, relate the merchants, read the risk."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lbsf.config.models import FoldConfig, ModelConfig
from lbsf.models.batch import FoldBatch, owners, range_softmax, range_sum, starts
from lbsf.models.fields import DAY, PaymentEncoder, TokenBag, day_of_month

SIZE_GROUPS = 8
STATISTICS = 13
# What counts as recent, against which a merchant's earlier payments are held.
RECENT_DAYS = 60
NIGHT_ENDS = 6
# Brings the sum over a usual number of merchants to the size of their mean.
MERCHANTS_SCALE = 32.0


class MerchantEncoder(nn.Module):
    """One vector per merchant: attention pooling over its payments, its name, its own statistics."""

    def __init__(self, width: int, heads: int, token_buckets: int):
        super().__init__()
        self.heads = heads
        self.score = nn.Linear(width, heads)
        self.value = nn.Linear(width, width)
        self.name = TokenBag(token_buckets, width)
        self.statistics = nn.Linear(STATISTICS, width)
        self.fuse = nn.Sequential(nn.Linear(3 * width, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, payments: Tensor, batch: FoldBatch, merchant_of_payment: Tensor, as_of: Tensor) -> Tensor:
        """Pools (P, width) payment vectors to (M, width) merchant vectors; as_of: (P,) seconds."""
        merchants = len(batch.merchant_len)
        weights = range_softmax(self.score(payments), merchant_of_payment, merchants)
        values = self.value(payments).unflatten(1, (self.heads, -1)) * weights[:, :, None]
        pooled = range_sum(values.flatten(1), merchant_of_payment, merchants)
        name = self.name(batch.merchant_token, batch.merchant_token_len)
        statistics = self.statistics(_merchant_statistics(batch, merchant_of_payment, as_of))
        fused: Tensor = self.norm(self.fuse(torch.cat([pooled, name, statistics], dim=1)))
        return fused


def _merchant_statistics(batch: FoldBatch, merchant_of_payment: Tensor, as_of: Tensor) -> Tensor:
    """Frequency, recency, beat, level and what changed of each merchant's payments: (M, STATISTICS)."""
    merchants = len(batch.merchant_len)
    count = batch.merchant_len.float()
    first = starts(batch.merchant_len)

    def mean(values: Tensor, weight: Tensor | None = None) -> Tensor:
        """Mean of (P,) values over each merchant's payments, or over those of weight 1; 0 where none is."""
        if weight is None:
            return range_sum(values, merchant_of_payment, merchants) / count
        total = range_sum(weight, merchant_of_payment, merchants)
        return range_sum(values * weight, merchant_of_payment, merchants) / total.clamp(min=1.0)

    age = (as_of - batch.paid_at).float() / DAY
    newest, oldest = age[first + batch.merchant_len - 1], age[first]
    size = torch.log1p(batch.amount_cents.float().abs() / 100.0)
    late = (age <= RECENT_DAYS).float()
    late_count = range_sum(late, merchant_of_payment, merchants)
    both = ((late_count > 0) & (late_count < count)).float()
    # A bill that is paid later each month drifts within its month; so does the time of day.
    days = torch.div(batch.paid_at, DAY, rounding_mode="floor")
    month_day = day_of_month(days).float()
    night = ((batch.paid_at - days * DAY) < NIGHT_ENDS * 3_600).float()
    gap = (oldest - newest) / (count - 1.0).clamp(min=1.0)
    level = mean(size)
    return torch.stack(
        [
            torch.log1p(count),
            torch.log1p(newest),
            newest / 90.0,
            (oldest - newest) / 90.0,
            torch.log1p(gap),
            # How long it has been silent, measured in its own beat.
            torch.tanh((newest - gap) / (gap + 7.0)),
            torch.log1p(late_count),
            late_count / count,
            level / 5.0,
            both * (mean(size, late) - mean(size, 1.0 - late)),
            both * (mean(month_day, late) - mean(month_day, 1.0 - late)) / 5.0,
            mean(night),
            mean(torch.sign(batch.amount_cents.float())),
        ],
        dim=1,
    )


class RelationalLayer(nn.Module):
    """Merchants of a user look at each other: pre-norm multi-head attention and a feed-forward part."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_forward = nn.LayerNorm(width)
        self.forward_part = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, vectors: Tensor, present: Tensor) -> Tensor:
        """vectors (n, K, width), present (n, K) bool -> (n, K, width)."""
        n, k, width = vectors.shape
        q, key, value = self.heads_of(vectors)
        mixed = F.scaled_dot_product_attention(
            q, key, value, attn_mask=present[:, None, None, :], dropout_p=self.dropout if self.training else 0.0
        )
        return self.feed_forward(vectors + self.out(mixed.transpose(1, 2).reshape(n, k, width)))

    def heads_of(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, K, width) -> queries, keys and values, each (n, heads, K, width / heads)."""
        n, k, _ = vectors.shape
        q, key, value = self.qkv(self.norm_attention(vectors)).view(n, k, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, key, value

    def feed_forward(self, vectors: Tensor) -> Tensor:
        """The layer's second half, of each vector by itself: (..., width) -> the same."""
        out: Tensor = vectors + self.forward_part(self.norm_forward(vectors))
        return out


class LBSF(nn.Module):
    """The whole network (arXiv 2411.15056): folds in, one logit of default per user out.

    A learned user vector stands in front of each user's merchants, so a user with no payments has a
    defined score, and the order of merchants changes nothing.
    """

    def __init__(self, model: ModelConfig, fold: FoldConfig):
        super().__init__()
        width = model.width
        self.payments = PaymentEncoder(
            width, fold.category_buckets, fold.channel_buckets, fold.token_buckets, fold.window_days
        )
        self.merchants = MerchantEncoder(width, model.heads, fold.token_buckets)
        self.user = nn.Parameter(torch.zeros(width))
        self.relations = nn.ModuleList(
            RelationalLayer(width, model.heads, model.dropout) for _ in range(model.relational_layers)
        )
        self.head = nn.Sequential(
            # How much a user pays for anything at all varies most and says least: without bringing each
            # feature to its own scale over users, training spends its first epochs on that alone.
            nn.BatchNorm1d(3 * width, momentum=0.03),
            nn.Linear(3 * width, width),
            nn.GELU(),
            nn.Dropout(model.dropout),
            nn.Linear(width, 1),
        )

    def forward(self, batch: FoldBatch) -> Tensor:
        """Logits of default, (n,)."""
        vectors, count = self.merchant_vectors(batch), batch.merchant_count
        # Users of like size go together, so that little of the attention is spent on padding.
        groups = torch.argsort(count, stable=True).chunk(SIZE_GROUPS)
        represented = [self.user_vectors(*self.by_user(vectors, count, users)) for users in groups]
        in_order = torch.cat(represented)[torch.argsort(torch.cat(groups))]
        logits: Tensor = self.head(in_order).squeeze(1)
        return logits

    def merchant_vectors(self, batch: FoldBatch) -> Tensor:
        """(M, width): each merchant from its own payments alone."""
        merchant_of_payment = owners(batch.merchant_len)
        as_of = torch.repeat_interleave(batch.as_of, batch.merchant_count)[merchant_of_payment]
        encoded = self.payments(batch, merchant_of_payment, as_of)
        vectors: Tensor = self.merchants(encoded, batch, merchant_of_payment, as_of)
        return vectors

    @staticmethod
    def by_user(vectors: Tensor, merchant_count: Tensor, users: Tensor) -> tuple[Tensor, Tensor]:
        """Sets the merchant vectors of some users out by user.

        Args:
            vectors: (M, width), the merchants of all users.
            merchant_count: (n,) int64, merchants of each user; sums to M.
            users: (g,) int64, positions of the users that are wanted.

        Returns:
            (g, K, width) with other merchants' vectors behind a user's last merchant, K the most
            merchants of a wanted user; (g, K) bool, where a merchant of the user is.
        """
        count = merchant_count[users]
        place = torch.arange(int(count.max()) if len(users) else 0, device=vectors.device)
        merchants = (starts(merchant_count)[users][:, None] + place).clamp(max=len(vectors) - 1)
        dense = vectors.index_select(0, merchants.flatten()).view(*merchants.shape, vectors.shape[1])
        return dense, place < count[:, None]

    def user_vectors(self, vectors: Tensor, present: Tensor) -> Tensor:
        """(n, K, width) merchants and (n, K) bool -> (n, 3 * width) user representations."""
        n = len(vectors)
        everyone = torch.cat([self.user.expand(n, 1, -1), vectors], dim=1)
        there = F.pad(present, (1, 0), value=True)
        for layer in self.relations:
            everyone = layer(everyone, there)
        return self.pool(everyone, present)

    @staticmethod
    def pool(everyone: Tensor, present: Tensor) -> Tensor:
        """(n, 1 + K, width) the user's vector and the merchants', (n, K) bool -> (n, 3 * width).

        The sum keeps what the mean loses, how many merchants of a kind there are; both are needed.
        """
        merchants = everyone[:, 1:] * present[:, :, None]
        total = merchants.sum(1)
        mean = total / present.sum(1, keepdim=True).clamp(min=1)
        return torch.cat([everyone[:, 0], mean, total / MERCHANTS_SCALE], dim=1)

    def user_logits(self, vectors: Tensor, present: Tensor) -> Tensor:
        """(n, K, width) merchants and (n, K) bool -> (n,) logits."""
        logits: Tensor = self.head(self.user_vectors(vectors, present)).squeeze(1)
        return logits
