"""Folds one bucket: reads Parquet files of payments, writes one of folds. Runs in Spark tasks, without Spark itself."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

# Spark runs a task per core, so thread pools within a task would only compete. Polars reads this when imported.
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from lbsf.config.models import FoldConfig  # noqa: E402
from lbsf.damaged import UNREADABLE, reading  # noqa: E402
from lbsf.errors import InputError  # noqa: E402
from lbsf.folding.cut import DAY_US, day_number, fold_days  # noqa: E402
from lbsf.folding.hashing import user_bucket  # noqa: E402
from lbsf.folding.incremental import incremental_folds  # noqa: E402
from lbsf.folding.rows import PAYMENT_COLUMNS, TEXT_COLUMNS, PaymentRows  # noqa: E402
from lbsf.parquet import open_parquet, read_parquet  # noqa: E402
from lbsf.tables.log import NewFile  # noqa: E402

_DAY = timedelta(days=1)
# For sorted numbers, delta encoding takes a tenth of the time of a dictionary, and is smaller.
_DELTA_PACKED = ("paid_at", "amount_cents")


class PaymentFile(NamedTuple):
    """A file of one bucket's payments.

    Attributes:
        path: local path.
        month: paid_month of the file.
        first: paid_on of the earliest payment.
        last: paid_on of the latest payment.
        size: in bytes.
    """

    path: str
    month: date
    first: date
    last: date
    size: int


class LastNight(NamedTuple):
    """The stored folds of a bucket that an incremental fold starts from.

    Attributes:
        as_of: day of these folds.
        files: local paths of the bucket's folds of that day.
        arrived: files of payments that were delivered since.
        changed_users: users of the bucket whose payments were changed or deleted since.
    """

    as_of: date
    files: tuple[str, ...]
    arrived: tuple[PaymentFile, ...]
    changed_users: tuple[str, ...]


@dataclass(frozen=True)
class FoldTask:
    """The fold of one bucket.

    Attributes:
        root: folder of the folds table.
        run_id: id of the run, letters and digits; part of its file names.
        bucket: the user bucket to fold.
        buckets: storage.user_buckets.
        payments: the bucket's files that may hold payments of the windows.
        as_ofs: the days to fold; exactly one if `last_night` is given.
        last_night: folds for an incremental fold to start from; None: a full fold.
        payments_version: Delta version of payments.
        config: fold settings.
    """

    root: str
    run_id: str
    bucket: int
    buckets: int
    payments: tuple[PaymentFile, ...]
    as_ofs: tuple[date, ...]
    last_night: LastNight | None
    payments_version: int
    config: FoldConfig


class FoldedDay(NamedTuple):
    """The result of a task for one day."""

    file: NewFile | None  # None: no user of the bucket has a payment in the window
    as_of: date
    merchants: int
    payments: int
    payments_once: int  # of these, the ones in no earlier day's window of the task
    payments_dropped: int
    refolded: int


class LastNightError(Exception):
    """A file of the folds to start from is missing or cannot be read. A full fold does not need these files."""


def fold_bucket(task: FoldTask) -> list[FoldedDay]:
    """Fold one bucket and write one file per day. The table does not change until these files are committed.

    Raises:
        InputError: payments are invalid or in a wrong partition, or their file cannot be read.
        LastNightError: the folds to start from cannot be read.
    """
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    config = task.config
    if task.last_night is None:
        first, end = min(task.as_ofs) - timedelta(days=config.window_days), max(task.as_ofs)
        rows = _read_ordered(task, [(file, first, end) for file in task.payments])
        return [
            _write(task, day, folds, 0, once)
            for day, folds, once in zip(
                task.as_ofs, fold_days(rows, task.as_ofs, config), _counted_once(rows, task), strict=True
            )
        ]
    folds, refolded = _from_last_night(task, task.last_night)
    return [_write(task, task.as_ofs[0], folds, refolded)]


def _counted_once(rows: PaymentRows, task: FoldTask) -> list[int]:
    """Return, for each day, the number of payments in its window that are in no earlier day's window."""
    counts, counted_until = [], task.as_ofs[0] - timedelta(days=task.config.window_days)
    for as_of in task.as_ofs:
        begin = max(counted_until, as_of - timedelta(days=task.config.window_days))
        inside = (rows.paid_us >= day_number(begin) * DAY_US) & (rows.paid_us < day_number(as_of) * DAY_US)
        counts.append(int(inside.sum()))
        counted_until = as_of
    return counts


