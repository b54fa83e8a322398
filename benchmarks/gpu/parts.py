"""The parts of the GPU benchmark. Each yields one record of figures per contender."""

from __future__ import annotations

import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.harness.results import Record
from benchmarks.train.dataset import Dataset
from benchmarks.train.ranks import train
from benchmarks.train.steps import folds_of, network_and_batches, stepper
from lbsf.folds.packed import PackedFolds
from lbsf.folds.views import View
from lbsf.loading.petastorm_reader import train_batches
from lbsf.models.lbsf import LBSF
from lbsf.models.segments import length_buckets
from lbsf.training.feed import Feed

GPU = torch.device("cuda")
CPU = torch.device("cpu")
# Some batches of the largest size.
STEP_USERS = 4096
BATCHES = (64, 256, 1024)
EPOCHS = 3
AGREEMENT_USERS = 512


def agreement(data: Dataset, scratch: Path) -> Iterator[Record]:
    """Compare a batch's logits and gradients on the GPU with those in float64 on the CPU."""
    packed = folds_of(data.files("train"), AGREEMENT_USERS)
    wanted = _logits_and_gradients(packed, CPU, torch.float64)
    for contender, device, bfloat16 in (
        ("cpu, float32", CPU, False),
        ("gpu, float32", GPU, False),
        ("gpu, bfloat16", GPU, True),
    ):
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            found = _logits_and_gradients(packed, device, torch.float32)
        errors = [_relative_error(one, other) for one, other in zip(found, wanted, strict=True)]
        yield {"contender": contender, "logits_error": errors[0], "gradients_error": max(errors[1:])}


def steps(data: Dataset, scratch: Path) -> Iterator[Record]:
    """Time training steps on batches in memory, by network, precision and batch size, on the GPU and one CPU core.

    `waits` of a record counts how often the host waits for the GPU in a step, by source line.
    """
    packed = folds_of(data.files("train"), min(STEP_USERS, data.users))
    few = packed.take(np.arange(min(8 * BATCHES[0], len(packed))))
    yield {"contender": "cpu, one core", **_steps("lbsf", few, BATCHES[0], CPU, bfloat16=False, passes=1)}
    for batch_users in BATCHES:
        for bfloat16 in (False, True):
            figures = _steps("lbsf", packed, batch_users, GPU, bfloat16=bfloat16, passes=3)
            yield {"contender": f"gpu, {_precision(bfloat16)}", **figures}
        with patch("lbsf.models.lbsf.padding_groups", length_buckets):
            yield {
                "contender": "gpu, float32, length buckets",
                **_steps("lbsf", packed, batch_users, GPU, bfloat16=False, passes=3),
            }
    for network, bfloat16 in (("padded", False), ("transformer", True)):
        figures = _steps(network, few, BATCHES[0], GPU, bfloat16=bfloat16, passes=1)
        yield {"contender": f"gpu, {network}, {_precision(bfloat16)}", **figures}


def kernels(data: Dataset, scratch: Path) -> Iterator[Record]:
    """Count a step's kernels, and print the operators that take the most time, on the host and on the GPU."""
    batch_users, count = 64, 8
    network, batches = _on(GPU, "lbsf", folds_of(data.files("train"), batch_users * (count + 2)), batch_users)
    step = _autocast(stepper(network), GPU, True)
    for batch in batches[:2]:
        step(*batch)
    _wait_for(GPU)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        for batch in batches[2:]:
            step(*batch)
        _wait_for(GPU)
    averages = profiled.key_averages()
    for key in ("self_cpu_time_total", "self_cuda_time_total"):
        print(averages.table(sort_by=key, row_limit=20, max_name_column_width=50), flush=True)
    on_gpu = (event for event in averages if event.device_type.name == "CUDA" and not event.is_user_annotation)
    busy = sum(event.self_device_time_total for event in on_gpu) / 1e6 / count
    launched = sum(event.count for event in averages if "LaunchKernel" in event.key) / count
    yield {"contender": "lbsf, bfloat16", "batch_users": batch_users, "kernels": launched, "gpu_seconds_a_step": busy}


def feed(data: Dataset, scratch: Path) -> Iterator[Record]:
    """Time an epoch of the loop's feed and steps: with and without reading ahead of the GPU, and reading alone."""
    few = folds_of(data.files("train"), 1)
    for batch_users in (64, 512):
        for contender, take in {
            "reading alone": _only_read,
            "reading ahead": _read_ahead,
            "one after the other": _read_between,
        }.items():
            users = 0
            network, _ = _on(GPU, "lbsf", few, batch_users)
            step = stepper(network)
            batches = train_batches(
                data.files("train"), shard=0, shards=1, batch_users=batch_users, buffer_row_groups=4, seed=1
            )
            fed = Feed(batches, View(), GPU)
            for _ in range(8):
                take(fed, step)
            _wait_for(GPU)
            before, seconds_before, started = fed.payments, fed.seconds, time.perf_counter()
            while users < data.users:
                take(fed, step)
                users += batch_users
            _wait_for(GPU)
            seconds = time.perf_counter() - started
            payments = fed.payments - before
            batches.close()
            yield {
                "contender": contender,
                "batch_users": batch_users,
                "seconds": seconds,
                "payments_per_second": payments / seconds,
                "data_wait_share": (fed.seconds - seconds_before) / seconds,
            }


