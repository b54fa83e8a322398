"""Horovod: the only module that imports it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

import horovod.torch as hvd
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lbsf.errors import InputError


def start() -> tuple[int, int]:
    """Joins the other ranks; (rank, ranks)."""
    hvd.init()
    return hvd.rank(), hvd.size()


def stop() -> None:
    """Leaves the other ranks in good order."""
    hvd.shutdown()


def require_agreement(digest: str, what: str) -> None:
    """Raises InputError on every rank unless all ranks hold the same digest."""
    digests = hvd.allgather_object(digest)
    if len(set(digests)) != 1:
        odd = [rank for rank, other in enumerate(digests) if other != digests[0]]
        raise InputError(f"ranks {odd} were given another {what} than rank 0: start all ranks from one plan")


def local_device() -> torch.device:
    """This rank's own GPU where there are some, else the CPU."""
    if torch.cuda.is_available():
        torch.cuda.set_device(hvd.local_rank())
        return torch.device("cuda", hvd.local_rank())
    return torch.device("cpu")


class DistributedTraining:
    """A model and its optimizer, the same on all ranks; gradients are averaged over them."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, gradient_clip: float):
        self.model = model
        self.gradient_clip = gradient_clip
        self.optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
        hvd.broadcast_parameters(model.state_dict(), root_rank=0)
        hvd.broadcast_optimizer_state(self.optimizer, root_rank=0)

    def step(self, loss: torch.Tensor) -> None:
        """One step on the mean gradient of all ranks, its norm clipped."""
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        # Gradients must have been averaged before their norm means anything.
        self.optimizer.synchronize()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
        with self.optimizer.skip_synchronize():
            self.optimizer.step()


def average_buffers(model: nn.Module) -> None:
    """Gives all ranks the mean of their running statistics (batch normalisation), so all score alike."""
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(hvd.allreduce(buffer, name=f"buffer.{name}"))


def mean_over_ranks(value: float, name: str) -> float:
    """The mean of a number over all ranks."""
    return float(hvd.allreduce(torch.tensor(value, dtype=torch.float64), name=name))


def gather(values: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    """All ranks' values, (n_rank, ...) each, joined in order of rank; n_rank may differ and be 0."""
    return np.asarray(hvd.allgather(torch.from_numpy(np.ascontiguousarray(values)), name=name).numpy())


def launch(command: Sequence[str], ranks: int, hosts: str | None, on_line: Callable[[str], None]) -> int:
    """Runs a command on every rank with horovodrun over Gloo, and waits for all.

    Args:
        command: program and arguments, the same on every rank.
        ranks: number of processes.
        hosts: `host:slots,…`; None: all on this machine.
        on_line: called with each line that a rank prints, horovodrun's rank prefix cut off.

    Returns:
        horovodrun's exit status.
    """
    where = ["-H", hosts] if hosts else ["-H", f"localhost:{ranks}"]
    run = [sys.executable, "-m", "horovod.runner.launch", "--gloo", "-np", str(ranks), *where, *command]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1) as process:
        assert process.stdout is not None
        for line in process.stdout:
            on_line(line.rstrip("\n").partition(">:")[2] if line.startswith("[") else line.rstrip("\n"))
    return process.returncode
