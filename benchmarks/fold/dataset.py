"""The benchmark's data: payments tables with ingest's layout, and the checksums of their folds.

Two warehouses share the files of all days but the last. `first` ends with them; in `second`, one more commit
delivers the last day, with a few late payments of the weeks before. A full fold is timed on the first,
the following incremental fold on the second. Two processes generate and write one bucket at a time each.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction
from numpy.typing import NDArray

from benchmarks.fold.checksum import Checksum, Sequences, text_hashes
from benchmarks.fold.payments import FIRST_DAY, MERCHANT_IDS, START_SECONDS, Drawn, Shape, draw, table_of, user_id
from lbsf.folding.hashing import user_bucket
from lbsf.schemas import PAYMENTS
from lbsf.tables.log import create_table

WINDOW_DAYS = 180
TABLE_PROPERTIES = {"delta.enableChangeDataFeed": "true", "delta.enableDeletionVectors": "false"}
PAYMENTS_A_BUCKET = 1_500_000
LATE_SHARE = 0.01  # of the last day's delivery
LATE_DAYS = 40  # maximum delay of a late payment
PROCESSES = 2
BYTES_A_PAYMENT = 22  # on disk, rounded up generously
_VERSION = 1  # of the generator: data of another version are generated again


class Dataset(NamedTuple):
    """Data on disk.

    Attributes:
        root: folder with the warehouses `first` and `second`.
        payments: number of payments in the first.
        night: number of payments in the second's last commit.
        buckets: storage.user_buckets.
        last_day: end of the first's days, exclusive: the as_of of full folds.
        expected: as_of -> checksum of the folds, computed from the generated payments.
        bytes: size of the first's files.
        seconds: time that generating and writing took.
    """

    root: Path
    payments: int
    night: int
    buckets: int
    last_day: date
    expected: dict[date, Checksum]
    bytes: int
    seconds: float

    @property
    def next_day(self) -> date:
        """Return the end of the second's days, exclusive."""
        return self.last_day + timedelta(days=1)


class _File(NamedTuple):
    path: str  # relative to the table
    month: date
    bucket: int
    rows: int
    size: int
    first: date
    last: date


@dataclass(frozen=True)
class _Bucket:
    """The users of one bucket to generate, and the tables to write their payments to."""

    number: int
    users: NDArray[np.int64]
    shape: Shape
    first: Path
    second: Path


def dataset(root: Path, payments: int, shape: Shape, buckets: int | None = None) -> Dataset:
    """Return the data under `root`; generate them if they do not exist.

    Raises:
        SystemExit: the disk is too small.
    """
    buckets = buckets or max(2 * math.ceil(payments / PAYMENTS_A_BUCKET / 2), 4)
    wanted = {"version": _VERSION, "payments": payments, "buckets": buckets, **asdict(shape)}
    manifest = root / "dataset.json"
    if not manifest.exists() or json.loads(manifest.read_text(encoding="utf-8"))["wanted"] != wanted:
        shutil.rmtree(root, ignore_errors=True)
        require_disk(root.parent, payments * BYTES_A_PAYMENT, f"{payments:,} payments")
        found = _generate(root, payments, shape, buckets)
        manifest.write_text(json.dumps({"wanted": wanted, "found": found}), encoding="utf-8")
    found = json.loads(manifest.read_text(encoding="utf-8"))["found"]
    expected = {date.fromisoformat(day): Checksum(*values) for day, values in found.pop("expected").items()}
    return Dataset(root=root, buckets=buckets, last_day=min(expected), expected=expected, **found)


def require_disk(folder: Path, size: int, what: str) -> None:
    """Check that the disk has `size` bytes and 2 GiB more.

    Raises:
        SystemExit: it has less.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(folder).free, size + 2 * 2**30
    if free < needed:
        raise SystemExit(
            f"{folder}: {what} need {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free: use --scratch"
        )


def _generate(root: Path, payments: int, shape: Shape, buckets: int) -> dict[str, Any]:
    started = time.monotonic()
    first, second = (root / name / "tables" / PAYMENTS.name for name in ("first", "second"))
    for table in (first, second):
        create_table(str(table), PAYMENTS, TABLE_PROPERTIES)
    print(f"{root.name}: drawing {payments:,} payments into {buckets} buckets", flush=True)
    files: tuple[list[_File], list[_File]] = ([], [])
    expected: dict[str, Checksum] = {}
    users = np.arange(shape.users(payments))
    bucket_of = np.fromiter((user_bucket(user_id(number), buckets) for number in users.tolist()), np.int32, len(users))
    tasks = [_Bucket(number, users[bucket_of == number], shape, first, second) for number in range(buckets)]
    # Spawned, as a fork of a process with Polars' threads can deadlock.
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(_write_bucket, task) for task in tasks]):
            for known, new in zip(files, done.result()[:2], strict=True):
                known.extend(new)
            for day, checksum in done.result()[2].items():
                expected[day] = expected.get(day, Checksum()).plus(checksum)
    _commit(first, files[0])
    _commit(second, files[0])
    _commit(second, files[1])
    return {
        "payments": sum(file.rows for file in files[0]),
        "night": sum(file.rows for file in files[1]),
        "bytes": sum(file.size for file in files[0]),
        "expected": expected,
        "seconds": time.monotonic() - started,
    }


def _write_bucket(task: _Bucket) -> tuple[list[_File], list[_File], dict[str, Checksum]]:
    """Generate and write a bucket; return the files of both deliveries, and as_of -> checksum of the folds."""
    pa.set_cpu_count(1)
    drawn = draw(task.users, task.shape, task.number)
    in_night = _delivered_last(drawn, task)
    files = _write_months(task.first, "day", task.number, drawn, ~in_night)
    night = _write_months(task.second, "night", task.number, drawn, in_night)
    for file in files:
        linked = task.second / file.path
        linked.parent.mkdir(parents=True, exist_ok=True)
        os.link(task.first / file.path, linked)
    last, then = (FIRST_DAY + timedelta(days=task.shape.days - before) for before in (1, 0))
    expected = {
        last.isoformat(): _checksum(drawn, ~in_night & _inside(drawn, last)),
        then.isoformat(): _checksum(drawn, _inside(drawn, then)),
    }
    return files, night, expected


def _delivered_last(drawn: Drawn, task: _Bucket) -> NDArray[np.bool_]:
    """Return a mask of the last delivery: the last day's payments, and a few late ones of the weeks before."""
    day = drawn.day
    wanted: NDArray[np.bool_] = day == task.shape.days - 1
    earlier = np.flatnonzero((day >= task.shape.days - 1 - LATE_DAYS) & ~wanted)
    late = min(math.ceil(int(wanted.sum()) * LATE_SHARE), len(earlier))
    wanted[np.random.default_rng(task.number).choice(earlier, late, replace=False)] = True
    return wanted