def scoring(data: Dataset, scratch: Path) -> Iterator[Record]:
    """Time the forward pass, as scoring does it: float32, batches of 256 users in memory."""
    packed = folds_of(data.files("train"), min(STEP_USERS, data.users))
    for contender, device in (("cpu, one core", CPU), ("gpu", GPU)):
        network, batches = _on(device, "lbsf", packed, 256)
        network.eval()
        with torch.inference_mode():
            # The first pass warms up.
            for _ in range(2):
                started = time.perf_counter()
                for batch, _ in batches:
                    network(batch)
                _wait_for(device)
                seconds = time.perf_counter() - started
        users = 256 * len(batches)
        yield {"contender": contender, "batch_users": 256, "seconds": seconds, "users_per_second": users / seconds}


def training(data: Dataset, scratch: Path) -> Iterator[Record]:
    """Train as train_model does, by horovodrun, on the CPU and on the GPU.

    The CPU trains for one epoch, because only its time is compared; its AUC is not comparable.
    """
    for contender, gpu, changed in (
        ("cpu, one core", False, {}),
        ("gpu, float32", True, {"precision": "float32"}),
        ("gpu, bfloat16", True, {"precision": "bfloat16"}),
        ("gpu, float32, 512 users a batch", True, {"precision": "float32", "batch_users": 512}),
    ):
        epochs = EPOCHS if gpu else 1
        output = scratch / "runs" / str(time.time_ns())
        # Ranks inherit the environment; this process has opened the GPU already.
        with nullcontext() if gpu else patch.dict(os.environ, {"CUDA_VISIBLE_DEVICES": ""}):
            figures = train(data, 1, epochs, output, **changed)
        yield {"contender": contender, **figures, "seconds": min(figures["epoch_seconds"])}


def _steps(
    name: str, packed: PackedFolds, batch_users: int, device: torch.device, *, bfloat16: bool, passes: int
) -> Record:
    """Time passes over the users; their fastest counts."""
    on_gpu = device.type == "cuda"
    network, batches = _on(device, name, packed, batch_users)
    step = _autocast(stepper(network), device, bfloat16)
    for batch in batches[:3]:
        step(*batch)
    waits = _host_waits(lambda: step(*batches[0])) if on_gpu else {}
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(passes):
        _wait_for(device)
        started = time.perf_counter()
        for batch in batches:
            step(*batch)
        _wait_for(device)
        seconds.append(time.perf_counter() - started)
    payments = packed.take(np.arange(batch_users * len(batches))).payments
    return {
        "batch_users": batch_users,
        "seconds": min(seconds),
        "milliseconds_a_step": 1000 * min(seconds) / len(batches),
        "payments_per_second": payments / min(seconds),
        "gpu_memory": torch.cuda.max_memory_allocated() if on_gpu else 0,
        "waits": waits,
    }


class _WithDefaultDevice(nn.Module):
    """Runs PaddedLBSF, which creates its masks on the default device, with another default device."""

    def __init__(self, network: nn.Module, device: torch.device):
        super().__init__()
        self.network, self.device = network, device

    def forward(self, batch: Any) -> Tensor:
        """Return the logits."""
        with self.device:
            logits: Tensor = self.network(batch)
        return logits


def _precision(bfloat16: bool) -> str:
    return "bfloat16" if bfloat16 else "float32"


def _host_waits(step: Callable[[], None]) -> dict[str, int]:
    """Count the operations of a step for which the host waits for the GPU, by file and line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        step()
        torch.cuda.set_sync_debug_mode("default")
    waiting = [found for found in caught if "synchroniz" in str(found.message)]
    return dict(Counter(f"{Path(found.filename).name}:{found.lineno}" for found in waiting))


def _on(device: torch.device, name: str, packed: PackedFolds, batch_users: int) -> tuple[nn.Module, list[Any]]:
    """Build a network and its batches in a device's memory."""
    if name == "padded":
        from benchmarks.train.padded import PaddedLBSF, pad

        network, batches = _on(device, "lbsf", packed, batch_users)
        assert isinstance(network, LBSF)
        with device:
            padded = [(pad(batch), label) for batch, label in batches]
        return _WithDefaultDevice(PaddedLBSF(network), device), padded
    network, batches = network_and_batches(name, packed, batch_users)
    return network.to(device), [(batch.to(device), label.to(device)) for batch, label in batches]


def _autocast(
    step: Callable[[Any, Tensor], None], device: torch.device, bfloat16: bool
) -> Callable[[Any, Tensor], None]:
    def run(batch: Any, label: Tensor) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            step(batch, label)

    return run


def _logits_and_gradients(packed: PackedFolds, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Return the logits, and the gradient of the sum of their squares by all parameters, in float64 on the CPU."""
    network, [(batch, _)] = _on(device, "lbsf", packed, len(packed))
    network.to(dtype).eval()
    # The network calls `float` where it needs float32; the reference computes everything in float64.
    with patch.object(Tensor, "float", Tensor.double) if dtype is torch.float64 else nullcontext():
        logits = network(batch).to(dtype)
    gradients = torch.autograd.grad(logits.square().sum(), list(network.parameters()))
    return [one.detach().double().cpu() for one in (logits, torch.cat([one.flatten() for one in gradients]))]


def _relative_error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def _only_read(fed: Feed, step: Callable[[Any, Tensor], None]) -> None:
    fed.take()


def _read_ahead(fed: Feed, step: Callable[[Any, Tensor], None]) -> None:
    batch = fed.take()
    assert batch.label is not None
    step(batch, batch.label)
    fed.prepare()


def _read_between(fed: Feed, step: Callable[[Any, Tensor], None]) -> None:
    batch = fed.take()
    assert batch.label is not None
    step(batch, batch.label)
    _wait_for(GPU)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
