"""Folding files to files: Spark hands buckets to tasks, each reads and writes Parquet itself, one commit ends it.

So no row passes through Spark: it is moved into its user's bucket once, at ingest. A run that dies leaves
files that no commit names, which maintenance removes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException

from lbsf.config.models import FoldConfig
from lbsf.errors import InputError, UserError
from lbsf.schemas import FOLDS, PAYMENTS
from lbsf.tables.fold_task import FoldedDay, FoldTask, LastNight, PaymentFile, fold_bucket
from lbsf.tables.log import DataFile, changes, create_table, replace_files
from lbsf.tables.warehouse import Warehouse, local_path

# With more changed users than this a full fold is cheaper than to look each of them up.
MOST_CHANGED_USERS = 100_000


class FoldRun(NamedTuple):
    """What a run did.

    Attributes:
        way: `full`, `from DAY` (the folds that it went on from), or `up to date`: nothing was done, and only
            users and folds_version are given.
        users: folds of these days.
        merchants: merchants kept in them.
        payments: payments of their windows.
        payments_dropped: of these, dropped by the caps.
        refolded: users of an incremental run who were folded from their payments.
        folds_version: Delta version of folds that holds the result.
    """

    way: str
    users: int
    merchants: int
    payments: int
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
        elif file.rows:
            # Spark's statistics cut a text after 32 characters: it is read from one file a day, written at once.
            unknown[file.partition["as_of"]] = file.path
    return found | {spec_of(path) for path in unknown.values()}


def spec_of(path: str) -> str:
    """The fold_spec of a file's folds, of which there is at least one."""
    return str(pq.ParquetFile(path).read_row_group(0, columns=["fold_spec"])["fold_spec"][0])


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
        InputError: payments that no fold may hold; nothing is written.
    """
    root = local_path(warehouse.location(FOLDS))
    stored_version = warehouse.version(FOLDS) if warehouse.exists(FOLDS) else None
    stored = [] if stored_version is None else warehouse.data_files(FOLDS, stored_version)
    last_night = None if full or len(as_ofs) > 1 else _last_night(stored, as_ofs[0], config)
    if stored_version is not None and last_night == (as_ofs[0], payments_version):
        users = sum(file.rows for file in stored if file.partition["as_of"] == as_ofs[0].isoformat())
        return FoldRun("up to date", users, 0, 0, 0, 0, stored_version)
    nights = None if last_night is None else _since(warehouse, stored, *last_night, payments_version)
    tasks = _tasks(warehouse, as_ofs, config, payments_version, nights or {})
    done = _run(warehouse, tasks)
    for as_of in as_ofs:
        if not any(day.file is not None and day.as_of == as_of for day in done):
            _remove(root, done)
            raise no_payments(as_of, config.window_days)
    if stored_version is None:
        create_table(root, FOLDS, warehouse.properties(FOLDS))
        stored_version = 0
    replaced = {as_of.isoformat() for as_of in as_ofs}
    version = replace_files(
        root,
        [day.file for day in done if day.file is not None],
        [file for file in stored if file.partition["as_of"] in replaced],
        at_version=stored_version,
        made_from={PAYMENTS.name: payments_version},
    )
    warehouse.register(FOLDS)
    return FoldRun(
        way=f"from {last_night[0]}" if last_night and nights else "full",
        users=sum(day.file.rows for day in done if day.file is not None),
        merchants=sum(day.merchants for day in done),
        payments=sum(day.payments for day in done),
        payments_dropped=sum(day.payments_dropped for day in done),
        refolded=sum(day.refolded for day in done),
        folds_version=version,
    )


def _tasks(
    warehouse: Warehouse,
    as_ofs: Sequence[date],
    config: FoldConfig,
    payments_version: int,
    nights: Mapping[int, LastNight],
) -> list[FoldTask]:
    """A task for each bucket with payments in a window, or with folds of last night."""
    payments = _by_bucket(warehouse.data_files(PAYMENTS, payments_version))
    first, end = as_ofs[0] - timedelta(days=config.window_days), as_ofs[-1]
    inside = {
        bucket: tuple(file for file in files if file.last >= first and file.first < end)
        for bucket, files in payments.items()
    }
    return [
        FoldTask(
            root=local_path(warehouse.location(FOLDS)),
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


def _run(warehouse: Warehouse, tasks: Sequence[FoldTask]) -> list[FoldedDay]:
    """The tasks' results; where one refuses its input, the others' files are removed again."""
    # The largest first, so that none is left to run alone at the end.
    by_size = sorted(tasks, key=lambda task: -sum(Path(file.path).stat().st_size for file in task.payments))
    context = warehouse.spark.sparkContext
    results = context.parallelize(by_size, len(by_size)).map(_attempt).collect() if by_size else []
    refusals = [result for result in results if isinstance(result, str)]
    done = [day for result in results if not isinstance(result, str) for day in result]
    if refusals:
        _remove(by_size[0].root, done)
        raise InputError(refusals[0])
    return done


def _remove(root: str, done: Sequence[FoldedDay]) -> None:
    for day in done:
        if day.file is not None:
            Path(root, day.file.path).unlink()


def no_payments(as_of: date, window_days: int) -> InputError:
    """Says that nobody paid in a day's window."""
    return InputError(
        f"--as-of {as_of}: table payments has none from {as_of - timedelta(days=window_days)} on within the "
        f"{window_days} days before it; choose another day or ingest the missing payments"
    )


