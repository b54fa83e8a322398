"""A batch of folds as tensors, and the operations over its ranges."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from lbsf.loading.packed import PackedFolds


@dataclass(frozen=True)
class FoldBatch:
    """PackedFolds as tensors: the same fields and shapes (all int64; `label` and `teacher` float32)."""

    as_of: Tensor
    merchant_count: Tensor
    merchant_len: Tensor
    merchant_token_len: Tensor
    merchant_token: Tensor
    paid_at: Tensor
    amount_cents: Tensor
    category: Tensor
    channel: Tensor
    description_token_len: Tensor
    description_token: Tensor
    label: Tensor | None = None
    teacher: Tensor | None = None

    def __len__(self) -> int:
        return len(self.as_of)

    @staticmethod
    def from_packed(packed: PackedFolds) -> FoldBatch:
        """Tensors that share the arrays' memory, where it may be written to."""
        columns = {f.name: values for f in fields(packed) if (values := getattr(packed, f.name)) is not None}
        if packed.label is not None:
            columns["label"] = packed.label.astype(np.float32)
        # Arrow's and Petastorm's buffers are read-only, which torch has no notion of: those are copied.
        return FoldBatch(
            **{name: torch.from_numpy(np.require(values, requirements=["C", "W"])) for name, values in columns.items()}
        )

    def to(self, device: torch.device) -> FoldBatch:
        """The batch on another device."""
        return FoldBatch(**{name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()})

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Those that are there, by name."""
        return {f.name: tensor for f in fields(self) if (tensor := getattr(self, f.name)) is not None}


def owners(lengths: Tensor) -> Tensor:
    """Which range each element belongs to.

    >>> owners(torch.tensor([2, 0, 1])).tolist()
    [0, 0, 2]
    """
    return torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)


def starts(lengths: Tensor) -> Tensor:
    """Where each range begins.

    >>> starts(torch.tensor([2, 0, 1])).tolist()
    [0, 2, 2]
    """
    return torch.cumsum(lengths, 0) - lengths


def range_sum(values: Tensor, owner: Tensor, ranges: int) -> Tensor:
    """Sums values (E, ...) over the range that owns each element; (ranges, ...). Empty ranges give 0."""
    out = torch.zeros((ranges, *values.shape[1:]), dtype=values.dtype, device=values.device)
    return out.index_add(0, owner, values)


def range_softmax(scores: Tensor, owner: Tensor, ranges: int) -> Tensor:
    """Softmax of scores (E, H) within each range, for each of H columns."""
    # In float32 also where products are in bfloat16.
    scores = scores.float()
    # The shift is no part of the gradient: softmax does not depend on it.
    index = owner[:, None].expand_as(scores)
    peak = torch.full((ranges, scores.shape[1]), float("-inf"), dtype=scores.dtype, device=scores.device)
    peak = peak.scatter_reduce(0, index, scores.detach(), "amax")
    weights = torch.exp(scores - peak[owner])
    return weights / range_sum(weights, owner, ranges)[owner]


def keep_payments(batch: FoldBatch, keep: Tensor) -> FoldBatch:
    """The batch with the chosen payments alone, (P,) bool; merchants that lose all of theirs go too."""
    merchants = len(batch.merchant_len)
    left = range_sum(keep.long(), owners(batch.merchant_len), merchants)
    there = left > 0
    words = keep[owners(batch.description_token_len)]
    names = there[owners(batch.merchant_token_len)]
    payments = {name: getattr(batch, name)[keep] for name in ("paid_at", "amount_cents", "category", "channel")}
    return replace(
        batch,
        merchant_count=range_sum(there.long(), owners(batch.merchant_count), len(batch)),
        merchant_len=left[there],
        merchant_token_len=batch.merchant_token_len[there],
        merchant_token=batch.merchant_token[names],
        description_token_len=batch.description_token_len[keep],
        description_token=batch.description_token[words],
        **payments,
    )
