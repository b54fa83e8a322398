"""LBSF: fold by merchant, encode each merchant's sequence, relate the merchants, read the risk."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lbsf.config.models import FoldConfig, ModelConfig
from lbsf.models.batch import FoldBatch, owners, range_softmax, range_sum, starts
from lbsf.models.fields import DAY, PaymentEncoder, TokenBag

SIZE_GROUPS = 8


class MerchantEncoder(nn.Module):
    """One vector per merchant: attention pooling over its payments, its name, its own statistics."""

    def __init__(self, width: int, heads: int, token_buckets: int):
        super().__init__()
        self.heads = heads
        self.score = nn.Linear(width, heads)
        self.value = nn.Linear(width, width)
        self.name = TokenBag(token_buckets, width)
        self.statistics = nn.Linear(6, width)
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
    """Frequency, recency, span, level and trend of each merchant's payments: (M, 6)."""
    merchants = len(batch.merchant_len)
    count = batch.merchant_len.float()
    first = starts(batch.merchant_len)
    age = (as_of - batch.paid_at).float() / DAY
    newest, oldest = age[first + batch.merchant_len - 1], age[first]
    size = torch.log1p(batch.amount_cents.float().abs() / 100.0)
    level = range_sum(size, merchant_of_payment, merchants) / count
    # Slope of amount against time within the merchant, ridge keeps single payments at 0.
    centred_age = age - (range_sum(age, merchant_of_payment, merchants) / count)[merchant_of_payment]
    centred_size = size - level[merchant_of_payment]
    covariance = range_sum(centred_age * centred_size, merchant_of_payment, merchants)
    variance = range_sum(centred_age * centred_age, merchant_of_payment, merchants)
    trend = -30.0 * covariance / (variance + 100.0)
    return torch.stack(
        [torch.log1p(count), torch.log1p(newest), newest / 90.0, (oldest - newest) / 90.0, level / 5.0, trend], dim=1
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
            nn.LayerNorm(2 * width),
            nn.Linear(2 * width, width),
            nn.GELU(),
            nn.Dropout(model.dropout),
            nn.Linear(width, 1),
        )

    def forward(self, batch: FoldBatch) -> Tensor:
        """Logits of default, (n,)."""
        vectors, count = self.merchant_vectors(batch), batch.merchant_count
        if not len(vectors):
            return self.user_logits(*self.by_user(vectors, count))
        # Users of like size go together, so that little of the attention is spent on padding.
        groups = torch.argsort(count, stable=True).chunk(SIZE_GROUPS)
        first = starts(count)
        logits = []
        for users in groups:
            place = torch.arange(int(count[users].max()), device=count.device)
            present = place < count[users][:, None]
            merchants = (first[users][:, None] + place).clamp(max=len(vectors) - 1)
            dense = vectors.index_select(0, merchants.flatten()).view(*merchants.shape, -1)
            logits.append(self.user_logits(dense, present))
        return torch.cat(logits)[torch.argsort(torch.cat(groups))]

    def merchant_vectors(self, batch: FoldBatch) -> Tensor:
        """(M, width): each merchant from its own payments alone."""
        merchant_of_payment = owners(batch.merchant_len)
        as_of = torch.repeat_interleave(batch.as_of, batch.merchant_count)[merchant_of_payment]
        encoded = self.payments(batch, merchant_of_payment, as_of)
        vectors: Tensor = self.merchants(encoded, batch, merchant_of_payment, as_of)
        return vectors

    @staticmethod
    def by_user(vectors: Tensor, merchant_count: Tensor) -> tuple[Tensor, Tensor]:
        """Sets (M, width) merchant vectors out by user.

        Returns:
            (n, K, width) with zeros behind a user's last merchant, K the most merchants of a user;
            (n, K) bool, where a merchant is.
        """
        n, k = len(merchant_count), int(merchant_count.max()) if len(merchant_count) else 0
        present = torch.arange(k, device=vectors.device)[None, :] < merchant_count[:, None]
        dense = torch.zeros((n, k, vectors.shape[1]), dtype=vectors.dtype, device=vectors.device)
        user = owners(merchant_count)
        place = torch.arange(len(vectors), device=vectors.device) - starts(merchant_count)[user]
        return dense.index_put((user, place), vectors), present

    def user_vectors(self, vectors: Tensor, present: Tensor) -> Tensor:
        """(n, K, width) merchants and (n, K) bool -> (n, 2 * width) user representations."""
        n = len(vectors)
        everyone = torch.cat([self.user.expand(n, 1, -1), vectors], dim=1)
        there = F.pad(present, (1, 0), value=True)
        for layer in self.relations:
            everyone = layer(everyone, there)
        return self.pool(everyone, present)

    @staticmethod
    def pool(everyone: Tensor, present: Tensor) -> Tensor:
        """(n, 1 + K, width) the user's vector and the merchants', (n, K) bool -> (n, 2 * width)."""
        merchants = everyone[:, 1:] * present[:, :, None]
        mean = merchants.sum(1) / present.sum(1, keepdim=True).clamp(min=1)
        return torch.cat([everyone[:, 0], mean], dim=1)

    def user_logits(self, vectors: Tensor, present: Tensor) -> Tensor:
        """(n, K, width) merchants and (n, K) bool -> (n,) logits."""
        logits: Tensor = self.head(self.user_vectors(vectors, present)).squeeze(1)
        return logits
