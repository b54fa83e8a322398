"""The contenders. Each reads the same Parquet files and writes folds with the same content.

A contender is first prepared (imports, session, connection), then timed. `python -m
benchmarks.fold.contenders TASK.json` runs one of them in its own process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from benchmarks.fold.dataset import WINDOW_DAYS

if TYPE_CHECKING:
    from jobs.common import Job

PROJECT = Path(__file__).resolve().parents[2]
CORES = 2
SPARK_MEMORY = "8g"
DUCKDB_MEMORY = "12GB"
# So high that nothing is dropped, as the other contenders have no caps.
CAPS = ("fold.max_merchants=1000000", "fold.max_payments_per_merchant=1000000000")
PAIR = ("user_id", "merchant_id")
# The fields of a payment that are written; payment_id is read to order ties.
FIELDS = ("paid_at", "amount", "category", "channel", "description")


@dataclass(frozen=True)
class Task:
    """One run.

    Attributes:
        contender: name in CONTENDERS.
        warehouse: storage.root with the payments table; our contenders write the folds there too.
        out: folder for the files of the other contenders.
        temp: folder for temporary files.
        as_of: as_of of the folds, YYYY-MM-DD.
        buckets: storage.user_buckets.
    """

    contender: str
    warehouse: str
    out: str
    temp: str
    as_of: str
    buckets: int

    @property
    def end(self) -> datetime:
        """Return the end of the window, exclusive."""
        return datetime.fromisoformat(f"{self.as_of}T00:00:00+00:00")

    @property
    def begin(self) -> datetime:
        """Return the begin of the window."""
        return self.end - timedelta(days=WINDOW_DAYS)

    def payment_files(self) -> list[str]:
        """Return the paths of the payments table's Parquet files."""
        from lbsf.tables.log import snapshot_files

        return [file.path for file in snapshot_files(f"{self.warehouse}/tables/payments")]


def textbook_spark(task: Task) -> Callable[[], object]:
    """Prepare Spark as in a textbook: two groupings, with lists of structs sorted by Spark."""
    from pyspark.sql import functions as F

    spark = _job(task, "spark.shuffle_partitions=200").spark
    payment = F.struct("paid_at", "payment_id", "amount", "category", "channel", "merchant_name", "description")

    def fold() -> None:
        payments = spark.read.format("delta").load(f"{task.warehouse}/tables/payments")
        inside = (F.col("paid_on") >= F.lit(task.begin.date())) & (F.col("paid_on") < F.lit(task.end.date()))
        merchants = payments.where(inside).groupBy(*PAIR).agg(F.sort_array(F.collect_list(payment)).alias("payments"))
        folds = merchants.groupBy("user_id").agg(F.collect_list(F.struct("merchant_id", "payments")).alias("merchants"))
        folds.write.format("delta").save(task.out)

    return fold


