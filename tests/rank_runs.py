"""Real Horovod ranks over Gloo, for tests: run a plan, hear its events, kill its ranks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from lbsf.training.distributed import launch
from lbsf.training.plan import TrainingPlan

RANK = Path(__file__).parents[1] / "jobs" / "train_rank.py"

Event = dict[str, Any]


def train(plan: TrainingPlan, on_event: Callable[[Event], None] = lambda event: None) -> tuple[int, list[Event]]:
    """Runs the plan's ranks; horovodrun's status and the events that ranks printed."""
    output = Path(plan.output)
    output.mkdir(parents=True, exist_ok=True)
    plan.save(output / "plan.json")
    events: list[Event] = []

    def on_line(line: str) -> None:
        if line.startswith("{"):
            events.append(json.loads(line))
            on_event(events[-1])
        else:
            # pytest shows it where a test fails.
            print(line)

    training = plan.training
    status = launch(
        [sys.executable, str(RANK), "--plan", str(output / "plan.json")],
        training.ranks,
        training.hosts,
        on_line,
        network_interfaces=training.network_interfaces,
        elastic=training.elastic,
        timeout_seconds=training.rank_timeout_seconds,
    )
    return status, events


def epochs(events: list[Event]) -> list[Event]:
    return [event for event in events if event["event"] == "epoch"]


def starts(events: list[Event]) -> list[Event]:
    return [event for event in events if event["event"] == "start"]


def ranks_of(plan: TrainingPlan) -> dict[int, psutil.Process]:
    """The running ranks of a plan, by rank."""
    command = [sys.executable, str(RANK), "--plan", str(Path(plan.output) / "plan.json")]
    mine = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == command]
    return {int(process.environ()["HOROVOD_RANK"]): process for process in mine}


class KillAt:
    """Kills ranks (SIGKILL) when one step of a run is reported, once."""

    def __init__(self, plan: TrainingPlan, epoch: int, step: int, ranks: tuple[int, ...]):
        self.plan, self.at, self.ranks = plan, (epoch, step), ranks
        self.running: dict[int, psutil.Process] = {}

    def __call__(self, event: Event) -> None:
        # Looked up in good time: the ranks do not wait.
        if event["event"] == "start" and not self.running:
            self.running = ranks_of(self.plan)
        if event["event"] == "step" and (event["epoch"], event["step"]) == self.at:
            for rank in self.ranks:
                self.running[rank].kill()
