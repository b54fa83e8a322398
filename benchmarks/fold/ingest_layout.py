"""Compare the time of ingest's first write by month and user bucket with one by day.

    .venv/bin/python -m benchmarks.fold.ingest_layout --payments 5000000 --repeat 3

Both write the same, already deduplicated rows through the warehouse. They differ in the shuffle's key, the
sort and the number of files. Prints Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.fold.dataset import dataset
from benchmarks.fold.payments import Shape
from lbsf.config import load_config
from lbsf.schemas import PAYMENTS
from lbsf.session import get_spark
from lbsf.tables import Warehouse

BY_DAY = dataclasses.replace(PAYMENTS, name="payments_by_day", partition_by=("paid_on",), sorted_by=())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--payments", type=int, default=5_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/lbsf-bench"))
    arguments = parser.parse_args(argv)
    data = dataset(arguments.scratch / f"payments-{arguments.payments}-even", arguments.payments, Shape())
    root = arguments.scratch / "layout"
    config = load_config("conf/local.yaml", [f"storage.root={root}", f"storage.user_buckets={data.buckets}"])
    spark = get_spark(config.spark)
    warehouse = Warehouse(spark, config.storage)
    rows = spark.read.format("delta").load(str(data.root / "first" / "tables" / PAYMENTS.name)).repartition(8)
    seconds: dict[str, list[float]] = {PAYMENTS.name: [], BY_DAY.name: []}
    written = {}
    for round_ in range(arguments.repeat + 1):
        for table in (BY_DAY, PAYMENTS):
            shutil.rmtree(root, ignore_errors=True)
            started = time.monotonic()
            warehouse.insert_new(table, rows, table.key)
            if round_:  # The first round warms the JVM.
                seconds[table.name].append(time.monotonic() - started)
            files = warehouse.data_files(table, 0)
            written[table.name] = (len(files), sum(Path(file.path).stat().st_size for file in files))
    shutil.rmtree(root, ignore_errors=True)
    print(f"\n{data.payments:,} payments, {arguments.repeat} rounds\n")
    print("| layout | seconds | times by day | files | MB |\n|---|---:|---:|---:|---:|")
    by_day = statistics.median(seconds[BY_DAY.name])
    for name, label in ((BY_DAY.name, "by day"), (PAYMENTS.name, "by month and user bucket, sorted")):
        files_, size = written[name]
        median = statistics.median(seconds[name])
        print(f"| {label} | {median:.1f} | {median / by_day:.2f} | {files_} | {size / 1e6:.0f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
