"""The inputs of a fold: the payment files by bucket, and the stored folds that an incremental fold starts from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException

from lbsf.config.models import FoldConfig
from lbsf.errors import InputError
from lbsf.schemas import PAYMENTS
from lbsf.tables.fold_task import LastNight, PaymentFile
from lbsf.tables.log import DataFile, changes
from lbsf.tables.warehouse import Warehouse, local_path

# With more changed users than this, a full fold is cheaper than looking up each of them.
MOST_CHANGED_USERS = 100_000


class StoredNight(NamedTuple):
    """The stored folds of one day."""

    as_of: date
    payments_version: int  # Delta version of payments that they were made from
    files: list[DataFile]

    def holds(self, as_of: date, payments_version: int) -> bool:
        """Return whether these are the folds of that day, made from that version of payments."""
        return (self.as_of, self.payments_version) == (as_of, payments_version)

    def problem(self) -> str | None:
        """Return the first problem that `DataFile.problem` finds in one of the files; None: none."""
        return next((found for file in self.files if (found := file.problem())), None)


def stored_night(stored: Sequence[DataFile], as_of: date, config: FoldConfig) -> StoredNight | None:
    """Return the latest stored day, `as_of` or before, from which an incremental fold of `as_of` may start."""
    earliest = as_of - timedelta(days=config.window_days // 4)
    nights: dict[date, list[DataFile]] = defaultdict(list)
    for file in stored:
        day = _day(file.partition["as_of"])
        if earliest <= day <= as_of:
            nights[day].append(file)
    for day in sorted(nights, reverse=True):
        (version, spec), *others = {
            (file.high.get("payments_version"), file.high.get("fold_spec")) for file in nights[day]
        }
        if not others and spec == config.spec and version is not None:
            return StoredNight(day, int(version), nights[day])
    return None


def nights_since(warehouse: Warehouse, night: StoredNight, until: int) -> dict[int, LastNight] | None:
    """Return, for each bucket with folds of that night, the folds and the changes to its payments since.

    None: the changes are unknown, or too many.
    """
    made_from = night.payments_version
    found = changes(local_path(warehouse.location(PAYMENTS)), made_from, until) if made_from <= until else None
    if found is None:
        return None
    changed: Mapping[int, set[str]] | None = _changed_users(warehouse, found.rewriting)
    if changed is None:
        return None
    arrived = by_bucket(found.added)
    folds = defaultdict(list)
    for file in night.files:
        folds[int(file.partition["user_bucket"] or 0)].append(file.path)
    return {
        bucket: LastNight(
            night.as_of, tuple(folds[bucket]), tuple(arrived.get(bucket, ())), tuple(sorted(changed[bucket]))
        )
        for bucket in folds
    }


def _changed_users(warehouse: Warehouse, versions: Sequence[int]) -> Mapping[int, set[str]] | None:
    """Return the users, by bucket, whose payments these commits touched; None: too many, or Delta does not know."""
    users: dict[int, set[str]] = defaultdict(set)
    for version in versions:
        feed = warehouse.spark.read.format("delta").option("readChangeFeed", "true")
        feed = feed.option("startingVersion", version).option("endingVersion", version)
        try:
            touched = feed.load(warehouse.location(PAYMENTS)).select("user_bucket", "user_id").distinct()
            rows = touched.limit(MOST_CHANGED_USERS + 1).collect()
        except (AnalysisException, Py4JJavaError):
            # The change data feed was off at that commit, or one of its files was removed.
            return None
        for row in rows:
            users[row["user_bucket"]].add(row["user_id"])
        if sum(map(len, users.values())) > MOST_CHANGED_USERS:
            return None
    return users


def paid_days(files: Sequence[DataFile]) -> tuple[date, date]:
    """Return the first and the last day with a payment. Raises InputError if there are no payments."""
    spans = [file for of_bucket in by_bucket(files).values() for file in of_bucket]
    if not spans:
        raise InputError("table payments is empty: ingest payments first")
    return min(file.first for file in spans), max(file.last for file in spans)


def by_bucket(files: Sequence[DataFile]) -> dict[int, list[PaymentFile]]:
    """Return the payment files of each user bucket, without empty files."""
    buckets: dict[int, list[PaymentFile]] = defaultdict(list)
    for file in files:
        if not file.rows:
            continue
        month = _day(file.partition["paid_month"])
        first, last = file.low.get("paid_on") or month, file.high.get("paid_on") or month + timedelta(days=30)
        bucket = int(file.partition["user_bucket"] or 0)
        buckets[bucket].append(PaymentFile(file.path, month, _day(first), _day(last), file.size))
    return buckets


def _day(value: Any) -> date:
    return value if isinstance(value, date) else date.fromisoformat(value)