def _from_last_night(task: FoldTask, last: LastNight) -> tuple[pa.Table, int]:
    as_of = task.as_ofs[0]
    begin = as_of - timedelta(days=task.config.window_days)
    # `later`: paid since, in any file. `late`: paid before, but delivered since.
    later = [(file, max(begin, last.as_of), as_of) for file in task.payments]
    late = [(file, begin, min(last.as_of, as_of)) for file in last.arrived]
    arrived = _read_ordered(task, [*later, *late])

    def payments_of(users: pa.StringArray) -> PaymentRows:
        return _read_ordered(task, [(file, begin, as_of) for file in task.payments], users)

    try:
        tables = [read_parquet(path, use_threads=False) for path in last.files]
    except UNREADABLE as error:
        raise LastNightError from error
    folds = pa.concat_tables(tables).sort_by("user_id") if len(tables) > 1 else tables[0]
    return incremental_folds(folds, arrived, last.changed_users, payments_of, as_of, task.config)


def _read_ordered(
    task: FoldTask, parts: Sequence[tuple[PaymentFile, date, date]], users: pa.StringArray | None = None
) -> PaymentRows:
    """Read each file's payments of the days [first, end), of all or of the given users, sorted as folds need them."""
    wanted = [(file, first, end) for file, first, end in parts if file.last >= first and file.first < end]
    tables, masks = [], []
    for file, first, end in wanted:
        table = _read(file, PAYMENT_COLUMNS)
        mask = _mask(table, file, first, end, users)
        masks.append(mask)
        tables.append(table if mask is None else table.filter(mask))

    def payment_ids() -> pa.Array:
        read = [_read(file, ("payment_id",)) for file, _, _ in wanted]
        ids = [t if mask is None else t.filter(mask) for t, mask in zip(read, masks, strict=True)]
        return pa.concat_tables(ids)["payment_id"].cast(pa.string()).combine_chunks()

    payments = pa.concat_tables(tables) if tables else _NO_PAYMENTS
    rows = PaymentRows.from_payments(payments, task.config)
    _check_users(rows, task)
    return rows.take(rows.order(payment_ids))


def _read(file: PaymentFile, columns: Sequence[str]) -> pa.Table:
    with reading(file.path):
        parquet = open_parquet(file.path, read_dictionary=TEXT_COLUMNS)
        table = parquet.read(list(columns), use_threads=False).select(list(columns))
    if "paid_at" not in columns:
        return table
    # Older files of Spark hold nanoseconds.
    position = columns.index("paid_at")
    return table.set_column(position, "paid_at", table["paid_at"].cast(pa.timestamp("us", "UTC"), safe=False))


def _mask(
    table: pa.Table, file: PaymentFile, first: date, end: date, users: pa.StringArray | None
) -> NDArray[np.bool_] | None:
    """Return the mask of a file's payments that are within the days and of the users; None: all are."""
    paid_at = table["paid_at"]
    span = pc.min_max(paid_at).as_py()
    next_month = (file.month + 31 * _DAY).replace(day=1)
    if (
        table.num_rows
        and span["min"]
        and not (_instant(file.month) <= span["min"] <= span["max"] < _instant(next_month))
    ):
        raise InputError(
            f"table payments: {file.path} of paid_month {file.month} holds payments of {span['min']} to "
            f"{span['max']}: their age would be wrong; remove them and ingest them again"
        )
    mask = None
    if file.first < first or file.last >= end:
        inside = pc.and_(
            pc.greater_equal(paid_at, pa.scalar(_instant(first))), pc.less(paid_at, pa.scalar(_instant(end)))
        )
        mask = pc.fill_null(inside, True).combine_chunks().to_numpy(zero_copy_only=False)
    if users is not None:
        of_users = pc.is_in(table["user_id"].cast(pa.string()), users).combine_chunks().to_numpy(zero_copy_only=False)
        mask = of_users if mask is None else mask & of_users
    return mask


