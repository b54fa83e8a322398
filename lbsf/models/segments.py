"""Operations over segments: runs of elements of a flat tensor that belong together, such as a merchant's payments.

`lengths` is always (S,) int64, the number of elements of each of S segments, in the order of the elements; it sums
to E, the number of elements. The names are those of segment operations in torch, JAX and DGL.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# The longest segment of a length bucket is at most this many times as long as its shortest. Padding is then about a
# tenth of the work, however much the lengths differ.
LONGEST_OVER_SHORTEST = 1.25


def segment_ids(lengths: Tensor, elements: int | None = None) -> Tensor:
    """Return the segment that each element belongs to, (E,) int64.

    Args:
        lengths: (S,) int64, elements of each segment.
        elements: E, if known. Without it, the host waits for a GPU to sum the lengths.

    >>> segment_ids(torch.tensor([2, 0, 1])).tolist()
    [0, 0, 2]
    """
    return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths, output_size=elements)


def segment_starts(lengths: Tensor) -> Tensor:
    """Return the position of each segment's first element, (S,) int64.

    >>> segment_starts(torch.tensor([2, 0, 1])).tolist()
    [0, 2, 2]
    """
    return torch.cumsum(lengths, 0) - lengths


def segment_sum(values: Tensor, ids: Tensor, segments: int) -> Tensor:
    """Sum values (E, ...) within each segment; (segments, ...). Empty segments give 0."""
    out = torch.zeros((segments, *values.shape[1:]), dtype=values.dtype, device=values.device)
    return out.index_add(0, ids, values)


def segment_softmax(scores: Tensor, ids: Tensor, segments: int) -> Tensor:
    """Take the softmax of scores (E, H) within each segment, separately for each of the H columns."""
    # In float32 also where matrix products are in bfloat16.
    scores = scores.float()
    # The maximum only prevents overflow; the softmax does not depend on it, so it needs no gradient.
    index = ids[:, None].expand_as(scores)
    peak = torch.full((segments, scores.shape[1]), float("-inf"), dtype=scores.dtype, device=scores.device)
    peak = peak.scatter_reduce(0, index, scores.detach(), "amax")
    weights = torch.exp(scores - peak[ids])
    return weights / segment_sum(weights, ids, segments)[ids]


def padding_groups(lengths: Tensor) -> tuple[Tensor, ...]:
    """Return the groups of segments that are padded to a common length: one group on a GPU, else length buckets.

    A GPU computes the padding in less time than the host takes to launch the kernels of another group. That holds for
    the merchants of a user, whose number is capped; segments with a long tail of lengths need `length_buckets`.
    """
    return (torch.arange(len(lengths), device=lengths.device),) if lengths.is_cuda else length_buckets(lengths)


def length_buckets(lengths: Tensor) -> tuple[Tensor, ...]:
    """Group segments of similar length; together the groups hold each segment's position once.

    >>> [bucket.tolist() for bucket in length_buckets(torch.tensor([4, 90, 0, 5, 100, 4]))]
    [[2], [0, 5, 3], [1, 4]]
    """
    order = torch.argsort(lengths, stable=True)
    cuts, shortest = [], None
    for position, length in enumerate(lengths[order].tolist()):
        if shortest is None or length > LONGEST_OVER_SHORTEST * shortest:
            cuts.append(position)
            shortest = length
    return order.tensor_split(cuts[1:])


def pad_segments(vectors: Tensor, lengths: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Lay some segments out as rows of a padded tensor.

    Args:
        vectors: (E, width), the elements of all segments.
        lengths: (S,) int64, elements of each segment.
        chosen: (g,) int64, positions of the wanted segments.

    Returns:
        (g, K, width), K the length of the longest wanted segment; the padding holds elements of other segments.
        (g, K) bool, True where there is an element and False in the padding.
    """
    length = lengths[chosen]
    offset = torch.arange(int(length.max()) if len(chosen) else 0, device=vectors.device)
    elements = (segment_starts(lengths)[chosen][:, None] + offset).clamp(max=len(vectors) - 1)
    padded = vectors.index_select(0, elements.flatten()).view(*elements.shape, vectors.shape[1])
    return padded, offset < length[:, None]


def segment_positions(lengths: Tensor, chosen: Tensor, present: Tensor) -> Tensor:
    """Return the positions of the padded elements among all elements, in the order of `padded[present]`.

    Args:
        lengths, chosen: as given to `pad_segments`.
        present: the mask that it returned.
    """
    return (segment_starts(lengths)[chosen][:, None] + torch.arange(present.shape[1], device=lengths.device))[present]


def restore_order(parts: Sequence[Tensor], positions: Sequence[Tensor]) -> Tensor:
    """Concatenate parts of (e, ...) elements and put each element back at its position.

    Args:
        parts: the elements of each part.
        positions: the position of each of these elements; together they are 0 to E - 1.
    """
    return torch.cat(list(parts))[torch.argsort(torch.cat(list(positions)))]