def _write_months(root: Path, name: str, bucket: int, drawn: Drawn, wanted: NDArray[np.bool_]) -> list[_File]:
    """Write the wanted payments, one file per month."""
    days = np.datetime64(FIRST_DAY) + np.arange(int(drawn.day.max(initial=0)) + 1)
    months, month_of_day = np.unique(days.astype("datetime64[M]"), return_inverse=True)
    month = month_of_day[drawn.day]
    files = []
    for number, first in enumerate(months.astype("datetime64[D]").tolist()):
        rows = np.flatnonzero((month == number) & wanted)
        if len(rows):
            path = f"paid_month={first}/user_bucket={bucket}/{name}-{bucket:05d}.zstd.parquet"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            size = _write(root / path, table_of(drawn, rows))
            days_of_rows = drawn.day[rows]
            low, high = (FIRST_DAY + timedelta(days=int(day)) for day in (days_of_rows.min(), days_of_rows.max()))
            files.append(_File(path, first, bucket, len(rows), size, low, high))
    return files


def _write(path: Path, payments: pa.Table) -> int:
    """Write a file without Arrow's own schema, as other writers do; return its size in bytes."""
    pq.write_table(
        payments,
        path,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in payments.column_names if name not in ("payment_id", "paid_at")],
        dictionary_pagesize_limit=2**22,
        store_schema=False,
    )
    return path.stat().st_size


def _inside(drawn: Drawn, as_of: date) -> NDArray[np.bool_]:
    """Return a mask of the payments in the window that ends at as_of."""
    end = (as_of - FIRST_DAY).days
    return (drawn.day < end) & (drawn.day >= end - WINDOW_DAYS)


def _checksum(drawn: Drawn, wanted: NDArray[np.bool_]) -> Checksum:
    """Compute the checksum of the folds of these payments: by user and merchant, then in order of time, payment_id."""
    rows = np.flatnonzero(wanted)
    rows = rows[np.argsort(drawn.payment[rows], kind="stable")]
    pair = drawn.user[rows].astype(np.int64) * len(MERCHANT_IDS) + drawn.merchant[rows]
    # One integer key sorts faster than three columns; the seconds of a year need 25 bits.
    order = np.argsort((pair << 25) | (drawn.seconds[rows] - START_SECONDS), kind="stable")
    rows, pair = rows[order], pair[order]
    first = np.flatnonzero(np.diff(pair, prepend=-1))
    user, merchants = np.unique(drawn.user[rows[first]], return_counts=True)
    return Sequences(
        user=text_hashes(drawn.users.take(pa.array(user))),
        merchants=merchants,
        merchant=text_hashes(MERCHANT_IDS)[drawn.merchant[rows[first]]],
        lengths=np.diff(first, append=len(rows)),
        seconds=drawn.seconds[rows],
        cents=drawn.cents[rows],
    ).checksum()


def _commit(root: Path, files: Sequence[_File]) -> None:
    """Add files to a table in one commit."""
    table = DeltaTable(str(root))
    table.create_write_transaction(
        [_add(root, file) for file in files],
        mode="append",
        schema=table.schema(),
        partition_by=table.metadata().partition_columns,
    )


def _add(root: Path, file: _File) -> AddAction:
    statistics = {
        "numRecords": file.rows,
        "minValues": {"paid_on": file.first.isoformat()},
        "maxValues": {"paid_on": file.last.isoformat()},
        "nullCount": {"paid_on": 0},
    }
    partition = {"paid_month": file.month.isoformat(), "user_bucket": str(file.bucket)}
    changed = int((root / file.path).stat().st_mtime * 1000)
    return AddAction(file.path, file.size, partition, changed, True, json.dumps(statistics))
