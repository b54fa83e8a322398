"""Night after night on real tables: each way to fold gives the same rows, and every accident heals by running again."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from delta.tables import DeltaTable
from deltalake import DeltaTable as DeltaFiles
from fold_oracle import DAY, collect, fold_of, midnight, payment, payments_frame
from pyspark.sql import functions as F
from storage_faults import DAMAGES, DiedError, damage, die_before, fill, read_only, small_disk

from jobs import fold_payments
from jobs.common import Job, Summary
from lbsf.config import load_config
from lbsf.errors import InputError
from lbsf.schemas import FOLD_LOSS, FOLDS, PAYMENTS, TableSchema
from lbsf.tables import Warehouse, fold_run
from lbsf.tables.log import replace_files

Row = dict[str, Any]
FIRST = date(2025, 1, 25)  # windows reach over the end of a month
SETTINGS = (
    "fold.window_days=8",
    "fold.max_payments_per_merchant=4",
    "fold.max_merchants=3",
    "fold.frequent_merchants=1",
    "fold.row_group_users=3",
)


class Nights:
    """A warehouse whose payments grow, and its folds."""

    def __init__(self, conf_path: str, overrides: list[str], **changes: str):
        values = [*overrides, *SETTINGS, *(f"fold.{name}={value}" for name, value in changes.items())]
        self.job = Job(load_config(conf_path, values), conf_path, values)
        self.spark, self.warehouse = self.job.spark, self.job.warehouse
        self.known: dict[str, Row] = {}

    def deliver(self, payments: list[Row]) -> None:
        """Ingest's own write: what is stored already is not stored twice."""
        self.warehouse.insert_new(PAYMENTS, payments_frame(self.spark, payments).coalesce(1), PAYMENTS.key)
        self.known = {p["payment_id"]: p for p in payments} | self.known

    def delete(self, payment_id: str) -> None:
        self._payments().delete(F.col("payment_id") == payment_id)
        del self.known[payment_id]

    def correct(self, payment_id: str, **values: Any) -> None:
        self._payments().update(
            F.col("payment_id") == payment_id, {name: F.lit(value) for name, value in values.items()}
        )
        self.known[payment_id] |= values

    def _payments(self) -> DeltaTable:
        return DeltaTable.forPath(self.spark, self.warehouse.location(PAYMENTS))

    def files(self) -> set[Path]:
        """All Parquet files in the folder of folds, committed or not."""
        return set(Path(self.warehouse.location(FOLDS)).rglob("*.parquet"))

    def refused(self, *as_of: date) -> str:
        """What a fold that is refused says; it leaves the table and its folder as they were."""
        version, files = self.warehouse.version(FOLDS), self.files()
        with pytest.raises(InputError) as refusal:
            self.fold(*as_of)
        assert (self.warehouse.version(FOLDS), self.files()) == (version, files)
        return str(refusal.value)

    def loss(self, as_of: date) -> dict[str, int]:
        """fold_loss of a day."""
        rows = self.warehouse.read(FOLD_LOSS).where((F.col("as_of") == F.lit(as_of)) & (F.col("of_table") == "folds"))
        sums = rows.agg(F.sum("users"), F.sum("payments"), F.max("table_version")).collect()[0]
        return dict(zip(("users", "payments", "table_version"), sums, strict=True))

    def fold(self, *as_of: date, full: bool = False) -> Summary:
        return fold_payments.run(self.job, as_of=list(as_of), full=full)

    def rows(self, as_of: date) -> list[Row]:
        return collect(self.warehouse.read(FOLDS).where(F.col("as_of") == F.lit(as_of)))

    def expected(self, as_of: date) -> list[Row]:
        """The oracle's rows."""
        config = self.job.config.fold
        rows = [
            fold_of(self.known.values(), user, as_of, config) for user in {p["user_id"] for p in self.known.values()}
        ]
        return sorted((row for row in rows if row["history_days"]), key=lambda row: row["user_id"])

    def assert_right(self, as_of: date) -> None:
        """Equal to the oracle, and to a full fold of the same payments in every column."""
        found = self.rows(as_of)
        assert [{name: row[name] for name in fold} for row, fold in zip(found, self.expected(as_of), strict=True)] == (
            self.expected(as_of)
        )
        self.fold(as_of, full=True)
        assert self.rows(as_of) == found


@pytest.fixture
def nights(overrides: list[str], spark: Any) -> Nights:
    made = Nights("conf/local.yaml", overrides)
    made.deliver(day_of_payments(random.Random(1), range(9), 60))
    return made


