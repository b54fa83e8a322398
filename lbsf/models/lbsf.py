"""LBSF: fold by merchant, encode each merchant's sequence, relate the merchants, read the risk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lbsf.config.models import FoldConfig, ModelConfig
from lbsf.models.batch import FoldBatch
from lbsf.models.fields import PaymentEncoder
from lbsf.models.merchants import MerchantEncoder
from lbsf.models.relations import RelationalLayer
from lbsf.models.segments import (
    length_buckets,
    pad_segments,
    restore_order,
    segment_ids,
    segment_positions,
    segment_sum,
)

# Brings the sum over a usual number of merchants to the size of their mean.
MERCHANTS_SCALE = 32.0


class RiskHead(nn.Sequential):
    """(n, features) representations -> (n, 1) logits of default.

    For LBSF a weighted sum: a hidden layer combines features that are learnt already, and learns from few defaults
    which users they were (docs/decisions/0014-linear-head.md). What summarises a user in one vector may need it.
    """

    def __init__(self, features: int, model: ModelConfig):
        # How much a user pays for anything at all varies most and says least: without bringing each
        # feature to its own scale over users, training spends its first epochs on that alone.
        parts: list[nn.Module] = [nn.BatchNorm1d(features, momentum=0.03)]
        if model.head == "hidden":
            parts += [nn.Linear(features, model.width), nn.GELU()]
            features = model.width
        super().__init__(*parts, nn.Dropout(model.dropout), nn.Linear(features, 1))


class LBSF(nn.Module):
    """The whole network (arXiv 2411.15056): folds in, one logit of default per user out.

    A learned user vector stands in front of each user's merchants, so a user with no payments has a
    defined score, and the order of merchants changes nothing.
    """

    def __init__(self, model: ModelConfig, fold: FoldConfig):
        super().__init__()
        width = model.width
        self.payments = PaymentEncoder(model, fold)
        self.merchants = MerchantEncoder(model, fold.token_buckets)
        self.user = nn.Parameter(torch.zeros(width))
        self.relations = nn.ModuleList(
            RelationalLayer(width, model.heads, model.dropout) for _ in range(model.relational_layers)
        )
        # What the head reads: the user's vector, the merchants' mean and sum, and the tallies.
        self.features = 3 * width + self.merchants.tallies
        self.head = RiskHead(self.features, model)

    def forward(self, batch: FoldBatch) -> Tensor:
        """Logits of default, (n,)."""
        return self.logits_of(self.merchant_vectors(batch), batch.merchant_count)

    def represent(self, batch: FoldBatch) -> Tensor:
        """What the head reads of each user, (n, features)."""
        return self._represent(self.merchant_vectors(batch), batch.merchant_count)

    def logits_of(self, vectors: Tensor, merchant_count: Tensor) -> Tensor:
        """Logits of n users from their merchants' vectors.

        Args:
            vectors: (M, width + tallies), as merchant_vectors gives them.
            merchant_count: (n,) int64, merchants of each user; sums to M.

        Returns:
            (n,).
        """
        logits: Tensor = self.head(self._represent(vectors, merchant_count)).squeeze(1)
        return logits

    def related_to_users(self, batch: FoldBatch) -> tuple[Tensor, Tensor]:
        """(M, width) merchants after they have looked at each other; (n, features) users."""
        vectors, tally = self._parts_and_tally(self.merchant_vectors(batch), batch.merchant_count)
        groups = list(self._groups(vectors, batch.merchant_count))
        related = restore_order(
            [everyone[:, 1:][present] for _, everyone, present in groups],
            [segment_positions(batch.merchant_count, users, present) for users, _, present in groups],
        )
        return related, self._pooled(groups, tally)

    def _represent(self, merchants: Tensor, count: Tensor) -> Tensor:
        """(M, width + tallies) merchants -> (n, features) users."""
        vectors, tally = self._parts_and_tally(merchants, count)
        return self._pooled(list(self._groups(vectors, count)), tally)

    def _parts_and_tally(self, merchants: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """(M, width + tallies) merchants -> (M, width) what looks at others, (n, tallies) users."""
        vectors, tallies = self.parts(merchants)
        return vectors, segment_sum(tallies, segment_ids(count), len(count))

    def _groups(self, vectors: Tensor, count: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Groups of users with like many merchants: (g,) users, their (g, 1 + K, width) vectors, (g, K) bool."""
        for users in length_buckets(count):
            dense, present = pad_segments(vectors, count, users)
            yield users, self.related(dense, present), present

    def _pooled(self, groups: Sequence[tuple[Tensor, Tensor, Tensor]], tally: Tensor) -> Tensor:
        """(n, features), users in their order."""
        parts = [self.pool(everyone, present, tally[users]) for users, everyone, present in groups]
        return restore_order(parts, [users for users, _, _ in groups])

    def merchant_vectors(self, batch: FoldBatch) -> Tensor:
        """(M, width + tallies): each merchant from its own payments alone."""
        vectors: Tensor = self.merchants(self.payments(batch), batch)
        return vectors

    def parts(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """(..., width + tallies) merchants -> (..., width) what looks at other merchants, (..., tallies)."""
        width = self.merchants.width
        return vectors[..., :width], vectors[..., width:]

    def related(self, vectors: Tensor, present: Tensor) -> Tensor:
        """(n, K, width) merchants and (n, K) bool -> (n, 1 + K, width), the user's vector first."""
        everyone = torch.cat([self.user.expand(len(vectors), 1, -1), vectors], dim=1)
        there = F.pad(present, (1, 0), value=True)
        for layer in self.relations:
            everyone = layer(everyone, there)
        return everyone

    @staticmethod
    def pool(everyone: Tensor, present: Tensor, tally: Tensor) -> Tensor:
        """What the head reads, (n, features).

        The sum keeps what the mean loses, how many merchants of a kind there are; both are needed. Tallies are
        counts, read by their logarithms, whose differences are ratios: more of late than before.

        Args:
            everyone: (n, 1 + K, width) the user's vector and the merchants'.
            present: (n, K) bool, where a merchant is.
            tally: (n, tallies) sums over the user's payments.
        """
        total = (everyone[:, 1:] * present[:, :, None]).sum(1)
        return LBSF.head_inputs(everyone[:, 0], total, present.sum(1, keepdim=True), tally)

    @staticmethod
    def head_inputs(user: Tensor, total: Tensor, count: Tensor, tally: Tensor) -> Tensor:
        """What the head reads, (..., features).

        Args:
            user: (..., width) the user's vector.
            total: (..., width) sum of the merchants' vectors.
            count: (..., 1) how many they are.
            tally: (..., tallies).
        """
        return torch.cat([user, total / count.clamp(min=1), total / MERCHANTS_SCALE, torch.log1p(tally)], dim=-1)

    def user_logits(self, vectors: Tensor, present: Tensor) -> Tensor:
        """(n, K, width + tallies) merchants and (n, K) bool -> (n,) logits."""
        related, tallies = self.parts(vectors)
        tally = (tallies * present[:, :, None]).sum(1)
        logits: Tensor = self.head(self.pool(self.related(related, present), present, tally)).squeeze(1)
        return logits
