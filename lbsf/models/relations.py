"""Relational learning: self-attention over a user's merchants."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class RelationalLayer(nn.Module):
    """A pre-norm Transformer encoder layer (Xiong et al. 2020): multi-head self-attention, then a feed-forward part."""

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
        """Apply the layer.

        Args:
            vectors: (n, K, width), padded.
            present: (n, K) bool, False in the padding.

        Returns:
            (n, K, width).
        """
        n, k, width = vectors.shape
        q, key, value = self.heads_of(vectors)
        # No dropout in the attention: with it, torch has no fused CPU kernel and takes eight times as long.
        mixed = F.scaled_dot_product_attention(q, key, value, attn_mask=present[:, None, None, :])
        return self.feed_forward(vectors + self.out(mixed.transpose(1, 2).reshape(n, k, width)))

    def heads_of(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of (n, K, width) vectors, each (n, heads, K, width / heads)."""
        n, k, _ = vectors.shape
        q, key, value = self.qkv(self.norm_attention(vectors)).view(n, k, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return q, key, value

    def feed_forward(self, vectors: Tensor) -> Tensor:
        """Apply the feed-forward half to each vector: (..., width) -> (..., width)."""
        out: Tensor = vectors + self.forward_part(self.norm_forward(vectors))
        return out
