"""Start the ranks of a training run, show their progress and log each epoch."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from tqdm import tqdm

from lbsf.errors import InputError

if TYPE_CHECKING:
    from lbsf.tracking import Run
    from lbsf.training.plan import TrainingPlan


def train_on_ranks(plan: TrainingPlan, tracked: Run) -> None:
    """Run the ranks, show their progress and log each epoch."""
    from lbsf.training.distributed import launch
    from lbsf.training.run_folder import RunFolder

    path = RunFolder.of(plan).plan_file
    plan.save(path)
    errors: list[str] = []
    other_lines: list[str] = []
    with tqdm(total=plan.steps_per_epoch * plan.training.epochs, desc="train", unit="step", disable=None) as bar:

        def on_line(line: str) -> None:
            try:
                event = json.loads(line)
                kind = event.pop("event")
            except (ValueError, KeyError, AttributeError):
                other_lines.append(line)
                return
            if kind == "start":
                bar.total = event["steps_per_epoch"] * plan.training.epochs
                done = event["steps_per_epoch"] * event["epoch"] + event["step"]
                bar.update(done - bar.n)
                # Not bar.n, because a bar that is not shown does not count.
                if done:
                    bar.write(
                        f"  goes on in epoch {event['epoch'] + 1} after step {event['step']}, {event['ranks']} ranks"
                    )
            elif kind == "step":
                bar.update(1)
                bar.set_postfix(epoch=event["epoch"] + 1, loss=f"{event['loss']:.4f}")
            elif kind == "epoch":
                epoch, best = event.pop("epoch"), event.pop("best")
                tracked.metrics(event, step=epoch)
                bar.write(_epoch_line(epoch, best, event))
            elif kind == "error":
                errors.append(event["message"])

        command = [sys.executable, "-m", "jobs.train_rank", "--plan", str(path)]
        training = plan.training
        status = launch(
            command,
            training.ranks,
            training.hosts,
            on_line,
            network_interfaces=training.network_interfaces,
            elastic=training.elastic,
            timeout_seconds=training.rank_timeout_seconds,
        )
    # An elastic run can succeed without a rank that could not start.
    if status and errors:
        raise InputError(errors[0])
    # Gloo prints this message itself; the ranks cannot catch it.
    if status and any("Timed out waiting" in line for line in other_lines):
        raise InputError(
            f"a rank was silent for {plan.training.rank_timeout_seconds} s (training.rank_timeout_seconds), so the "
            "others gave the run up: see whether a host hangs or swaps, or allow more; the same command goes on from "
            "the last checkpoint"
        )
    if status:
        raise RuntimeError(f"training ended with status {status}:\n" + "\n".join(other_lines[-40:]))


def _epoch_line(epoch: int, best: bool, metrics: dict[str, float]) -> str:
    quality = (
        f"validation AUC {metrics['validation.auc']:.4f}  KS {metrics['validation.ks']:.3f}"
        if "validation.auc" in metrics
        else f"validation loss {metrics['validation.loss']:.4f}"
    )
    return (
        f"  epoch {epoch + 1:<3} loss {metrics['train.loss']:.4f}  {quality}  "
        f"{metrics['payments_per_second']:,.0f} payments/s  "
        f"data wait {metrics['data_wait_share']:.1%}{'  best' if best else ''}"
    )
