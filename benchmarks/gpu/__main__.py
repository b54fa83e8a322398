"""Measure training on a GPU: speed beside a CPU, waiting for data and for the host, and agreement with the CPU.

    make bench-gpu
    python -m benchmarks.gpu --parts steps --users 2048

Needs a machine with an NVIDIA GPU; without one it says so and ends. Results are appended to --out as JSON lines, with
the card's name; `python -m benchmarks.gpu.report` writes them into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.gpu import parts
from benchmarks.gpu.report import tables
from benchmarks.harness.machine import machine
from benchmarks.harness.results import Record, append_line
from benchmarks.train.dataset import Dataset, dataset

PACKAGES = ("torch", "petastorm", "horovod", "pyarrow", "numpy")
PARTS = {
    "agreement": parts.agreement,
    "steps": parts.steps,
    "profile": parts.kernels,
    "feed": parts.feed,
    "scoring": parts.scoring,
    "training": parts.training,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 2 without a GPU."""
    arguments = _parser().parse_args(argv)
    if not torch.cuda.is_available():
        print("benchmarks.gpu: torch sees no GPU on this machine", file=sys.stderr)
        return 2
    # As many threads as a rank has.
    torch.set_num_threads(1)
    records = measure(arguments.parts, dataset(arguments.scratch, arguments.per_user, arguments.users), arguments)
    print(tables(records))
    return 0


def measure(names: Sequence[str], data: Dataset, arguments: argparse.Namespace) -> list[Record]:
    """Run parts one after the other, and append what each contender gave to the results as soon as it is known."""
    common: Record = {**machine(*PACKAGES), "gpu": _card(), "run": datetime.now(UTC).isoformat(timespec="seconds")}
    common |= {"users": data.users, "per_user": data.per_user}
    records = []
    for name in names:
        for figures in PARTS[name](data, arguments.scratch):
            record = {**common, "part": name, **figures}
            records.append(record)
            append_line(arguments.out, record)
            print(json.dumps({"part": name, **figures}), flush=True)
    return records


def _card() -> str:
    """Return the card's name and driver."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    return lines[0].strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts to run (default: all)")
    add("--per-user", type=int, default=250, help="median payments per user (default: %(default)s)")
    add("--users", type=int, default=4096, help="users of the training split (default: %(default)s)")
    add("--scratch", type=Path, default=Path("/tmp/lbsf-bench-gpu"), help="folder for data (default: %(default)s)")
    add("--out", type=Path, default=Path("docs/benchmarks/gpu.jsonl"), help="results (default: %(default)s)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
