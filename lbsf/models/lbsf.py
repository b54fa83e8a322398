"""The LBSF network: encodes each merchant's payments, relates the merchants by self-attention, predicts default."""

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
    pad_segments,
    padding_groups,
    restore_order,
    segment_ids,
    segment_positions,
    segment_sum,
)

# Divides the sum over merchants, to bring it to the scale of their mean for a typical number of merchants.
MERCHANTS_SCALE = 32.0


class RiskHead(nn.Sequential):
    """The head: a module from (n, features) representations to (n, 1) logits of default.

    LBSF's head is linear: its features are learnt already, and with few defaults a hidden layer overfits
    (docs/decisions/0014-linear-head.md). Networks that summarise a user in one vector may need the hidden layer.
    """

    def __init__(self, features: int, model: ModelConfig):
        # Overall activity varies most between users and predicts least. Without normalising each feature over
        # users, training spends its first epochs on it.
        parts: list[nn.Module] = [nn.BatchNorm1d(features, momentum=0.03)]
        if model.head == "hidden":
            parts += [nn.Linear(features, model.width), nn.GELU()]
            features = model.width
        super().__init__(*parts, nn.Dropout(model.dropout), nn.Linear(features, 1))


class LBSF(nn.Module):
    """The whole network (arXiv 2411.15056): it reads folds and returns one logit of default per user.

    A learned user vector is prepended to each user's merchants, so that a user without payments has a
    defined score. The result does not depend on the order of the merchants.
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
        # The head's inputs: the user vector, the merchants' mean and sum, and the tallies.
        self.features = 3 * width + self.merchants.tallies
        self.head = RiskHead(self.features, model)

    def forward(self, batch: FoldBatch) -> Tensor:
        """Return the logits of default, (n,)."""
        return self.logits_of(self.merchant_vectors(batch), batch.merchant_count)

    def represent(self, batch: FoldBatch) -> Tensor:
        """Return the head's inputs for each user, (n, features)."""
        return self._represent(self.merchant_vectors(batch), batch.merchant_count)

    def logits_of(self, vectors: Tensor, merchant_count: Tensor) -> Tensor:
        """Compute the logits of n users from their merchants' vectors.

        Args:
            vectors: (M, width + tallies), as returned by `merchant_vectors`.
            merchant_count: (n,) int64, merchants of each user; sums to M.

        Returns:
            (n,).
        """
        logits: Tensor = self.head(self._represent(vectors, merchant_count)).squeeze(1)
        return logits

    def related_to_users(self, batch: FoldBatch) -> tuple[Tensor, Tensor]:
        """Return the merchants' vectors after self-attention, (M, width), and the head's inputs, (n, features)."""
        vectors, tally = self._parts_and_tally(self.merchant_vectors(batch), batch.merchant_count)
        groups = list(self._groups(vectors, batch.merchant_count))
        related = restore_order(
            [tokens[:, 1:][present] for _, tokens, present in groups],
            [segment_positions(batch.merchant_count, users, present) for users, _, present in groups],
        )
        return related, self._pooled(groups, tally)

    def _represent(self, merchants: Tensor, count: Tensor) -> Tensor:
        """Compute the head's inputs, (n, features), from (M, width + tallies) merchants and (n,) counts of them."""
        vectors, tally = self._parts_and_tally(merchants, count)
        return self._pooled(list(self._groups(vectors, count)), tally)

    def _parts_and_tally(self, merchants: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Split (M, width + tallies) merchants into (M, width) vectors and the users' summed tallies, (n, tallies)."""
        vectors, tallies = self.parts(merchants)
        return vectors, segment_sum(tallies, segment_ids(count, len(tallies)), len(count))

    def _groups(self, vectors: Tensor, count: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield groups of users whose merchants are padded together, after self-attention.

        Yields:
            (g,) positions of the users; (g, 1 + K, width) vectors, the user vector first; (g, K) bool, False in the
            padding.
        """
        for users in padding_groups(count):
            dense, present = pad_segments(vectors, count, users)
            yield users, self.related(dense, present), present

    def _pooled(self, groups: Sequence[tuple[Tensor, Tensor, Tensor]], tally: Tensor) -> Tensor:
        """Return the head's inputs of all groups' users, in the users' order, (n, features)."""
        parts = [self.pool(tokens, present, tally[users]) for users, tokens, present in groups]
        return restore_order(parts, [users for users, _, _ in groups])

    def merchant_vectors(self, batch: FoldBatch) -> Tensor:
        """Encode each merchant from its own payments only, (M, width + tallies)."""
        vectors: Tensor = self.merchants(self.payments(batch), batch)
        return vectors

    def parts(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Split (..., width + tallies) merchants into the vectors for self-attention, (..., width), and the tallies."""
        width = self.merchants.width
        return vectors[..., :width], vectors[..., width:]

    def related(self, vectors: Tensor, present: Tensor) -> Tensor:
        """Relate each user's merchants to each other by self-attention.

        Args:
            vectors: (n, K, width) merchants, padded.
            present: (n, K) bool, False in the padding.

        Returns:
            (n, 1 + K, width), the user vector first.
        """
        tokens = torch.cat([self.user.expand(len(vectors), 1, -1), vectors], dim=1)
        mask = F.pad(present, (1, 0), value=True)
        for layer in self.relations:
            tokens = layer(tokens, mask)
        return tokens

    @staticmethod
    def pool(tokens: Tensor, present: Tensor, tally: Tensor) -> Tensor:
        """Compute the head's inputs, (n, features).

        Mean and sum are both needed: the sum shows how many merchants of a kind there are, which is lost in the mean.
        Tallies are counts. Their logarithms are used, as differences of logarithms express ratios, such as between
        recent and all payments.

        Args:
            tokens: (n, 1 + K, width) the user vector and the merchants' vectors.
            present: (n, K) bool, False in the padding.
            tally: (n, tallies) sums over the user's payments.
        """
        total = (tokens[:, 1:] * present[:, :, None]).sum(1)
        return LBSF.head_inputs(tokens[:, 0], total, present.sum(1, keepdim=True), tally)

    @staticmethod
    def head_inputs(user: Tensor, total: Tensor, count: Tensor, tally: Tensor) -> Tensor:
        """Concatenate the head's inputs, (..., features).

        Args:
            user: (..., width) the user vector.
            total: (..., width) sum of the merchants' vectors.
            count: (..., 1) number of merchants.
            tally: (..., tallies) sums over the user's payments.
        """
        return torch.cat([user, total / count.clamp(min=1), total / MERCHANTS_SCALE, torch.log1p(tally)], dim=-1)

    def user_logits(self, vectors: Tensor, present: Tensor) -> Tensor:
        """Compute the logits, (n,), from padded merchants, (n, K, width + tallies), and their mask, (n, K) bool."""
        related, tallies = self.parts(vectors)
        tally = (tallies * present[:, :, None]).sum(1)
        logits: Tensor = self.head(self.pool(self.related(related, present), present, tally)).squeeze(1)
        return logits
