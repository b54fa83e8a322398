"""Batches on a rank's device, the next one made ready while the device still computes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from lbsf.folds.packed import PackedFolds
from lbsf.folds.views import View
from lbsf.models.batch import FoldBatch


class Feed:
    """Packed folds to batches on the device.

    A GPU works on its own while the CPU goes on: who calls `prepare` between a backward pass and the wait for its
    result has the next batch packed, and on its way through pinned memory and a stream of its own, in that time.

    Attributes:
        seconds: spent by the CPU on getting batches.
        payments: in the batches taken.
    """

    def __init__(self, packed: Iterator[PackedFolds], view: View, device: torch.device):
        self._packed, self._view, self._device = packed, view, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._ready: tuple[FoldBatch, int] | None = None
        self.seconds, self.payments = 0.0, 0

    def prepare(self) -> None:
        """Fetches the next batch, where that is not done."""
        if self._ready is not None:
            return
        asked = time.monotonic()
        packed = next(self._packed)
        batch = FoldBatch.from_packed(self._view.of(packed))
        if self._stream is None:
            batch = batch.to(self._device)
        else:
            with torch.cuda.stream(self._stream):
                batch = FoldBatch(**{n: t.pin_memory() for n, t in batch.tensors.items()}).to(self._device)
        self._ready = batch, packed.payments
        self.seconds += time.monotonic() - asked

    def take(self) -> FoldBatch:
        """The next batch, ready for the device's current stream."""
        self.prepare()
        assert self._ready is not None
        batch, payments = self._ready
        self._ready = None
        self.payments += payments
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for tensor in batch.tensors.values():
                # Its memory must not be given away while the current stream still reads it.
                tensor.record_stream(current)
        return batch
