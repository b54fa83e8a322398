"""Runs that are killed: taken up again from a checkpoint, or gone on with by the ranks that are left."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from example_files import training_plan
from rank_runs import Event, KillAt, epochs, starts, train
from sklearn.metrics import roc_auc_score

from jobs.ranks import train_on_ranks
from lbsf.errors import InputError
from lbsf.training.checkpoint import load_checkpoint
from lbsf.training.distributed import launch
from lbsf.training.plan import TrainingPlan


def saved(plan: TrainingPlan, split: str) -> dict[str, npt.NDArray[Any]]:
    with np.load(Path(plan.output) / f"{split}.npz", allow_pickle=False) as columns:
        return dict(columns)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingPlan, list[Event]]:
    # Ten steps an epoch, checkpoints after 4 and 8 of them and after the epoch.
    plan = training_plan(tmp_path_factory.mktemp("run"), users=320, ranks=2, epochs=3, checkpoint_steps=4)
    status, events = train(plan)
    assert status == 0, events
    return plan, events


def test_a_killed_run_goes_on_to_the_same_result(
    uninterrupted: tuple[TrainingPlan, list[Event]], tmp_path: Path
) -> None:
    plan, events = uninterrupted
    killed = plan.model_copy(update={"output": str(tmp_path / "killed")})
    status, first = train(killed, KillAt(killed, epoch=1, step=5, ranks=(0, 1)))
    assert status != 0
    assert len(epochs(first)) == 1
    status, second = train(killed)
    assert status == 0, second
    # The ranks ran on by a step or two before they were dead.
    (start,) = starts(second)
    assert (start["epoch"], start["step"]) in ((1, 4), (1, 8))
    for expected, found in zip(epochs(events), [*epochs(first), *epochs(second)], strict=True):
        for name in ("epoch", "best", "train.loss", "validation.auc", "validation.brier"):
            assert found[name] == pytest.approx(expected[name], rel=1e-6), name
    for split in ("validation", "out_of_time"):
        for name, values in saved(plan, split).items():
            np.testing.assert_allclose(saved(killed, split)[name], values, rtol=1e-6)


def test_a_finished_run_that_is_started_again_only_predicts(uninterrupted: tuple[TrainingPlan, list[Event]]) -> None:
    plan, _ = uninterrupted
    before = saved(plan, "out_of_time")
    status, events = train(plan)
    assert status == 0
    assert [event["event"] for event in events] == ["start"]
    np.testing.assert_array_equal(saved(plan, "out_of_time")["probability"], before["probability"])


def test_a_checkpoint_of_another_network_stops_all_ranks(
    uninterrupted: tuple[TrainingPlan, list[Event]],
) -> None:
    plan, _ = uninterrupted
    wider = plan.model_copy(update={"model": plan.model.model_copy(update={"width": 32})})
    status, events = train(wider)
    assert status != 0
    (message,) = {event["message"] for event in events}
    assert "a checkpoint of another run (model.width is 16 there, 32 here)" in message


def test_an_elastic_run_outlives_a_rank(tmp_path: Path) -> None:
    # A failed process bars its whole host; this machine goes by two names, so one of them is left.
    hosts = tmp_path / "hosts.sh"
    hosts.write_text("#!/bin/sh\necho localhost:1\necho 127.0.0.1:1\n", encoding="utf-8")
    hosts.chmod(0o755)
    plan = training_plan(
        tmp_path,
        users=320,
        ranks=2,
        epochs=3,
        checkpoint_steps=4,
        network_interfaces="lo",
        elastic={"min_ranks": 1, "max_ranks": 2, "discovery_script": str(hosts)},
    )
    status, events = train(plan, KillAt(plan, epoch=1, step=5, ranks=(1,)))
    assert status == 0, events
    begun, again = starts(events)
    assert (begun["ranks"], begun["steps_per_epoch"]) == (2, 10)
    # The last checkpoint, and what is left of the epoch in steps of one rank.
    assert (again["ranks"], again["steps_per_epoch"]) == (1, 20)
    assert again["epoch"] == 1
    assert again["step"] in (8, 16)
    assert [event["epoch"] for event in epochs(events)] == [0, 1, 2]
    after = [event["step"] for event in events[events.index(again) :] if event["event"] == "step"]
    assert after == [*range(again["step"] + 1, 21), *range(1, 21)]
    columns = saved(plan, "out_of_time")
    assert len(columns["label"]) == plan.splits["out_of_time"].users
    assert roc_auc_score(columns["label"], columns["probability"]) > 0.75


def our_ranks() -> dict[int, psutil.Process]:
    """The running ranks that train_on_ranks started, by rank."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        # Short-lived processes of horovodrun may end meanwhile.
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if child.cmdline()[1:3] == ["-m", "jobs.train_rank"]:
                found[int(child.environ()["HOROVOD_RANK"])] = child
    return found


class PausesARank:
    """Hears of each epoch in the run's place, and stops rank 1 (SIGSTOP) after the first one."""

    def metrics(self, values: dict[str, float], step: int) -> None:
        if step == 0:
            our_ranks()[1].suspend()


def test_a_rank_that_is_silent_for_too_long_ends_the_run_in_one_line(tmp_path: Path) -> None:
    plan = training_plan(tmp_path, users=64, ranks=2, epochs=3, rank_timeout_seconds=2)
    Path(plan.output).mkdir()
    with pytest.raises(InputError, match=r"^a rank was silent for 2 s \(training.rank_timeout_seconds\)") as refused:
        train_on_ranks(plan, PausesARank())  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    # The checkpoint to go on from, and nobody who is still stopped.
    assert load_checkpoint(Path(plan.output), plan) is not None
    assert our_ranks() == {}


def test_the_limit_of_a_silence_reaches_all_ranks() -> None:
    lines: list[str] = []
    told = ["bash", "-c", "echo limit $HOROVOD_GLOO_TIMEOUT_SECONDS"]
    assert launch(told, 2, None, lines.append, timeout_seconds=77) == 0
    assert [line for line in lines if line.startswith("limit")] == ["limit 77"] * 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_ranks_end_with_the_job_that_started_them(number: signal.Signals) -> None:
    forever = "print('here', flush=True); import threading; threading.Event().wait()"
    script = (
        "import sys; from lbsf.training.distributed import launch; "
        f"launch([sys.executable, '-c', {forever!r}], 2, None, lambda line: print(line, flush=True))"
    )
    job = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert job.stdout is not None
    try:
        assert [job.stdout.readline(), job.stdout.readline()] == ["here\n", "here\n"]
        started = psutil.Process(job.pid).children(recursive=True)
        assert len(started) >= 3  # horovodrun and two ranks
        job.send_signal(number)
        job.wait(timeout=30)
    finally:
        job.kill()
        job.wait()
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []
