"""Compare the time of training with pytorch-lifestream, padding, other readers, full attention, and one rank.

    make bench-train
    make bench-train ARGS="--parts loading ranks --repeat 3"
    python -m benchmarks.train --profile

Each contender runs in its own process and computes with one thread; the contenders of a part run alternately.
Results are appended to --out as JSON lines; `python -m benchmarks.train.report` writes them into docs/benchmarks.md.
Random data are kept under --scratch for the next run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness.machine import PROJECT, machine, memory_bytes
from benchmarks.harness.processes import Limits, watch
from benchmarks.harness.results import append
from benchmarks.train.contenders import CONTENDERS, Task, write_task
from benchmarks.train.dataset import Dataset, dataset
from benchmarks.train.report import tables

PACKAGES = ("torch", "petastorm", "horovod", "pyarrow", "numpy", "pytorch-lifestream", "pytorch-lightning")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if a contender failed for a reason other than a limit."""
    arguments = _parser().parse_args(argv)
    shortest = min(arguments.per_user)
    if arguments.profile:
        from benchmarks.train.profile import top_operators

        print(top_operators(dataset(arguments.scratch, shortest, arguments.history_users)))
        return 0
    limits = Limits(arguments.limit_seconds, int(arguments.memory_gib * 2**30))
    common = {**machine(*PACKAGES), "run": datetime.now(UTC).isoformat(timespec="seconds")}
    records = []
    for part in arguments.parts:
        for per_user in arguments.per_user if part == "history" else [shortest]:
            users = arguments.history_users if part in ("history", "padding") else arguments.users
            data = dataset(arguments.scratch, per_user, users)
            for contender in list(CONTENDERS[part]) * arguments.repeat:
                figures = measure(part, contender, data, arguments.epochs, limits)
                record = {**common, "part": part, "contender": contender, "per_user": per_user, **figures}
                records.append(record)
                append(arguments.out, record, f"{part}, {per_user} a user, {contender}")
    print(tables(records))
    return int(any(record["status"] == "failed" for record in records))


def measure(part: str, contender: str, data: Dataset, epochs: int, limits: Limits) -> dict[str, Any]:
    """Run a contender in its own process; return its status, and its figures if it was successful."""
    folder = data.root.parent / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    task = Task(part, contender, str(data.root), data.per_user, data.users, epochs, str(folder))
    write_task(task, folder / "task.json")
    # One thread, also in libraries that otherwise start one per core.
    env = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "benchmarks.train.contenders", str(folder / "task.json")]
    log, load = folder / "log.txt", os.getloadavg()[0]
    watched = watch(command, temp=folder, log=log, env=env, cwd=PROJECT, limits=limits)
    record = {"users": data.users, "status": watched.status, "peak_memory": watched.peak_memory, "load_before": load}
    if watched.status == "ok":
        record |= json.loads((folder / "result.json").read_text(encoding="utf-8"))
    elif watched.status == "failed":
        print(log.read_text(encoding="utf-8", errors="replace")[-3000:], file=sys.stderr)
    shutil.rmtree(folder)
    return record


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--parts", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS), help="parts to run (default: all)")
    add(
        "--per-user",
        type=_payments,
        nargs="+",
        default=[250, 500, 1000, 2000],
        metavar="N",
        help="median payments per user: `history` runs all, other parts the smallest (default: 250 500 1000 2000)",
    )
    add("--users", type=int, default=4096, help="users of the training split (default: %(default)s)")
    add("--history-users", type=int, default=256, help="users for `history` and `padding` (default: %(default)s)")
    add("--epochs", type=int, default=3, help="epochs of `lifestream` and `ranks` (default: %(default)s)")
    add("--repeat", type=int, default=1, help="rounds, in each of which every contender of a part runs once")
    add("--profile", action="store_true", help="print the top operators of a training step, and nothing else")
    add("--limit-seconds", type=float, default=600, help="time limit of one run (default: %(default)s)")
    add(
        "--memory-gib",
        type=float,
        default=round(memory_bytes() * 0.8 / 2**30, 1),
        help="memory limit of one run (default: %(default)s)",
    )
    add("--scratch", type=Path, default=Path("/tmp/lbsf-bench-train"), help="folder for data (default: %(default)s)")
    add("--out", type=Path, default=Path("docs/benchmarks/train.jsonl"), help="results (default: %(default)s)")
    return parser


def _payments(text: str) -> int:
    number = int(text.replace("_", ""))
    if not 10 <= number <= 4_000:
        raise argparse.ArgumentTypeError(f"{number:,} is not from 10 to 4,000")
    return number


if __name__ == "__main__":
    raise SystemExit(main())
