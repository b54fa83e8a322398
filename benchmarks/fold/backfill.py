"""Compare three ways to fold many as-of days: in one pass, incrementally day by day, and each as a full fold.

    .venv/bin/python -m benchmarks.fold.backfill --payments 10000000 --days 8 --repeat 3

All three must write the same folds, which is checked. The days are consecutive and end with the data. Prints Markdown.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

from benchmarks.fold.checksum import checksum_of_folds
from benchmarks.fold.contenders import CAPS, SPARK_MEMORY
from benchmarks.fold.dataset import WINDOW_DAYS, Dataset, dataset
from benchmarks.fold.payments import Shape
from lbsf.config import load_config
from lbsf.schemas import FOLDS, PAYMENTS
from lbsf.session import get_spark
from lbsf.tables import Warehouse, fold_files


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--payments", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=8, help="as-of days (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/lbsf-bench"))
    arguments = parser.parse_args(argv)
    data = dataset(arguments.scratch / f"payments-{arguments.payments}-even", arguments.payments, Shape())
    days = [data.last_day - timedelta(days=back) for back in reversed(range(arguments.days))]
    warehouse, ways = _ways(arguments.scratch / "backfill", data, days)
    folds = Path(warehouse.location(FOLDS))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for round_ in range(arguments.repeat + 1):
        for name, fold in ways.items():
            shutil.rmtree(folds, ignore_errors=True)
            started = time.monotonic()
            fold()
            if round_:  # The first round warms the JVM and the operating system's cache.
                seconds[name].append(time.monotonic() - started)
            found[name] = _checksums(warehouse, days)
    shutil.rmtree(arguments.scratch / "backfill")
    if len(set(found.values())) != 1 or found["one pass"][-1] != str(data.expected[data.last_day]):
        raise SystemExit(f"the folds differ: {found}; expected for the last day: {data.expected[data.last_day]}")
    print(f"\n{data.payments:,} payments, {len(days)} days, {arguments.repeat} round(s)\n")
    print("| way | seconds | times one pass |\n|---|---:|---:|")
    base = statistics.median(seconds["one pass"])
    for name, times in seconds.items():
        print(f"| {name} | {statistics.median(times):.1f} | {statistics.median(times) / base:.2f} |")
    return 0


def _ways(root: Path, data: Dataset, days: list[date]) -> tuple[Warehouse, dict[str, Callable[[], object]]]:
    shutil.rmtree(root, ignore_errors=True)
    (root / "tables").mkdir(parents=True)
    payments = data.root / "first" / "tables" / PAYMENTS.name
    (root / "tables" / PAYMENTS.name).symlink_to(payments, target_is_directory=True)
    settings = (
        f"storage.root={root}",
        f"storage.user_buckets={data.buckets}",
        f"spark.driver_memory={SPARK_MEMORY}",
        f"fold.window_days={WINDOW_DAYS}",
        "fold.row_group_users=2048",
        *CAPS,
    )
    config = load_config("conf/local.yaml", settings)
    warehouse = Warehouse(get_spark(config.spark), config.storage)
    version = warehouse.version(PAYMENTS)

    def fold(of: Sequence[date], full: bool) -> None:
        fold_files(warehouse, list(of), config.fold, version, full=full)

    def fold_each(full: bool) -> None:
        for day in days:
            fold([day], full)

    return warehouse, {
        "one pass": lambda: fold(days, True),
        "night after night": lambda: fold_each(False),
        "each by itself": lambda: fold_each(True),
    }


def _checksums(warehouse: Warehouse, days: Sequence[date]) -> tuple[str, ...]:
    stored = warehouse.data_files(FOLDS, warehouse.version(FOLDS))
    return tuple(
        str(checksum_of_folds([Path(file.path) for file in stored if file.partition["as_of"] == day.isoformat()]))
        for day in days
    )


if __name__ == "__main__":
    raise SystemExit(main())