def duckdb(task: Task) -> Callable[[], object]:
    """Prepare DuckDB: an ordered list of ordered lists; it spills to disk if memory is too small."""
    import duckdb as engine

    connection = engine.connect(
        config={"threads": CORES, "memory_limit": DUCKDB_MEMORY, "temp_directory": f"{task.temp}/duckdb"}
    )
    connection.execute("SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
    payment = ", ".join(f"{name}: {name}" for name in (*FIELDS, "merchant_name"))
    # A path cannot be a parameter of COPY; these are the benchmark's own.
    query = f"""
        COPY (
            SELECT user_id, list({{merchant_id: merchant_id, payments: payments}} ORDER BY merchant_id) AS merchants
            FROM (
                SELECT user_id, merchant_id, list({{{payment}}} ORDER BY paid_at, payment_id) AS payments
                FROM read_parquet($files, hive_partitioning = false)
                WHERE paid_at >= $begin AND paid_at < $end
                GROUP BY user_id, merchant_id
            )
            GROUP BY user_id
        ) TO '{task.out}/folds.parquet' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE 20480)
    """  # noqa: S608

    def fold() -> None:
        files = task.payment_files()
        connection.execute(query, {"files": files, "begin": task.begin, "end": task.end})

    return fold


def polars(task: Task) -> Callable[[], object]:
    """Prepare Polars, all in memory: one sort, then groups that keep its order."""
    import polars as pl

    def fold() -> None:
        columns = [*PAIR, *FIELDS, "payment_id", "merchant_name"]
        payments = pl.scan_parquet(task.payment_files(), hive_partitioning=False).select(columns)
        inside = (pl.col("paid_at") >= task.begin) & (pl.col("paid_at") < task.end)
        merchants = (
            payments.filter(inside)
            .sort(*PAIR, "paid_at", "payment_id")
            .group_by(PAIR, maintain_order=True)
            .agg(pl.col("merchant_name").last(), pl.struct(FIELDS).alias("payments"))
        )
        folds = merchants.group_by("user_id", maintain_order=True).agg(
            pl.struct("merchant_id", "merchant_name", "payments").alias("merchants")
        )
        folds.sink_parquet(f"{task.out}/folds.parquet", compression="zstd", compression_level=1, row_group_size=20_480)

    return fold


def ours(task: Task) -> Callable[[], object]:
    """Prepare a full fold by the product's job."""
    return _fold_job(task, full=True)


def ours_through_spark(task: Task) -> Callable[[], object]:
    """Prepare a full fold by the product's job with fold.through_spark, for storage that tasks cannot read as files."""
    return _fold_job(task, "fold.through_spark=true", full=True)


def ours_incremental(task: Task) -> Callable[[], object]:
    """Prepare the incremental fold of the next night by the product's job."""
    return _fold_job(task, full=False)


def rewrite_folds(task: Task) -> Callable[[], object]:
    """Prepare to read and write last night's folds: the lower limit for any fold that stores all users each night."""
    from lbsf.tables.log import snapshot_files

    context = _job(task).warehouse.spark.sparkContext

    def rewrite() -> None:
        files = [(file.path, task, file.partition["user_bucket"]) for file in snapshot_files(folds_root(task))]
        context.parallelize(files, len(files)).foreach(_rewrite)

    return rewrite


class Contender(NamedTuple):
    """One way to fold.

    Attributes:
        prepare: prepares a task and returns the function that is timed.
        ours: whether it writes the layout of the folds table; otherwise nested lists.
        of_night: whether it reads last night's folds.
        next_day: whether its as_of is a day later.
    """

    prepare: Callable[[Task], Callable[[], object]]
    ours: bool = False
    of_night: bool = False
    next_day: bool = False


CONTENDERS = {
    "textbook_spark": Contender(textbook_spark),
    "duckdb": Contender(duckdb),
    "polars": Contender(polars),
    "ours_through_spark": Contender(ours_through_spark, ours=True),
    "ours": Contender(ours, ours=True),
    "ours_incremental": Contender(ours_incremental, ours=True, of_night=True, next_day=True),
    "rewrite_folds": Contender(rewrite_folds, ours=True, of_night=True),
}


def folds_root(task: Task) -> str:
    """Return the path of our folds table."""
    return f"{task.warehouse}/tables/folds"


class Spent(NamedTuple):
    """The time of the run, without its preparation: wall time, and CPU time of the process and its children."""

    seconds: float
    cpu_seconds: float


def run(task: Task) -> Spent:
    """Prepare a contender, run and time it."""
    timed = CONTENDERS[task.contender].prepare(task)
    started, used = time.perf_counter(), _cpu_seconds()
    timed()
    return Spent(time.perf_counter() - started, _cpu_seconds() - used)


def _cpu_seconds() -> float:
    own = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in (own, *own.children(recursive=True)))


def _job(task: Task, *overrides: str) -> Job:
    """Create the product's job; its session is not started yet."""
    from jobs.common import Job
    from lbsf.config import load_config

    settings = (
        f"storage.root={task.warehouse}",
        f"storage.user_buckets={task.buckets}",
        f"spark.master=local[{CORES}]",
        f"spark.driver_memory={SPARK_MEMORY}",
        f"spark.settings={{spark.local.dir: {task.temp}}}",
        f"fold.window_days={WINDOW_DAYS}",
        "fold.row_group_users=2048",
        *CAPS,
        *overrides,
    )
    conf = str(PROJECT / "conf/local.yaml")
    return Job(load_config(conf, settings), conf, settings)


def _fold_job(task: Task, *overrides: str, full: bool) -> Callable[[], object]:
    from jobs.fold_payments import fold_through_spark
    from lbsf.schemas import PAYMENTS
    from lbsf.tables import fold_files

    job = _job(task, *overrides)
    warehouse, config, days = job.warehouse, job.config.fold, [date.fromisoformat(task.as_of)]

    def fold() -> None:
        version = warehouse.version(PAYMENTS)
        if config.through_spark:
            fold_through_spark(warehouse, days, config, version)
        else:
            fold_files(warehouse, days, config, version, full=full)

    return fold


def _rewrite(item: tuple[str, Task, str | None]) -> None:
    """Read and write one file in a Spark task, with the product's writer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lbsf.config import load_config
    from lbsf.tables import fold_task

    path, task, bucket = item
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    config = load_config(PROJECT / "conf/local.yaml", (*CAPS, "fold.row_group_users=2048")).fold
    as_of = date.fromisoformat(task.as_of)
    work = fold_task.FoldTask(task.out, "bench", int(bucket or 0), task.buckets, (), (as_of,), None, 1, config)
    folds = pq.read_table(path, use_threads=False, partitioning=None).drop(["payments_version"])
    # The writer expects folds with the column as_of.
    fold_task._write(work, as_of, folds.append_column("as_of", pa.nulls(folds.num_rows)), 0)


def main() -> None:
    """Run the task in a file, and write its times to result.json beside it."""
    path = Path(sys.argv[1])
    spent = run(Task(**json.loads(path.read_text(encoding="utf-8"))))
    path.with_name("result.json").write_text(json.dumps(spent._asdict()), encoding="utf-8")


def write_task(task: Task, path: Path) -> None:
    """Write a task to a file, for `main` in another process."""
    path.write_text(json.dumps(asdict(task)), encoding="utf-8")


if __name__ == "__main__":
    main()
