"""Folds payments into the folds table: one Spark task per bucket reads and writes Parquet, then one commit adds all.

No row passes through Spark: ingest has already moved each row into its user's bucket. A run that is killed leaves
files that no commit names; maintenance removes them.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from lbsf.config.models import FoldConfig
from lbsf.damaged import reading
from lbsf.errors import InputError, UserError
from lbsf.parquet import open_parquet
from lbsf.schemas import FOLDS, PAYMENTS
from lbsf.tables.faults import explain
from lbsf.tables.fold_inputs import by_bucket, nights_since, stored_night
from lbsf.tables.fold_task import (
    FoldedDay,
    FoldTask,
    LastNight,
    LastNightError,
    fold_bucket,
    new_files,
)
from lbsf.tables.log import DataFile, create_table, replace_files
from lbsf.tables.warehouse import Warehouse, local_path

UP_TO_DATE = "up to date"


class FoldRun(NamedTuple):
    """The result of a run.

    Attributes:
        way: `full`, with the reason if a file of earlier folds is damaged; `from DAY` for an incremental fold from the
            folds of that day; or UP_TO_DATE: nothing was done, and only users and folds_version are given.
        users: number of folds of these days.
        merchants: number of merchants kept in them.
        payments: number of payments in the days' windows, each counted once.
        in_windows: the sum over the windows, which may overlap.
        payments_dropped: of `in_windows`, the payments dropped by the caps.
        refolded: users of an incremental run who were folded from their payments.
        folds_version: Delta version of folds that holds the result.
    """

    way: str
    users: int
    merchants: int
    payments: int
    in_windows: int
    payments_dropped: int
    refolded: int
    folds_version: int


def stored_specs(files: Sequence[DataFile]) -> set[str]:
    """Return every fold_spec in these files of the folds table."""
    found, unknown = set(), {}
    for file in files:
        low, high = file.low.get("fold_spec"), file.high.get("fold_spec")
        if low is not None and low == high:
            found.add(str(low))
        elif file.rows and file.problem() is None:
            # Spark's statistics truncate text to 32 characters. A day is written at once, so one file of it is read.
            unknown[file.partition["as_of"]] = file.path
    for path in unknown.values():
        with suppress(InputError):  # A damaged file is reported by the job that reads its folds.
            found.add(spec_of(path))
    return found


def spec_of(path: str) -> str:
    """Return the fold_spec of a file with at least one fold. Raises InputError if the file cannot be read."""
    with reading(path):
        return str(open_parquet(path).read_row_group(0, columns=["fold_spec"])["fold_spec"][0])


def fold_files(
    warehouse: Warehouse, as_ofs: Sequence[date], config: FoldConfig, payments_version: int, *, full: bool = False
) -> FoldRun:
    """Fold the payments as of some days and replace these days in the folds table, in one transaction.

    A single day is folded incrementally from the stored folds of that day or the latest day before it, if there are
    such folds and the changes to the payments since are known. Otherwise, and for several days, all payments of the
    windows are read once.

    Args:
        warehouse: tables; every task must be able to reach their storage as files.
        as_ofs: distinct days in ascending order.
        config: fold settings.
        payments_version: Delta version of payments.
        full: True: never fold incrementally.

    Raises:
        InputError: payments are invalid or their file is damaged, another fold ran at the same time, or the storage
            is full; nothing is written.
    """
    root = local_path(warehouse.location(FOLDS))
    stored_version = warehouse.version(FOLDS) if warehouse.exists(FOLDS) else None
    stored = [] if stored_version is None else warehouse.data_files(FOLDS, stored_version)
    night = None if full or len(as_ofs) > 1 else stored_night(stored, as_ofs[0], config)
    problem = None if night is None else night.problem()
    if (
        stored_version is not None
        and night is not None
        and problem is None
        and night.holds(as_ofs[0], payments_version)
    ):
        return FoldRun(UP_TO_DATE, sum(file.rows for file in night.files), 0, 0, 0, 0, 0, stored_version)
    nights = None if night is None or problem else nights_since(warehouse, night, payments_version)
    tasks = _tasks(warehouse, as_ofs, config, payments_version, nights or {})
    try:
        done = _run(warehouse, tasks)
    except LastNightError:
        nights, problem = None, "cannot be read"
        tasks = _tasks(warehouse, as_ofs, config, payments_version, {})
        done = _run(warehouse, tasks)
    for as_of in as_ofs:
        if not any(day.file is not None and day.as_of == as_of for day in done):
            _remove(tasks)
            raise no_payments(as_of, config.window_days)
    if stored_version is None:
        stored_version = _create(warehouse, root, tasks)
    replaced = {as_of.isoformat() for as_of in as_ofs}
    version = replace_files(
        root,
        [day.file for day in done if day.file is not None],
        [file for file in stored if file.partition["as_of"] in replaced],
        at_version=stored_version,
        made_from={PAYMENTS.name: payments_version},
    )
    warehouse.register(FOLDS)
    way = f"from {night.as_of}" if night and nights else "full"
    if night and problem:
        way += f": a file of the folds of {night.as_of} {problem}"
    return _total(way, done, version)


def _total(way: str, done: Sequence[FoldedDay], version: int) -> FoldRun:
    return FoldRun(
        way=way,
        users=sum(day.file.rows for day in done if day.file is not None),
        merchants=sum(day.merchants for day in done),
        payments=sum(day.payments_once for day in done),
        in_windows=sum(day.payments for day in done),
        payments_dropped=sum(day.payments_dropped for day in done),
        refolded=sum(day.refolded for day in done),
        folds_version=version,
    )


def _create(warehouse: Warehouse, root: str, tasks: Sequence[FoldTask]) -> int:
    """Create the folds table after the tasks have written its files; return its version."""
    try:
        create_table(root, FOLDS, warehouse.properties(FOLDS))
    except Exception:
        _remove(tasks)
        raise
    return 0


def _tasks(
    warehouse: Warehouse,
    as_ofs: Sequence[date],
    config: FoldConfig,
    payments_version: int,
    nights: Mapping[int, LastNight],
) -> list[FoldTask]:
    """Return a task for each bucket with payments in a window or with folds to start from; the largest first."""
    payments = by_bucket(warehouse.data_files(PAYMENTS, payments_version))
    first, end = as_ofs[0] - timedelta(days=config.window_days), as_ofs[-1]
    inside = {
        bucket: tuple(file for file in files if file.last >= first and file.first < end)
        for bucket, files in payments.items()
    }
    run_id = uuid.uuid4().hex[:12]
    tasks = [
        FoldTask(
            root=local_path(warehouse.location(FOLDS)),
            run_id=run_id,
            bucket=bucket,
            buckets=warehouse.storage.user_buckets,
            payments=inside.get(bucket, ()),
            as_ofs=tuple(as_ofs),
            last_night=nights.get(bucket),
            payments_version=payments_version,
            config=config,
        )
        for bucket in sorted({*(bucket for bucket, files in inside.items() if files), *nights})
    ]
    # A large task that starts last would run alone at the end.
    return sorted(tasks, key=lambda task: -sum(file.size for file in task.payments))


def _run(warehouse: Warehouse, tasks: Sequence[FoldTask]) -> list[FoldedDay]:
    """Run the tasks and return their results. If a task fails, remove the files of all tasks."""
    context = warehouse.spark.sparkContext
    try:
        results = context.parallelize(tasks, len(tasks)).map(_attempt).collect() if tasks else []
        refusals = [result for result in results if isinstance(result, Exception)]
        for refusal in sorted(refusals, key=lambda one: not isinstance(one, LastNightError)):
            raise refusal
    except BaseException:
        _remove(tasks)
        raise
    return [day for result in results if not isinstance(result, Exception) for day in result]


def _remove(tasks: Sequence[FoldTask]) -> None:
    for task in tasks:
        for path in new_files(task):
            path.unlink(missing_ok=True)


def no_payments(as_of: date, window_days: int) -> InputError:
    """Return the error for a day without payments in its window."""
    return InputError(
        f"--as-of {as_of}: table payments has none from {as_of - timedelta(days=window_days)} on within the "
        f"{window_days} days before it; choose another day or ingest the missing payments"
    )


def _attempt(task: FoldTask) -> list[FoldedDay] | Exception:
    """Return the task's result, or its error: Spark would retry a task that raises."""
    try:
        return fold_bucket(task)
    except (UserError, LastNightError) as error:
        return error
    except OSError as error:
        line = explain(error, str(Path(task.root).parents[1]))
        if line is None:
            raise
        return InputError(line)