def _attempt(task: FoldTask) -> list[FoldedDay] | str:
    # A refusal is no failure of the task, which Spark would try again.
    try:
        return fold_bucket(task)
    except UserError as error:
        return str(error)


def _last_night(stored: Sequence[DataFile], as_of: date, config: FoldConfig) -> tuple[date, int] | None:
    """The latest day to go on from, and the version of payments that its folds hold."""
    earliest = as_of - timedelta(days=config.window_days // 4)
    nights: dict[date, set[tuple[Any, Any]]] = defaultdict(set)
    for file in stored:
        day = _day(file.partition["as_of"])
        if earliest <= day <= as_of:
            nights[day].add((file.high.get("payments_version"), file.high.get("fold_spec")))
    for day in sorted(nights, reverse=True):
        (version, spec), *others = nights[day]
        if not others and spec == config.spec and version is not None:
            return day, int(version)
    return None


def _since(
    warehouse: Warehouse, stored: Sequence[DataFile], night: date, made_from: int, until: int
) -> dict[int, LastNight] | None:
    """Of each bucket with folds of that night, these and what happened to its payments since; None: nobody knows."""
    found = changes(local_path(warehouse.location(PAYMENTS)), made_from, until) if made_from <= until else None
    if found is None:
        return None
    changed: Mapping[int, set[str]] | None = _changed_users(warehouse, found.rewriting)
    if changed is None:
        return None
    arrived = _by_bucket(found.added)
    folds = defaultdict(list)
    for file in stored:
        if file.partition["as_of"] == night.isoformat():
            folds[int(file.partition["user_bucket"] or 0)].append(file.path)
    return {
        bucket: LastNight(night, tuple(folds[bucket]), tuple(arrived.get(bucket, ())), tuple(sorted(changed[bucket])))
        for bucket in folds
    }


def _changed_users(warehouse: Warehouse, versions: Sequence[int]) -> Mapping[int, set[str]] | None:
    """Users by bucket whose payments these commits touched; None: too many, or Delta does not know."""
    users: dict[int, set[str]] = defaultdict(set)
    for version in versions:
        feed = warehouse.spark.read.format("delta").option("readChangeFeed", "true")
        feed = feed.option("startingVersion", version).option("endingVersion", version)
        try:
            touched = feed.load(warehouse.location(PAYMENTS)).select("user_bucket", "user_id").distinct()
            rows = touched.limit(MOST_CHANGED_USERS + 1).collect()
        except (AnalysisException, Py4JJavaError):
            # The feed was off at that commit, or a file that it names is gone.
            return None
        for row in rows:
            users[row["user_bucket"]].add(row["user_id"])
        if sum(map(len, users.values())) > MOST_CHANGED_USERS:
            return None
    return users


def paid_days(files: Sequence[DataFile]) -> tuple[date, date]:
    """First and last day with a payment, of the payments' files. Raises InputError where there is none."""
    spans = [file for of_bucket in _by_bucket(files).values() for file in of_bucket]
    if not spans:
        raise InputError("table payments is empty: ingest payments first")
    return min(file.first for file in spans), max(file.last for file in spans)


def _by_bucket(files: Sequence[DataFile]) -> dict[int, list[PaymentFile]]:
    buckets: dict[int, list[PaymentFile]] = defaultdict(list)
    for file in files:
        if not file.rows:
            continue
        month = _day(file.partition["paid_month"])
        first, last = file.low.get("paid_on") or month, file.high.get("paid_on") or month + timedelta(days=30)
        buckets[int(file.partition["user_bucket"] or 0)].append(PaymentFile(file.path, month, _day(first), _day(last)))
    return buckets


def _day(value: Any) -> date:
    return value if isinstance(value, date) else date.fromisoformat(value)
