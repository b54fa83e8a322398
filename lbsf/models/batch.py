"""A batch of folds as tensors."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lbsf.folds.packed import PackedFolds
from lbsf.models.segments import segment_ids, segment_sum


@dataclass(frozen=True)
class FoldBatch:
    """PackedFolds as tensors, with the same fields and shapes; all int64, but `label` and `teacher` float32."""

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
        """Convert packed folds to tensors; they share the arrays' memory if it is writable."""
        columns = {f.name: values for f in fields(packed) if (values := getattr(packed, f.name)) is not None}
        if packed.label is not None:
            columns["label"] = packed.label.astype(np.float32)
        # Read-only buffers of Arrow and Petastorm are copied, as torch has no read-only tensors.
        return FoldBatch(
            **{name: torch.from_numpy(np.require(values, requirements=["C", "W"])) for name, values in columns.items()}
        )

    def to(self, device: torch.device) -> FoldBatch:
        """Copy the batch to a device, asynchronously if possible."""
        return FoldBatch(**{name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()})

    @cached_property
    def user_of_merchant(self) -> Tensor:
        """Return the position of each merchant's user, (M,) int64."""
        return segment_ids(self.merchant_count, len(self.merchant_len))

    @cached_property
    def merchant_of_payment(self) -> Tensor:
        """Return the position of each payment's merchant, (P,) int64."""
        return segment_ids(self.merchant_len, len(self.paid_at))

    @cached_property
    def user_of_payment(self) -> Tensor:
        """Return the position of each payment's user, (P,) int64."""
        return self.user_of_merchant[self.merchant_of_payment]

    @cached_property
    def payment_as_of(self) -> Tensor:
        """Return the end of the window of each payment's user, (P,) int64, seconds since 1970-01-01 UTC."""
        return self.as_of[self.user_of_payment]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that are not None, by name."""
        return {f.name: tensor for f in fields(self) if (tensor := getattr(self, f.name)) is not None}


def keep_payments(batch: FoldBatch, keep: Tensor) -> FoldBatch:
    """Keep the chosen payments, (P,) bool, and drop merchants that lose all of theirs."""
    merchants = len(batch.merchant_len)
    left = segment_sum(keep.long(), batch.merchant_of_payment, merchants)
    keep_merchants = left > 0
    words = keep[segment_ids(batch.description_token_len, len(batch.description_token))]
    names = keep_merchants[segment_ids(batch.merchant_token_len, len(batch.merchant_token))]
    payments = {name: getattr(batch, name)[keep] for name in ("paid_at", "amount_cents", "category", "channel")}
    return replace(
        batch,
        merchant_count=segment_sum(keep_merchants.long(), batch.user_of_merchant, len(batch)),
        merchant_len=left[keep_merchants],
        merchant_token_len=batch.merchant_token_len[keep_merchants],
        merchant_token=batch.merchant_token[names],
        description_token_len=batch.description_token_len[keep],
        description_token=batch.description_token[words],
        **payments,
    )
