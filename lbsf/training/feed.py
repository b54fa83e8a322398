"""Moves batches to a rank's device; the next batch is prepared while the device computes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from lbsf.folds.packed import PackedFolds
from lbsf.folds.views import View
from lbsf.models.batch import FoldBatch


class Feed:
    """Turns packed folds into batches on the device.

    A GPU computes asynchronously. Call `prepare` after starting a backward pass and before waiting for its result:
    the next batch is then built, and copied from pinned memory on a separate CUDA stream, in the meantime.

    Attributes:
        seconds: seconds that the CPU spent on getting batches.
        payments: payments in the batches taken.
    """

    def __init__(self, packed: Iterator[PackedFolds], view: View, device: torch.device):
        self._packed, self._view, self._device = packed, view, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._ready: tuple[FoldBatch, int] | None = None
        self.seconds, self.payments = 0.0, 0

    def prepare(self) -> None:
        """Fetch the next batch, unless it is fetched already."""
        if self._ready is not None:
            return
        begun = time.monotonic()
        packed = next(self._packed)
        batch = FoldBatch.from_packed(self._view.of(packed))
        if self._stream is None:
            batch = batch.to(self._device)
        else:
            with torch.cuda.stream(self._stream):
                batch = FoldBatch(**{n: t.pin_memory() for n, t in batch.tensors.items()}).to(self._device)
        self._ready = batch, packed.payments
        self.seconds += time.monotonic() - begun

    def take(self) -> FoldBatch:
        """Return the next batch, ready for the device's current stream."""
        self.prepare()
        assert self._ready is not None
        batch, payments = self._ready
        self._ready = None
        self.payments += payments
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for tensor in batch.tensors.values():
                # Keeps the allocator from reusing the memory while the current stream still reads it.
                tensor.record_stream(current)
        return batch
