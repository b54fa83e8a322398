"""The contenders, by part and name. `python -m benchmarks.train.contenders TASK.json` runs one of them.

Each computes with one thread (`two_ranks` and `two_runs_apart`: one per rank) and reads the examples of
benchmarks.train.dataset.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.train.dataset import Dataset

BATCH_USERS = 32


@dataclass(frozen=True)
class Task:
    """One run.

    Attributes:
        part: a key of CONTENDERS.
        contender: a key of CONTENDERS[part].
        data: folder of the examples.
        per_user: their median payments per user.
        users: users in their training split.
        epochs: epochs of the parts `lifestream` and `ranks`.
        output: folder that the contender may write to.
    """

    part: str
    contender: str
    data: str
    per_user: int
    users: int
    epochs: int
    output: str

    @property
    def dataset(self) -> Dataset:
        """Return the examples."""
        return Dataset(Path(self.data), self.per_user, self.users)


def _ranks(ranks: int) -> Callable[[Task], dict[str, Any]]:
    def run(task: Task) -> dict[str, Any]:
        from benchmarks.train.ranks import train

        return _with_seconds(train(task.dataset, ranks, task.epochs, Path(task.output) / "run"))

    return run


def _apart(task: Task) -> dict[str, Any]:
    """Train two runs of one rank at the same time; return figures as if each had trained on half the users."""
    from benchmarks.train.ranks import train

    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda name: train(task.dataset, 1, task.epochs, Path(task.output) / name), "ab"))
    seconds = [sum(pair) / 4 for pair in zip(*(run["epoch_seconds"] for run in runs), strict=True)]
    speed = sum(run["payments_per_second"] for run in runs)
    return _with_seconds({**runs[0], "epoch_seconds": seconds, "payments_per_second": speed})


def _lifestream(task: Task) -> dict[str, Any]:
    from benchmarks.train.lifestream import train
    from benchmarks.train.steps import folds_of
    from lbsf.config import load_config

    config, data = load_config("conf/base.yaml"), task.dataset
    splits = {name: folds_of(data.files(name), data.users_of(name)) for name in ("train", "validation", "test")}
    training = config.training.model_copy(update={"epochs": task.epochs})
    return _with_seconds(train(splits, config.model, config.fold, training))


def _steps(network: str) -> Callable[[Task], dict[str, Any]]:
    def run(task: Task) -> dict[str, Any]:
        from benchmarks.train.steps import folds_of, timed_steps

        data = task.dataset
        return timed_steps(network, folds_of(data.files("train"), data.users), BATCH_USERS)

    return run


def _read(reader: str) -> Callable[[Task], dict[str, Any]]:
    def run(task: Task) -> dict[str, Any]:
        import pyarrow as pa

        from benchmarks.train import readers

        pa.set_cpu_count(1)
        files = task.dataset.files("train")
        if reader == "row_reader":
            copy = Path(task.output) / "rows"
            readers.write_rows(files, copy)
            return readers.timed_passes(lambda: readers.rows(copy))
        read = readers.arrow if reader == "arrow" else readers.packed
        return readers.timed_passes(lambda: read(files))

    return run


# The first contender of each part is ours; the others are compared with it.
CONTENDERS: dict[str, dict[str, Callable[[Task], dict[str, Any]]]] = {
    "lifestream": {"ours": _ranks(1), "lifestream": _lifestream},
    "padding": {"ours": _steps("lbsf"), "padded": _steps("padded")},
    "loading": {"ours": _read("packed"), "arrow": _read("arrow"), "row_reader": _read("row_reader")},
    "history": {"ours": _steps("lbsf"), "transformer": _steps("transformer")},
    "ranks": {"one_rank": _ranks(1), "two_ranks": _ranks(2), "two_runs_apart": _apart},
}


def _with_seconds(figures: dict[str, Any]) -> dict[str, Any]:
    """Add the seconds of the fastest epoch, as the first one includes warm-up and other programs may slow down any."""
    return {**figures, "seconds": min(figures["epoch_seconds"])}


def run(task: Task) -> dict[str, Any]:
    """Run a contender with one thread; return its figures."""
    import torch

    torch.set_num_threads(1)
    return CONTENDERS[task.part][task.contender](task)


def write_task(task: Task, path: Path) -> None:
    """Write a task to a file, for another process."""
    path.write_text(json.dumps(asdict(task)), encoding="utf-8")


def main() -> None:
    """Run the task in a file and write result.json beside it."""
    path = Path(sys.argv[1])
    figures = run(Task(**json.loads(path.read_text(encoding="utf-8"))))
    path.with_name("result.json").write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
