"""Folding files to files: Spark hands buckets to tasks, each reads and writes Parquet itself, one commit ends it.

So no row passes through Spark: it is moved into its user's bucket once, at ingest. A run that dies leaves
files that no commit names, which maintenance removes.
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
    """What a run did.

    Attributes:
        way: `full`, with the reason where a file of earlier folds is damaged; `from DAY` (the folds that it went on
            from); or UP_TO_DATE: nothing was done, and only users and folds_version are given.
        users: folds of these days.
        merchants: merchants kept in them.
        payments: payments of the days' windows, each counted once.
        in_windows: the sum over the windows, which may overlap.
        payments_dropped: of these, dropped by the caps.
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
    """The fold_spec of the folds in these files of the folds table."""
    found, unknown = set(), {}
    for file in files:
        low, high = file.low.get("fold_spec"), file.high.get("fold_spec")
        if low is not None and low == high:
            found.add(str(low))
        elif file.rows and file.problem() is None:
            # Spark's statistics cut a text after 32 characters: it is read from one file a day, written at once.
            unknown[file.partition["as_of"]] = file.path
    for path in unknown.values():
        with suppress(InputError):  # Damaged: whoever reads its folds says so.
            found.add(spec_of(path))
    return found


def spec_of(path: str) -> str:
    """The fold_spec of a file's folds, of which there is at least one. Raises InputError where it cannot be read."""
    with reading(path):
        return str(open_parquet(path).read_row_group(0, columns=["fold_spec"])["fold_spec"][0])


def fold_files(
    warehouse: Warehouse, as_ofs: Sequence[date], config: FoldConfig, payments_version: int, *, full: bool = False
) -> FoldRun:
    """Folds the payments as of some days and replaces these days in the folds table, in one transaction.

    One day goes on from the latest day before it, or from itself, where such folds are stored and what
    happened to the payments since is known; else, and for several days, all payments of the windows are read, once.

    Args:
        warehouse: tables; their storage must be reachable as files from every task.
        as_ofs: distinct days, rising.
        config: how to fold.
        payments_version: Delta version of payments.
        full: do not go on from other folds.

    Raises:
        InputError: payments that no fold may hold or whose file is damaged, another fold at the same time, or a storage
            that takes no more; nothing is written.
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
    """Makes the folds table, once the tasks have folds for it; its version."""
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
    """A task for each bucket with payments in a window, or with folds of last night; the largest first."""
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
    # So that none is left to run alone at the end.
    return sorted(tasks, key=lambda task: -sum(file.size for file in task.payments))


def _run(warehouse: Warehouse, tasks: Sequence[FoldTask]) -> list[FoldedDay]:
    """The tasks' results; where one of them fails, the files of all are removed again."""
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
    """Says that nobody paid in a day's window."""
    return InputError(
        f"--as-of {as_of}: table payments has none from {as_of - timedelta(days=window_days)} on within the "
        f"{window_days} days before it; choose another day or ingest the missing payments"
    )


def _attempt(task: FoldTask) -> list[FoldedDay] | Exception:
    """The task's result, or why it has none: a refusal is no failure of the task, which Spark would try again."""
    try:
        return fold_bucket(task)
    except (UserError, LastNightError) as error:
        return error
    except OSError as error:
        line = explain(error, str(Path(task.root).parents[1]))
        if line is None:
            raise
        return InputError(line)