def _instant(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _check_users(rows: PaymentRows, task: FoldTask) -> None:
    """Check that every user is in the bucket that storage.user_buckets gives, so that no user's fold is split."""
    strangers = sum(user_bucket(user, task.buckets) != task.bucket for user in rows.users.to_pylist())
    if strangers:
        raise InputError(
            f"table payments: {strangers:,} users of user_bucket {task.bucket} do not belong there with "
            f"storage.user_buckets={task.buckets}: set it to the value that the table was written with"
        )


def new_files(task: FoldTask) -> Iterator[Path]:
    """Yield the files that the attempts at a task have written so far."""
    for as_of in task.as_ofs:
        yield from Path(task.root, _folder(task, as_of)).glob(f"{_stem(task)}*")


def _folder(task: FoldTask, as_of: date) -> str:
    return f"as_of={as_of.isoformat()}/user_bucket={task.bucket}"


def _stem(task: FoldTask) -> str:
    return f"part-{task.bucket:05d}-{task.run_id}-"


def _write(task: FoldTask, as_of: date, folds: pa.Table, refolded: int, once: int | None = None) -> FoldedDay:
    """Write the folds of one day as a file with row groups of nearly equal size.

    Args:
        once: payments_once of the day; None: all its payments.
    """
    dropped = int(pc.sum(folds["payments_dropped"]).as_py() or 0)
    payments = int(pc.sum(folds["payments_kept"]).as_py() or 0) + dropped
    merchants = int(pc.sum(folds["merchants_kept"]).as_py() or 0)
    totals = (merchants, payments, payments if once is None else once, dropped)
    if not folds.num_rows:
        return FoldedDay(None, as_of, *totals, refolded)
    partition = {"as_of": as_of.isoformat(), "user_bucket": str(task.bucket)}
    # A unique name per attempt: Spark may run a task twice.
    name = f"{_folder(task, as_of)}/{_stem(task)}{uuid.uuid4().hex[:8]}.zstd.parquet"
    path = Path(task.root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    constants = {
        "window_days": task.config.window_days,
        "fold_spec": task.config.spec,
        "payments_version": task.payments_version,
    }
    version = pa.repeat(pa.scalar(task.payments_version, pa.int64()), folds.num_rows)
    table = folds.drop(["as_of"]).append_column("payments_version", version)
    values = {
        name: f"{name}.list.element" if pa.types.is_list(table[name].type) else name for name in table.column_names
    }
    writer = pq.ParquetWriter(
        path,
        table.schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[column for name, column in values.items() if name not in _DELTA_PACKED],
        column_encoding={values[name]: "DELTA_BINARY_PACKED" for name in _DELTA_PACKED},
        store_schema=False,
    )
    with writer:
        # Nearly equal sizes, because Petastorm assigns whole row groups to the ranks.
        groups = -(-table.num_rows // task.config.row_group_users)
        bounds = np.linspace(0, table.num_rows, groups + 1).astype(int).tolist()
        for start, end in pairwise(bounds):
            writer.write_table(table.slice(start, end - start), row_group_size=end - start)
    file = NewFile(name, path.stat().st_size, table.num_rows, partition, constants)
    return FoldedDay(file, as_of, *totals, refolded)


_NO_PAYMENTS = pa.table(
    {
        name: pa.array(
            [],
            pa.timestamp("us", "UTC")
            if name == "paid_at"
            else pa.decimal128(18, 2)
            if name == "amount"
            else pa.string(),
        )
        for name in PAYMENT_COLUMNS
    }
)
