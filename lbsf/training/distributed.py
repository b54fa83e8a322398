"""Horovod: the only module that imports it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import horovod.torch as hvd
import numpy as np
import numpy.typing as npt
import psutil
import torch
from horovod.common.elastic import State
from torch import nn

from lbsf.config.models import ElasticConfig
from lbsf.errors import InputError, UserError

T = TypeVar("T")

# horovodrun, killed by prctl(2) when its parent ends; what runs its ranks ends them then. Not SIGTERM: horovodrun
# waits for its own threads on it, now and then for ever.
_HOROVODRUN = (
    "import ctypes, runpy, signal; PR_SET_PDEATHSIG = 1; ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL); "
    "runpy.run_module('horovod.runner.launch', run_name='__main__', alter_sys=True)"
)
# Milliseconds between two rounds of talk among ranks without a GPU. Horovod's own, 1, takes computing time from the
# ranks, which talk once a step of 100 and more (docs/decisions/0013-narrow-words.md).
_CPU_CYCLE = "3"
# Seconds between two looks at whether gradients have arrived. Horovod's own wait looks without pause: a rank that waits
# takes computing time from the one it waits for, where both share a core or its threads need one.
_POLL_SECONDS = 0.0002
# Seconds in which ranks must have ended after horovodrun was killed: it gives them five.
_END_RANKS = 8.0


def start() -> tuple[int, int]:
    """Joins the other ranks; (rank, ranks)."""
    if not torch.cuda.is_available():
        os.environ.setdefault("HOROVOD_CYCLE_TIME", _CPU_CYCLE)
    hvd.init()
    return world()


def world() -> tuple[int, int]:
    """(rank, ranks), as they are now: elastic ranks change."""
    return hvd.rank(), hvd.size()


def stop() -> None:
    """Leaves the other ranks in good order."""
    hvd.shutdown()


class _Restart(State):  # type: ignore[misc]  # horovod has no types
    """Keeps nothing: after a change of ranks, training goes on from the checkpoint on disk."""

    def save(self) -> None:
        """There is nothing in memory that another attempt needs."""

    restore = sync = reset = save


def run_elastic(attempt: Callable[[Callable[[], None]], None]) -> None:
    """Runs `attempt` until it ends well, anew whenever a rank is lost or ranks are waiting to join.

    Args:
        attempt: is given a function to call, on all ranks, where the run can be taken up from: there, and
            only there, new ranks may join, and the function does not return then.
    """
    state = _Restart(bcast_object=hvd.broadcast_object, get_rank=hvd.rank)
    hvd.elastic.run(lambda state: attempt(state.check_host_updates))(state)


def require_agreement(digest: str, difference: str, remedy: str) -> None:
    """Raises InputError `ranks … <difference> than rank 0: <remedy>` on every rank unless all hold the same digest."""
    digests = hvd.allgather_object(digest)
    if len(set(digests)) != 1:
        odd = [rank for rank, other in enumerate(digests) if other != digests[0]]
        raise InputError(f"ranks {odd} {difference} than rank 0: {remedy}")


def from_rank_0(make: Callable[[], T]) -> T:
    """What rank 0 makes, on every rank; a UserError that it meets is raised on every rank."""
    made: T | UserError | None = None
    if hvd.rank() == 0:
        try:
            made = make()
        except UserError as error:
            made = error
    # Named here: Horovod would name it by its type, which differs from rank to rank, and wait for ever.
    found: T | UserError = hvd.broadcast_object(made, name="from_rank_0")
    if isinstance(found, UserError):
        raise found
    return found


def local_device() -> torch.device:
    """This rank's own GPU where there are some, else the CPU."""
    if torch.cuda.is_available():
        torch.cuda.set_device(hvd.local_rank())
        return torch.device("cuda", hvd.local_rank())
    return torch.device("cpu")


