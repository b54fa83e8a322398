"""Relational learning: a user's merchants look at each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lbsf.models.batch import starts

# Of the ranges that are set out together, the longest is at most so many times as long as the shortest: what is
# padded is then about a tenth of the work, however much ranges differ.
LONGEST_OVER_SHORTEST = 1.25


def like_sized(lengths: Tensor) -> tuple[Tensor, ...]:
    """The positions of all ranges, in groups of like length; together each position once.

    >>> [group.tolist() for group in like_sized(torch.tensor([4, 90, 0, 5, 100, 4]))]
    [[2], [0, 5, 3], [1, 4]]
    """
    order = torch.argsort(lengths, stable=True)
    cuts, shortest = [], None
    for place, length in enumerate(lengths[order].tolist()):
        if shortest is None or length > LONGEST_OVER_SHORTEST * shortest:
            cuts.append(place)
            shortest = length
    return order.tensor_split(cuts[1:])


def set_out(vectors: Tensor, lengths: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Sets the elements of some ranges out, a row a range.

    Args:
        vectors: (E, width), the elements of all ranges.
        lengths: (n,) int64, elements of each range; sums to E.
        chosen: (g,) int64, positions of the ranges that are wanted.

    Returns:
        (g, K, width) with other ranges' elements behind a range's last one, K the length of the longest
        wanted; (g, K) bool, where an element of the range is.
    """
    length = lengths[chosen]
    place = torch.arange(int(length.max()) if len(chosen) else 0, device=vectors.device)
    elements = (starts(lengths)[chosen][:, None] + place).clamp(max=len(vectors) - 1)
    dense = vectors.index_select(0, elements.flatten()).view(*elements.shape, vectors.shape[1])
    return dense, place < length[:, None]


def places(lengths: Tensor, chosen: Tensor, present: Tensor) -> Tensor:
    """Where the elements that set_out set out stand among all, (elements,) int64, in the order of `dense[present]`."""
    return (starts(lengths)[chosen][:, None] + torch.arange(present.shape[1], device=lengths.device))[present]


def in_order(parts: Sequence[Tensor], places: Sequence[Tensor]) -> Tensor:
    """Parts of (e, ...) elements as one tensor, each element at its place; all places together are 0 to E - 1."""
    return torch.cat(list(parts))[torch.argsort(torch.cat(list(places)))]


class RelationalLayer(nn.Module):
    """Merchants of a user look at each other: pre-norm multi-head attention and a feed-forward part."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
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
        # Without dropout of its own: with it, torch has no fused kernel for a CPU, and takes eight times as long.
        mixed = F.scaled_dot_product_attention(q, key, value, attn_mask=present[:, None, None, :])
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
