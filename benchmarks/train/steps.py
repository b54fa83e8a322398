"""Training steps on batches in memory: the time of the network alone, without reading."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.train.padded import PaddedLBSF, pad
from lbsf.config import load_config
from lbsf.folds.packed import PackedFolds
from lbsf.folds.views import View
from lbsf.models.batch import FoldBatch
from lbsf.models.lbsf import LBSF

# Packed and padded networks add some hundred float32 numbers in different orders.
TOLERANCE = 1e-5
SEED = 7
Batches = list[tuple[Any, Tensor]]


def folds_of(files: tuple[str, ...], users: int) -> PackedFolds:
    """Read the first `users` users of some files, packed."""
    parts = [PackedFolds.from_arrow(pq.read_table(path, partitioning=None)) for path in files]
    return PackedFolds.concat(parts).take(np.arange(users))


def packed_batches(packed: PackedFolds, batch_users: int, view: View) -> list[FoldBatch]:
    """Split the users, in their order, into full batches."""
    starts = range(0, len(packed) - batch_users + 1, batch_users)
    return [FoldBatch.from_packed(view.of(packed.take(np.arange(s, s + batch_users)))) for s in starts]


def network_and_batches(name: str, packed: PackedFolds, batch_users: int) -> tuple[nn.Module, Batches]:
    """Build a newly initialised network, and the batches that it reads.

    Args:
        name: lbsf, padded or transformer.
        packed: folds of the users.
        batch_users: users per batch.

    Raises:
        AssertionError: the padded network's result differs from LBSF's.
    """
    config = load_config("conf/base.yaml")
    torch.manual_seed(SEED)
    unfolded = name == "transformer"
    batches = packed_batches(packed, batch_users, View(unfolded=unfolded))
    labels = [_label(batch) for batch in batches]
    if unfolded:
        from lbsf.baselines.sequences import SequenceNetwork

        # It has as many layers as LBSF has relational ones, with the same width and heads.
        return SequenceNetwork("transformer", config.model, config.fold), list(zip(batches, labels, strict=True))
    network = LBSF(config.model, config.fold)
    if name == "lbsf":
        return network, list(zip(batches, labels, strict=True))
    padded = PaddedLBSF(network)
    require_equal(padded, batches[0])
    return padded, [(pad(batch), label) for batch, label in zip(batches, labels, strict=True)]


def require_equal(padded: PaddedLBSF, batch: FoldBatch) -> None:
    """Check that the padded network's logits and gradients equal LBSF's.

    Raises:
        AssertionError: they differ by more than TOLERANCE.
    """
    results: list[list[Tensor]] = []
    padded.eval()
    for network, shown in ((padded.model, batch), (padded, pad(batch))):
        logits = network(shown)
        gradients = torch.autograd.grad(logits.square().sum(), list(padded.parameters()))
        results.append([logits.detach(), *gradients])
    # Some gradients, such as that of a bias before a softmax, are 0 except for rounding.
    rounding = TOLERANCE * max(float(one.abs().max()) for one in results[0])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=TOLERANCE, atol=rounding)


def stepper(network: nn.Module) -> Callable[[Any, Tensor], None]:
    """Return a function that does one training step as lbsf.training does, without other ranks."""
    training = load_config("conf/base.yaml").training
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    network.train()

    def step(batch: Any, label: Tensor) -> None:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(network(batch), label)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), training.gradient_clip)
        optimizer.step()

    return step


def timed_steps(name: str, packed: PackedFolds, batch_users: int) -> dict[str, float]:
    """Time one pass over the users, after a first, untimed step."""
    network, batches = network_and_batches(name, packed, batch_users)
    step = stepper(network)
    step(*batches[0])
    started, cpu = time.perf_counter(), time.process_time()
    for batch, label in batches:
        step(batch, label)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    users = batch_users * len(batches)
    payments = packed.take(np.arange(users)).payments
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "users": users,
        "payments": payments,
        "payments_per_second": payments / seconds,
    }


def _label(batch: FoldBatch) -> Tensor:
    assert batch.label is not None
    return batch.label