class DistributedTraining:
    """A model and its optimizer, the same on all ranks; gradients are averaged over them.

    A step is `accumulate` calls of `backward`, then one of `step`. Gradients travel together after the last backward
    pass, not each as it comes up in it: talk in small parts costs ranks on CPUs more time than it hides, and the few
    megabytes take a GPU's links no time worth hiding. What a rank does between the last `backward` and `step` it does
    while they travel.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, gradient_clip: float, accumulate: int = 1):
        self.model, self.optimizer = model, optimizer
        self.gradient_clip, self.accumulate = gradient_clip, accumulate
        self._passes = 0
        self._travelling: int | None = None
        # Not broadcast_optimizer_state: where the state is still empty, it fills it by a step without gradients,
        # which decays the weights and leaves AdamW's count of steps at one. Ranks are given the same state instead.
        hvd.broadcast_parameters(model.state_dict(), root_rank=0)

    def backward(self, loss: torch.Tensor) -> None:
        """Adds a batch's gradient, a scalar mean loss's, to this step's; the last one's sends them on their way.

        A loss that is not finite makes the gradient NaN, so that all ranks see it when gradients are averaged,
        without a message of its own.
        """
        loss.backward(torch.where(torch.isfinite(loss), 1 / self.accumulate, torch.nan))  # type: ignore[no-untyped-call]
        self._passes += 1
        if self._passes == self.accumulate:
            self._send_gradients()

    def step(self, learning_rate: float) -> None:
        """One step on the mean gradient of all batches and ranks, its norm clipped.

        Raises:
            FloatingPointError: on all ranks, some rank's loss or gradient is not finite; the weights are as before.
        """
        self._await_gradients()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
        if not torch.isfinite(norm):
            raise FloatingPointError("the gradient is not finite")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _send_gradients(self) -> None:
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for parameter in trained:
            # What this rank's batch had no use for, another's may have had.
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if hvd.size() > 1:
            gradients = [parameter.grad for parameter in trained]
            self._travelling = hvd.grouped_allreduce_async_(gradients, name="gradients", op=hvd.Average)

    def _await_gradients(self) -> None:
        assert self._passes == self.accumulate, f"{self._passes} backward passes, a step has {self.accumulate}"
        self._passes = 0
        if self._travelling is not None:
            while not hvd.poll(self._travelling):
                time.sleep(_POLL_SECONDS)
            # Raises where a rank was lost.
            hvd.synchronize(self._travelling)
            self._travelling = None

    def optimizer_state(self) -> dict[str, torch.Tensor]:
        """The optimizer's tensors, `<number of the parameter>.<name>` each."""
        state = self.optimizer.state_dict()["state"]
        return {f"{number}.{name}": value for number, of in state.items() for name, value in of.items()}

    def restore_optimizer(self, tensors: dict[str, torch.Tensor]) -> None:
        """Takes over what `optimizer_state` gave."""
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            number, _, name = key.partition(".")
            state.setdefault(int(number), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


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


def launch(
    command: Sequence[str],
    ranks: int,
    hosts: str | None,
    on_line: Callable[[str], None],
    *,
    network_interfaces: str | None = None,
    elastic: ElasticConfig | None = None,
    timeout_seconds: int | None = None,
) -> int:
    """Runs a command on every rank with horovodrun over Gloo, and waits for all.

    The ranks end with this process, also where it is killed, and where an exception, such as a signal's, ends the wait.

    Args:
        command: program and arguments, the same on every rank.
        ranks: number of processes; with `elastic`, of those that begin.
        hosts: `host:slots,…`; None: all on this machine, or where `elastic` finds hosts.
        on_line: called with each line that a rank prints, horovodrun's rank prefix cut off.
        network_interfaces: that ranks talk over, `eth0,…`; None: horovodrun finds them.
        elastic: how few and how many ranks there may be.
        timeout_seconds: how long a rank may be silent before the others give up; None: Gloo's own 30.

    Returns:
        horovodrun's exit status.
    """
    options = ["-np", str(ranks)]
    if timeout_seconds is not None:
        options += ["--gloo-timeout-seconds", str(timeout_seconds)]
    if network_interfaces is not None:
        options += ["--network-interfaces", network_interfaces]
    if elastic is None:
        options += ["-H", hosts or f"localhost:{ranks}"]
    else:
        options += ["--min-np", str(elastic.min_ranks), "--max-np", str(elastic.max_ranks)]
        options += ["--host-discovery-script", elastic.discovery_script]
    run = [sys.executable, "-c", _HOROVODRUN, "--gloo", *options, *command]
    # A session of its own: Ctrl-C reaches this process alone, which then ends the ranks.
    with subprocess.Popen(
        run, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                on_line(line.rstrip("\n").partition(">:")[2] if line.startswith("[") else line.rstrip("\n"))
        except BaseException:
            _end_ranks(process)
            raise
    return process.returncode


def _end_ranks(horovodrun: subprocess.Popen[str]) -> None:
    """Kills horovodrun; what runs its ranks ends them then, and is killed where it does not in good time."""
    started = psutil.Process(horovodrun.pid).children(recursive=True)
    horovodrun.kill()
    _, alive = psutil.wait_procs(started, timeout=_END_RANKS)
    for process in alive:
        process.kill()
