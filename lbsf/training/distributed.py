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

# Runs horovodrun so that prctl(2) kills it when its parent ends; the processes that run its ranks then end them. On
# SIGTERM, horovodrun would wait for its own threads, sometimes for ever.
_HOROVODRUN = (
    "import ctypes, runpy, signal; PR_SET_PDEATHSIG = 1; ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL); "
    "runpy.run_module('horovod.runner.launch', run_name='__main__', alter_sys=True)"
)
# Milliseconds between Horovod's communication cycles without a GPU. Horovod's default, 1, takes computing time from the
# ranks, which communicate once per step of 100 ms or more (docs/decisions/0013-narrow-words.md).
_CPU_CYCLE = "3"
# Seconds between two checks whether the gradients have arrived. Horovod's own wait is a busy loop: a waiting rank takes
# computing time from the one it waits for, if both share a core or the latter's threads need one.
_POLL_SECONDS = 0.0002
# Seconds for ranks to end after horovodrun was killed; Horovod itself gives them five.
_END_RANKS = 8.0


def start() -> tuple[int, int]:
    """Join the other ranks; return (rank, ranks)."""
    if not torch.cuda.is_available():
        os.environ.setdefault("HOROVOD_CYCLE_TIME", _CPU_CYCLE)
    hvd.init()
    return world()


def world() -> tuple[int, int]:
    """Return the current (rank, ranks); they change in elastic training."""
    return hvd.rank(), hvd.size()


def stop() -> None:
    """Disconnect from the other ranks."""
    hvd.shutdown()


class _Restart(State):  # type: ignore[misc]  # horovod has no types
    """An empty elastic state: after a change of ranks, training resumes from the checkpoint on disk."""

    def save(self) -> None:
        """Do nothing: another attempt needs nothing from memory."""

    restore = sync = reset = save


def run_elastic(attempt: Callable[[Callable[[], None]], None]) -> None:
    """Run `attempt` until it succeeds, and restart it whenever a rank is lost or ranks are waiting to join.

    Args:
        attempt: takes a function that all ranks must call wherever the run can be resumed. Only in this call may new
            ranks join; it then does not return.
    """
    state = _Restart(bcast_object=hvd.broadcast_object, get_rank=hvd.rank)
    hvd.elastic.run(lambda state: attempt(state.check_host_updates))(state)


def require_agreement(digest: str, difference: str, remedy: str) -> None:
    """Raise InputError `ranks … <difference> than rank 0: <remedy>` on every rank unless all have the same digest."""
    digests = hvd.allgather_object(digest)
    if len(set(digests)) != 1:
        odd = [rank for rank, other in enumerate(digests) if other != digests[0]]
        raise InputError(f"ranks {odd} {difference} than rank 0: {remedy}")


def from_rank_0(make: Callable[[], T]) -> T:
    """Call `make` on rank 0 and return its result on every rank; a UserError in it is raised on every rank."""
    made: T | UserError | None = None
    if hvd.rank() == 0:
        try:
            made = make()
        except UserError as error:
            made = error
    # By default, Horovod names it after its type, which differs between ranks, and would wait for ever.
    found: T | UserError = hvd.broadcast_object(made, name="from_rank_0")
    if isinstance(found, UserError):
        raise found
    return found


def local_device() -> torch.device:
    """Return this rank's own GPU if there are GPUs, else the CPU."""
    if torch.cuda.is_available():
        torch.cuda.set_device(hvd.local_rank())
        return torch.device("cuda", hvd.local_rank())
    return torch.device("cpu")


class DistributedTraining:
    """A model and its optimizer, the same on all ranks, trained on gradients averaged over the ranks.

    A step is `accumulate` calls of `backward`, then one of `step`. All gradients are sent together after the last
    backward pass instead of overlapping with it: on CPUs many small messages cost more time than the overlap saves, and
    on GPUs sending the few megabytes takes too little time to hide. The transfer is asynchronous: work between the last
    `backward` and `step` overlaps with it.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, gradient_clip: float, accumulate: int = 1):
        self.model, self.optimizer = model, optimizer
        self.gradient_clip, self.accumulate = gradient_clip, accumulate
        self._passes = 0
        self._travelling: int | None = None
        # Not broadcast_optimizer_state: it fills an empty state by a step without gradients, which decays the weights
        # and leaves AdamW's step count at one. The caller gives all ranks the same state instead.
        hvd.broadcast_parameters(model.state_dict(), root_rank=0)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradient of a batch's mean loss, a scalar, to this step's; the last call starts the transfer.

        A loss that is not finite makes the gradient NaN, so that all ranks see it in the averaged gradient, without an
        extra message.
        """
        loss.backward(torch.where(torch.isfinite(loss), 1 / self.accumulate, torch.nan))  # type: ignore[no-untyped-call]
        self._passes += 1
        if self._passes == self.accumulate:
            self._send_gradients()

    def step(self, learning_rate: float) -> None:
        """Do one optimizer step on the mean gradient of all batches and ranks, with its norm clipped.

        Raises:
            FloatingPointError: on all ranks, if a rank's loss or gradient is not finite; the weights do not change.
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
            # Another rank's batch may have used a parameter that this rank's did not.
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
            # Raises if a rank was lost.
            hvd.synchronize(self._travelling)
            self._travelling = None

    def optimizer_state(self) -> dict[str, torch.Tensor]:
        """Return the optimizer's tensors by `<number of the parameter>.<name>`."""
        state = self.optimizer.state_dict()["state"]
        return {f"{number}.{name}": value for number, of in state.items() for name, value in of.items()}

    def restore_optimizer(self, tensors: dict[str, torch.Tensor]) -> None:
        """Load tensors returned by `optimizer_state`."""
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            number, _, name = key.partition(".")
            state.setdefault(int(number), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def average_buffers(model: nn.Module) -> None:
    """Average the running statistics of batch normalisation over all ranks, so that all ranks score alike."""
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(hvd.allreduce(buffer, name=f"buffer.{name}"))


def mean_over_ranks(value: float, name: str) -> float:
    """Return the mean of a number over all ranks."""
    return float(hvd.allreduce(torch.tensor(value, dtype=torch.float64), name=name))


def gather(values: npt.NDArray[np.float64], name: str) -> npt.NDArray[np.float64]:
    """Concatenate all ranks' values, (n_rank, ...) each, in order of rank; n_rank may differ and be 0."""
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
    """Run a command on every rank with horovodrun over Gloo, and wait for all ranks.

    The ranks end with this process, even if it is killed, and also if an exception, such as a signal's, ends the wait.

    Args:
        command: program and arguments, the same on every rank.
        ranks: number of processes; with `elastic`, their number at the start.
        hosts: `host:slots,…`; None: all on this machine, or on the hosts that `elastic` finds.
        on_line: called with each line that a rank prints, without horovodrun's rank prefix.
        network_interfaces: interfaces for the ranks' communication, `eth0,…`; None: horovodrun finds them.
        elastic: the lowest and highest number of ranks, and how to find hosts.
        timeout_seconds: seconds that a rank may be silent before the others give up; None: Gloo's default, 30.

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
    # In a new session, Ctrl-C reaches only this process, which then ends the ranks.
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
    """Kill horovodrun, so that its child processes end the ranks; kill those that still run after _END_RANKS."""
    started = psutil.Process(horovodrun.pid).children(recursive=True)
    horovodrun.kill()
    _, alive = psutil.wait_procs(started, timeout=_END_RANKS)
    for process in alive:
        process.kill()
