"""Compare the fold with other ways to fold: time and memory, with a check that all write the same content.

    make bench-fold ARGS="--payments 10000000 50000000"
    python -m benchmarks.fold --payments 2000000 --repeat 3
    python -m benchmarks.fold --payments 50000000 --skew

Each contender runs in its own process. Contenders run alternately, and the folds of each are compared with the
generated payments. Results are appended to --out as JSON lines; `python -m benchmarks.fold.report`
writes them into docs/benchmarks.md. Random data are kept under --scratch for the next run.
"""

from __future__ import annotations

import argparse
import fcntl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from benchmarks.fold.contenders import CONTENDERS
from benchmarks.fold.dataset import dataset
from benchmarks.fold.payments import Shape
from benchmarks.fold.report import tables
from benchmarks.fold.runs import Bench, in_own_process
from benchmarks.harness.machine import machine, memory_bytes
from benchmarks.harness.processes import Limits
from benchmarks.harness.results import append

PACKAGES = ("pyspark", "delta-spark", "polars", "duckdb", "pyarrow", "numpy")
MOST_PAYMENTS = 1_000_000_000
HEAVY_USER = 5_000_000
VARIANTS = ("even", "heavy user", "shared merchant")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 if a contender failed for a reason other than a limit."""
    arguments = _parser().parse_args(argv)
    contenders = ["ours"] if arguments.skew else arguments.contenders
    variants = VARIANTS if arguments.skew else VARIANTS[:1]
    limits = Limits(arguments.limit_seconds, int(arguments.memory_gib * 2**30))
    lock = _exclusive_lock(arguments.scratch)
    benchmark = "skew" if arguments.skew else "contenders"
    common = {"benchmark": benchmark, "run": datetime.now(UTC).isoformat(timespec="seconds"), **machine(*PACKAGES)}
    records = []
    for payments in arguments.payments:
        benches = {name: _bench(name, payments, arguments, limits, contenders) for name in variants}
        for _ in range(arguments.repeat):
            for variant, bench in benches.items():
                for name in contenders:
                    record = {**common, "size": payments, **_of_data(bench, variant), **bench.measure(name)}
                    records.append(record)
                    append(arguments.out, record, f"{variant}, {name}")
        for bench in benches.values():
            bench.close()
    lock.close()
    print(tables(records))
    return int(any(record["status"] == "failed" for record in records))


def _exclusive_lock(scratch: Path) -> TextIO:
    """Lock the folder against a second benchmark, which would remove this one's files.

    Raises:
        SystemExit: another benchmark holds the lock.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    lock = (scratch / "lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"{scratch}: another benchmark runs there: wait for it, or use another --scratch") from None
    return lock


def _bench(variant: str, payments: int, arguments: argparse.Namespace, limits: Limits, contenders: list[str]) -> Bench:
    shape = Shape(
        per_user=arguments.per_user,
        days=arguments.days,
        heavy_user_payments=min(HEAVY_USER, payments // 5) if variant == "heavy user" else 0,
        shared_merchant=variant == "shared merchant",
    )
    root = arguments.scratch / f"payments-{payments}-{variant.replace(' ', '-')}"
    data = dataset(root, payments, shape, arguments.buckets)
    nights = any(CONTENDERS[name].of_night for name in contenders)
    bench = Bench(data, arguments.scratch, in_own_process(limits), nights)
    bench.close()  # removes folds that an interrupted run left
    return bench


def _of_data(bench: Bench, variant: str) -> dict[str, Any]:
    data = bench.data
    users = data.expected[data.last_day].users
    return {"variant": variant, "payments": data.payments, "night": data.night, "users": users, "buckets": data.buckets}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--payments", type=_payments, nargs="+", default=[2_000_000], metavar="N", help="sizes (default: 2000000)")
    add("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS), help="default: all")
    add("--repeat", type=int, default=1, help="rounds, in each of which every contender runs once")
    add("--skew", action="store_true", help="ours alone, on even data, with one heavy user, and with a shared merchant")
    add("--per-user", type=float, default=100.0, help="mean payments per user in 180 days (default: %(default)s)")
    add(
        "--days", type=_days, default=181, help="days of data; the last is a delivery of its own (default: %(default)s)"
    )
    add("--buckets", type=int, help="storage.user_buckets; default: about 1.5 million payments each")
    add("--limit-seconds", type=float, default=3600, help="time limit of one run (default: %(default)s)")
    add(
        "--memory-gib",
        type=float,
        default=round(memory_bytes() * 0.8 / 2**30, 1),
        help="memory limit of one run (default: %(default)s)",
    )
    add("--scratch", type=Path, default=Path("/tmp/lbsf-bench"), help="folder for data (default: %(default)s)")
    add("--out", type=Path, default=Path("docs/benchmarks/fold.jsonl"), help="results (default: %(default)s)")
    return parser


def _payments(text: str) -> int:
    return _between(text, 1_000, MOST_PAYMENTS)


def _days(text: str) -> int:
    # The checksum's sort key has room for the seconds of one year.
    return _between(text, 60, 365)


def _between(text: str, low: int, high: int) -> int:
    number = int(text.replace("_", ""))
    if not low <= number <= high:
        raise argparse.ArgumentTypeError(f"{number:,} is not from {low:,} to {high:,}")
    return number


if __name__ == "__main__":
    raise SystemExit(main())