def day_of_payments(rng: random.Random, days: range, count: int) -> list[Row]:
    return [
        payment(
            rng.randrange(10**9),
            f"user{rng.randrange(7)}",
            midnight(FIRST) + rng.choice(days) * DAY + timedelta(seconds=rng.randrange(86_400)),
            merchant_id=f"m{rng.randrange(5)}",
            merchant_name=rng.choice([None, "Corner Shop", "corner shop 2"]),
            category=rng.choice([None, "food", "fuel"]),
            description=rng.choice([None, "a few words", "card 7"]),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", [3, 4])
def test_random_nights_equal_the_oracle_and_a_full_fold(nights: Nights, seed: int) -> None:
    rng = random.Random(seed)
    as_of = FIRST + 9 * DAY
    nights.fold(as_of)
    for _ in range(3):
        as_of += rng.choice([1, 1, 2]) * DAY  # a night may be missed
        day = (as_of - FIRST).days
        late = day_of_payments(rng, range(day - 9, day - 1), 3)
        again = rng.sample(list(nights.known.values()), 4)
        nights.deliver([*day_of_payments(rng, range(day - 2, day), 10), *late, *again])
        if rng.random() < 0.5:
            nights.delete(rng.choice(list(nights.known)))
        if rng.random() < 0.5:
            nights.correct(rng.choice(list(nights.known)), description="put right", merchant_id="m9")
        before = nights.rows(as_of - DAY)
        assert str(nights.fold(as_of).details["way"]).startswith("from ")
        assert nights.rows(as_of - DAY) == before
        nights.assert_right(as_of)


def test_the_same_night_again(nights: Nights) -> None:
    as_of = FIRST + 9 * DAY
    assert nights.fold(as_of).details["way"] == "full"
    version = nights.warehouse.version(FOLDS)
    again = nights.fold(as_of)
    assert (again.details["way"], nights.warehouse.version(FOLDS)) == ("up to date", version)
    assert again.rows_out == len(nights.rows(as_of))
    # A late delivery for it goes on from the night itself.
    nights.deliver(day_of_payments(random.Random(2), range(9), 5))
    assert nights.fold(as_of).details["way"] == f"from {as_of}"
    nights.assert_right(as_of)


def test_payments_laid_out_anew_are_no_change(nights: Nights) -> None:
    as_of = FIRST + 9 * DAY
    nights.fold(as_of)
    nights.deliver(day_of_payments(random.Random(2), range(9, 10), 5))
    DeltaTable.forPath(nights.spark, nights.warehouse.location(PAYMENTS)).optimize().executeCompaction()
    done = nights.fold(as_of + DAY)
    assert done.details["way"] == f"from {as_of}"
    nights.assert_right(as_of + DAY)


def test_what_cannot_be_followed_is_folded_in_full(nights: Nights) -> None:
    as_of = FIRST + 9 * DAY
    nights.fold(as_of)
    nights.deliver(day_of_payments(random.Random(2), range(9, 10), 5))
    # Far ahead: less of the last night remains than a full fold reads.
    nights.deliver(day_of_payments(random.Random(5), range(15, 18), 20))
    done = nights.fold(FIRST + 18 * DAY)
    assert done.details["way"] == "full"
    nights.assert_right(FIRST + 18 * DAY)


@pytest.mark.parametrize("last", ["its tasks", "its commit"])
def test_a_run_that_died_heals(nights: Nights, monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    as_of = FIRST + 9 * DAY
    nights.fold(as_of)
    before = nights.rows(as_of)
    nights.deliver(day_of_payments(random.Random(2), range(9, 10), 5))

    def die(*args: Any, **values: Any) -> int:
        if last == "its commit":
            replace_files(*args, **values)
        raise DiedError

    monkeypatch.setattr(fold_run, "replace_files", die)
    with pytest.raises(DiedError):
        nights.fold(as_of + DAY)
    monkeypatch.undo()
    assert nights.rows(as_of) == before
    nights.fold(as_of + DAY)
    nights.assert_right(as_of + DAY)


def test_of_two_runs_at_once_one_is_refused(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    as_of = FIRST + 9 * DAY
    nights.fold(as_of)
    nights.deliver(day_of_payments(random.Random(2), range(9, 10), 5))
    real: Callable[..., int] = replace_files

    def overtaken(*args: Any, **values: Any) -> int:
        monkeypatch.undo()
        nights.fold(as_of + DAY)  # another run, from start to end
        return real(*args, **values)

    monkeypatch.setattr(fold_run, "replace_files", overtaken)
    with pytest.raises(InputError, match="another job wrote the table meanwhile"):
        nights.fold(as_of + DAY)
    nights.assert_right(as_of + DAY)


def test_many_days_in_one_pass_and_through_spark(overrides: list[str], nights: Nights) -> None:
    days = [FIRST + number * DAY for number in (3, 6, 9)]
    nights.fold(*days)
    assert nights.warehouse.version(FOLDS) == 1
    found = [nights.rows(as_of) for as_of in days]
    for as_of in days:
        nights.assert_right(as_of)
    through = Nights("conf/local.yaml", overrides, through_spark="true")
    through.fold(*days)
    assert [through.rows(as_of) for as_of in days] == found


def test_fold_loss_adds_up(nights: Nights) -> None:
    as_of = FIRST + 9 * DAY
    nights.fold(as_of)
    loss = [row.asDict() for row in nights.warehouse.read(FOLD_LOSS).collect()]
    folds = nights.rows(as_of)
    inside = [p for p in nights.known.values() if midnight(as_of) - 8 * DAY <= p["paid_at"] < midnight(as_of)]
    assert sum(row["users"] for row in loss) == len(folds)
    assert sum(row["payments"] for row in loss) == len(inside)
    assert sum(row["cents"] for row in loss) == sum(abs(int(p["amount"] * 100)) for p in inside)
    dropped = sum(row["payments_dropped"] for row in folds)
    assert sum(row["payments_dropped"] for row in loss) == dropped > 0
    assert {(row["of_table"], row["label"], row["table_version"]) for row in loss} == {("folds", "unknown", 1)}


def test_a_damaged_file_of_last_nights_folds_means_a_full_fold(nights: Nights) -> None:
    as_of = FIRST + 9 * DAY
    nights.fold(as_of)
    for seed, how in enumerate(DAMAGES, start=2):
        night, as_of = as_of, as_of + DAY
        nights.deliver(day_of_payments(random.Random(seed), range((night - FIRST).days, (as_of - FIRST).days), 5))
        damage(nights.warehouse.data_files(FOLDS, nights.warehouse.version(FOLDS))[-1].path, how)
        problem = {"missing": "is missing", "garbled": "cannot be read"}.get(how, "is damaged (")
        damaged_night = f"full: a file of the folds of {night} {problem}"
        assert str(nights.fold(as_of).details["way"]).startswith(damaged_night)
        if how != "garbled":  # Nobody reads the file to find that out.
            assert str(nights.fold(night).details["way"]).startswith(damaged_night)
    nights.assert_right(as_of)


def test_a_damaged_file_of_payments_is_named_with_what_helps(nights: Nights) -> None:
    as_of = FIRST + 9 * DAY
    nights.fold(as_of)
    before = nights.rows(as_of)
    nights.deliver(day_of_payments(random.Random(2), range(9, 10), 5))
    file = Path(nights.warehouse.data_files(PAYMENTS, 0)[0].path)
    whole = file.read_bytes()
    for how in DAMAGES:
        file.write_bytes(whole)
        damage(file, how)
        message = nights.refused(as_of, as_of + DAY)
        problem = "is missing" if how == "missing" else "cannot be read ("
        assert message.startswith(f"table payments: file {file} {problem}")
        assert message.endswith("ingest its deliveries again (docs/operations.md, A damaged file)")
        assert "\n" not in message
    # The remedy: the file leaves the table, its payments are delivered again.
    file.unlink()
    DeltaFiles(nights.warehouse.location(PAYMENTS)).repair()
    again = payments_frame(nights.spark, list(nights.known.values())).coalesce(1)
    nights.warehouse.insert_new(PAYMENTS, again, PAYMENTS.key)
    assert nights.fold(as_of + DAY).details["way"] == "full"
    nights.assert_right(as_of + DAY)
    nights.fold(as_of)
    assert [row["cents"] for row in nights.rows(as_of)] == [row["cents"] for row in before]


def test_a_run_killed_before_fold_loss_writes_it_when_run_again(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_of = FIRST + 9 * DAY
    for delivered in (0, 5):  # Without any fold_loss of that day, then with that of older folds.
        nights.deliver(day_of_payments(random.Random(delivered), range(9), delivered or 1))
        die_before(monkeypatch, FOLD_LOSS)
        with pytest.raises(DiedError):
            nights.fold(as_of)
        monkeypatch.undo()
        folded = nights.warehouse.version(FOLDS)
        nights.fold(as_of - DAY)  # Another day's folds are newer now.
        assert nights.fold(as_of).details["way"] == "up to date"
        paid = sum(row["payments_kept"] + row["payments_dropped"] for row in nights.rows(as_of))
        loss = nights.loss(as_of)
        assert (loss["users"], loss["payments"]) == (len(nights.rows(as_of)), paid)
        assert loss["table_version"] >= folded
        version = nights.warehouse.version(FOLD_LOSS)
        nights.fold(as_of)
        assert nights.warehouse.version(FOLD_LOSS) == version


def test_a_run_killed_before_sql_knows_its_tables_is_made_good_by_the_next(
    overrides: list[str], spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_of, database = FIRST + 9 * DAY, "lbsf_test_nights"
    nights = Nights("conf/local.yaml", [*overrides, f"storage.database={database}"])
    register = Warehouse.register
    try:
        nights.deliver(day_of_payments(random.Random(1), range(9), 20))
        for unknown in (FOLDS, FOLD_LOSS):

            def die(self: Warehouse, table: TableSchema, unknown: TableSchema = unknown) -> None:
                if table is unknown:
                    raise DiedError
                register(self, table)

            monkeypatch.setattr(Warehouse, "register", die)
            with pytest.raises(DiedError):
                nights.fold(as_of)
            monkeypatch.undo()
        assert nights.fold(as_of).details["way"] == "up to date"
        for table in (FOLDS, FOLD_LOSS):
            assert spark.table(f"{database}.{table.name}").count() == nights.warehouse.read(table).count() > 0
    finally:
        spark.sql(f"DROP SCHEMA IF EXISTS {database} CASCADE")


def test_payments_of_several_days_are_counted_once(overrides: list[str], nights: Nights) -> None:
    # Windows of eight days: the first two overlap, the third begins after a gap.
    days = [FIRST + number * DAY for number in (3, 6, 20)]
    nights.deliver(day_of_payments(random.Random(6), range(9, 20), 40))
    windows = [(midnight(day) - 8 * DAY, midnight(day)) for day in days]
    paid = [p["paid_at"] for p in nights.known.values()]
    once = sum(any(begin <= at < end for begin, end in windows) for at in paid)
    in_windows = sum(begin <= at < end for begin, end in windows for at in paid)
    through = Nights("conf/local.yaml", overrides, through_spark="true")
    for summary in (nights.fold(*days), through.fold(*days)):
        assert (summary.rows_in, summary.details["payments in windows"]) == (once, in_windows)
    assert once < in_windows


def test_of_two_first_folds_at_once_one_is_refused(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    as_of = FIRST + 9 * DAY
    real: Callable[..., None] = fold_run.create_table

    def overtaken(*args: Any) -> None:
        monkeypatch.undo()
        nights.fold(as_of)  # another run, from start to end
        real(*args)

    monkeypatch.setattr(fold_run, "create_table", overtaken)
    with pytest.raises(InputError, match="^table folds: another job wrote the table meanwhile; run this again$"):
        nights.fold(as_of)
    assert len(nights.files()) == len(nights.warehouse.data_files(FOLDS, 1))
    nights.assert_right(as_of)


def test_a_disk_that_takes_no_more_is_named_and_nothing_is_left_behind(
    overrides: list[str], spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        nights = Nights("conf/local.yaml", [*overrides, f"storage.root={disk}"])
        nights.deliver(day_of_payments(random.Random(1), range(9), 60))
        as_of = FIRST + 9 * DAY
        nights.fold(as_of)
        nights.deliver(day_of_payments(random.Random(2), range(9, 10), 5))
        full = rf"^no space left on the disk \(storage\.root {disk}: 0 MiB free, "
        # In a task.
        filler = fill(disk)
        assert re.match(full, nights.refused(as_of + DAY))
        filler.unlink()

        # At the commit of the tasks' files.
        def on_full_disk(*args: Any, **values: Any) -> int:
            fill(disk)
            return replace_files(*args, **values)

        monkeypatch.setattr(fold_run, "replace_files", on_full_disk)
        assert re.match(full, nights.refused(as_of + DAY))
        monkeypatch.undo()

        # In Spark's own write: the job's line says so, and nothing of the delivery is stored.
        fill(disk)
        version = nights.warehouse.version(PAYMENTS)
        with pytest.raises(InputError, match=full), nights.job.step("deliver"):
            nights.warehouse.insert_new(
                PAYMENTS, payments_frame(spark, day_of_payments(random.Random(3), range(9), 50)), PAYMENTS.key
            )
        assert nights.warehouse.version(PAYMENTS) == version
        filler.unlink()

        with read_only(disk):
            assert re.match(rf"^{disk}/.*: Read-only file system; the user who runs", nights.refused(as_of + DAY))
            with pytest.raises(InputError, match=rf"^{disk}/.*: Read-only file system"), nights.job.step("deliver"):
                nights.warehouse.insert_new(
                    PAYMENTS, payments_frame(spark, day_of_payments(random.Random(3), range(9), 50)), PAYMENTS.key
                )
        nights.fold(as_of + DAY)
        nights.assert_right(as_of + DAY)
