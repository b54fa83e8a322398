"""Leave-one-out logits: a user's logit without each of the merchants, computed efficiently for many merchants."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from lbsf.models.lbsf import LBSF
from lbsf.models.relations import RelationalLayer

# If a key has more of the attention than this, subtracting it loses too much precision, even in float64.
_MAX_SHARE = 1.0 - 1e-9


def logits_with_others_as_they_are(model: LBSF, vectors: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits, and approximate logits without each merchant, at almost no extra cost.

    A merchant is removed from the head's inputs only. The other merchants' vectors still include the attention that
    they paid to it, so the result approximates `logits_without_each`.

    Args:
        model, vectors, present: as for `logits_without_each`.

    Returns:
        (n,) logits with all merchants; (n, K) logits without each merchant, undefined in the padding.
    """
    related, tallies = model.parts(vectors)
    tallies = tallies * present[:, :, None]
    tokens = model.related(related, present)
    merchants = tokens[:, 1:] * present[:, :, None]
    total, tally, count = merchants.sum(1), tallies.sum(1), present.sum(1, keepdim=True)
    logits = model.head(model.head_inputs(tokens[:, 0], total, count, tally)).squeeze(1)
    n, k, width = merchants.shape
    without = model.head_inputs(
        tokens[:, :1].expand(n, k, width),
        total[:, None] - merchants,
        (count - 1)[:, None].expand(n, k, 1),
        (tally[:, None] - tallies).clamp(min=0.0),
    )
    return logits, model.head(without.flatten(0, 1)).view(n, k)


def logits_without_each(
    model: LBSF, vectors: Tensor, present: Tensor, at_once: int, first: int | None = None
) -> Tensor:
    """Return the exact logits with one merchant left out at a time, as if its payments did not exist.

    The first relational layer's attention is computed once per user: without one key, its output is the full output
    less that key's contribution, divided by the remaining attention. The layer's feed-forward part and all later
    layers are computed for each merchant left out.

    Args:
        model: the network, in evaluation mode.
        vectors: (n, K, width + tallies) merchants, padded by pad_segments.
        present: (n, K) bool, False in the padding.
        at_once: approximate number of vectors computed at once, which bounds the memory.
        first: only this many merchants of each user are left out, the first ones; None: all.

    Returns:
        (n, K or first) logits, undefined in the padding.
    """
    n, k, _ = vectors.shape
    related, tallies = model.parts(vectors)
    tallies = tallies * present[:, :, None]
    without_tally = (tallies.sum(1, keepdim=True) - tallies).clamp(min=0.0)
    all_tokens = torch.cat([model.user.expand(n, 1, -1), related], dim=1)
    mask = F.pad(present, (1, 0), value=True)
    layers = [layer for layer in model.relations if isinstance(layer, RelationalLayer)]
    attention = _Attention(layers[0], all_tokens, mask) if layers else None
    step = max(1, at_once // max(1, n * (k + 1)))
    parts = [torch.zeros((n, 0))]
    wanted = k if first is None else min(first, k)
    for begin in range(0, wanted, step):
        left_out = torch.arange(begin, min(begin + step, wanted))
        tokens = all_tokens[:, None].expand(-1, len(left_out), -1, -1)
        if attention is not None:
            tokens = layers[0].feed_forward(tokens + attention.without(left_out + 1))
        tokens = tokens.flatten(0, 1)
        others = (mask[:, None] & (torch.arange(k + 1) != left_out[:, None] + 1)).flatten(0, 1)
        for layer in layers[1:]:
            tokens = layer(tokens, others)
        tally = without_tally[:, left_out].flatten(0, 1)
        parts.append(model.head(model.pool(tokens, others[:, 1:], tally)).view(n, len(left_out)))
    return torch.cat(parts, dim=1)


class _Attention:
    """The attention of one layer, from which single keys can be removed. Computed in float64."""

    def __init__(self, layer: RelationalLayer, vectors: Tensor, present: Tensor):
        q, key, value = (part.double() for part in layer.heads_of(vectors))
        scores = q @ key.transpose(2, 3) / q.shape[-1] ** 0.5
        self.scores = scores.masked_fill(~present[:, None, None, :], float("-inf"))
        self.share = torch.softmax(self.scores, dim=-1)
        # The output projection is linear: applied to each head's part here, once.
        out = layer.out.weight.double().view(-1, layer.heads, q.shape[-1])
        self.mixed = torch.einsum("nhid,whd->nihw", self.share @ value, out)
        self.value = torch.einsum("nhrd,whd->nrhw", value, out)
        self.bias = layer.out.bias

    def without(self, keys: Tensor) -> Tensor:
        """Return the attention's output with each of R keys left out, (n, R, T, width)."""
        share = self.share[..., keys]
        over_rest = torch.where(share < _MAX_SHARE, 1.0 / (1.0 - share), 0.0)
        kept = over_rest.permute(0, 2, 3, 1) @ self.mixed  # (n, T, R, H) @ (n, T, H, width)
        taken = (share * over_rest).permute(0, 3, 2, 1) @ self.value[:, keys]  # (n, R, T, H) @ (n, R, H, width)
        out = kept.transpose(1, 2) - taken
        # Where subtraction is too inexact, the softmax over the other keys is computed anew.
        user, head, query, position = torch.nonzero(share >= _MAX_SHARE, as_tuple=True)
        if len(user):
            scores = self.scores[user, head, query]
            scores[torch.arange(len(user)), keys[position]] = float("-inf")
            # Each row uses the values of its user and head: (rows, T) weights, (rows, T, width) values.
            rest = torch.einsum("et,etw->ew", torch.softmax(scores, dim=-1), self.value[user, :, head])
            out.index_put_((user, position, query), rest, accumulate=True)
        return out.float() + self.bias
