"""The fold job on real tables: what it writes, what a repeated run changes, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fold_oracle import BUCKETS, DAY, collect, fold_of, midnight, payment, payments_frame
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from jobs import fold_payments
from jobs.common import Job
from lbsf.config import load_config
from lbsf.schemas import FOLDS, PAYMENTS
from lbsf.tables import DataFile, Warehouse, stored_specs

FIRST, LAST = date(2025, 1, 1), date(2025, 1, 10)
PAID = [
    payment(
        number,
        f"user{number % 13:02d}",
        midnight(FIRST) + number % 10 * DAY,
        merchant_id=f"m{number % 3}",
        merchant_name=f"Shop {number % 3}",
        category="food",
    )
    for number in range(150)
]
SMALL_FOLD = (
    "fold.window_days=5",
    "fold.max_payments_per_merchant=1",
    "fold.max_merchants=2",
    "fold.frequent_merchants=1",
    "fold.row_group_users=3",
)


@dataclass
class Scratch:
    """A warehouse with payments, and the job's command line over it."""

    warehouse: Warehouse
    overrides: list[str]

    def main(self, as_of: str, *overrides: str) -> int:
        settings = [part for override in (*self.overrides, *overrides) for part in ("--set", override)]
        return fold_payments.main(["--conf", "conf/local.yaml", *settings, "--as-of", as_of])

    def rows(self, as_of: date) -> list[dict[str, Any]]:
        folds = self.warehouse.read(FOLDS).where(F.col("as_of") == F.lit(as_of))
        return collect(folds.drop("user_bucket", "payments_version"))


@pytest.fixture
def scratch(job: Job, overrides: list[str]) -> Scratch:
    job.warehouse.overwrite(PAYMENTS, payments_frame(job.spark, PAID).coalesce(1))
    return Scratch(job.warehouse, [*overrides, *SMALL_FOLD])


def test_folds_of_a_day_are_written_and_replaced_alone(
    scratch: Scratch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config("conf/local.yaml", scratch.overrides).fold
    assert scratch.main("2025-01-08") == 0
    line = capsys.readouterr().out
    # Days 3 to 7 hold half of the payments; each user keeps one payment at each of two merchants.
    assert "fold_payments" in line
    assert "in 75 | out 13 | merchants 26 | payments dropped 49 | way full | folded again 0" in line
    assert "payments version 0 | folds version 1" in line
    eighth = scratch.rows(date(2025, 1, 8))
    users = sorted({p["user_id"] for p in PAID})
    assert eighth == [fold_of(PAID, user, date(2025, 1, 8), config) for user in users]

    files = list((tmp_path / "warehouse/tables/folds/as_of=2025-01-08").glob("*/*.parquet"))
    assert len(files) == BUCKETS
    for path in files:
        file = pq.ParquetFile(path)
        in_file = file.read(["user_id"])["user_id"].to_pylist()
        assert in_file == sorted(in_file)
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        assert max(sizes) <= 3
        assert max(sizes) - min(sizes) <= 1

    assert scratch.main("2025-01-11") == 0  # the day after the last payment: all of it is known
    assert scratch.rows(date(2025, 1, 8)) == eighth
    assert scratch.rows(date(2025, 1, 11)) == [fold_of(PAID, user, date(2025, 1, 11), config) for user in users]

    eleventh = scratch.rows(date(2025, 1, 11))
    assert scratch.main("2025-01-08") == 0
    assert scratch.rows(date(2025, 1, 8)) == eighth
    assert scratch.rows(date(2025, 1, 11)) == eleventh


def test_payments_that_left_the_window_leave_no_fold_behind(scratch: Scratch, spark: SparkSession) -> None:
    assert scratch.main("2025-01-08") == 0
    fewer = [p for p in PAID if p["user_id"] != "user03"]
    scratch.warehouse.overwrite(PAYMENTS, payments_frame(spark, fewer))
    assert scratch.main("2025-01-08") == 0
    assert [row["user_id"] for row in scratch.rows(date(2025, 1, 8))] == sorted({p["user_id"] for p in fewer})


def test_a_refused_run_writes_nothing_and_says_why(scratch: Scratch, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(as_of: str, *overrides: str) -> str:
        assert scratch.main(as_of, *overrides) == 2
        message = capsys.readouterr().err
        assert len(message.strip().splitlines()) == 1
        return message

    for as_of in ("2024-12-31", "2025-01-01", "2025-01-12"):
        assert "holds 2025-01-01 to 2025-01-10; choose a day from 2025-01-02 to 2025-01-11" in refused(as_of)
    assert not scratch.warehouse.exists(FOLDS)

    assert scratch.main("2025-01-08") == 0
    before = (scratch.warehouse.version(FOLDS), scratch.rows(date(2025, 1, 8)))
    message = refused("2025-01-08", "fold.window_days=4")
    assert "v2-w5-" in message
    assert "v2-w4-" in message
    refused("2025-01-12")
    assert (scratch.warehouse.version(FOLDS), scratch.rows(date(2025, 1, 8))) == before


@pytest.mark.parametrize(
    ("payments", "as_of", "message"),
    [
        pytest.param(None, "2025-01-08", "table payments does not exist", id="no payments table"),
        pytest.param([], "2025-01-08", "table payments is empty", id="an empty payments table"),
        pytest.param(
            [payment(1, paid_at=midnight(FIRST)), payment(2, paid_at=midnight(LAST))],
            "2025-01-08",
            "has none from 2025-01-03 on",
            id="a gap as long as the window",
        ),
    ],
)
def test_no_payments_no_folds(
    job: Job,
    overrides: list[str],
    payments: list[dict[str, Any]] | None,
    as_of: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if payments is not None:
        job.warehouse.overwrite(PAYMENTS, payments_frame(job.spark, payments))
    assert Scratch(job.warehouse, [*overrides, *SMALL_FOLD]).main(as_of) == 2
    assert message in capsys.readouterr().err
    assert not job.warehouse.exists(FOLDS)


@pytest.mark.parametrize("arguments", [[], ["--as-of", "2025-02-30"], ["--as-of", "yesterday"]])
def test_as_of_must_be_a_day(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main: Callable[[list[str]], int] = fold_payments.main
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "--as-of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "wrong", "message"),
    [
        pytest.param({"merchant_id": None}, (), "1 payments have no merchant_id", id="a payment without merchant"),
        pytest.param({"amount": None}, (), "1 payments have no amount", id="a payment without amount"),
        pytest.param(
            {"paid_at": midnight(date(2025, 2, 3))}, (), "their age would be wrong", id="a payment in another month"
        ),
        pytest.param(
            {}, ("storage.user_buckets=3",), "do not belong there with storage.user_buckets=3", id="other buckets"
        ),
        pytest.param({}, ("fold.window_days=0",), "fold.window_days", id="no window"),
        pytest.param({}, ("fold.max_merchants=-1",), "fold.max_merchants", id="a cap below nought"),
        pytest.param({}, ("fold.max_payments_per_merchant=0",), "fold.max_payments_per_merchant", id="a cap of nought"),
    ],
)
def test_payments_that_no_fold_may_hold(
    scratch: Scratch,
    spark: SparkSession,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    wrong: tuple[str, ...],
    message: str,
) -> None:
    assert scratch.main("2025-01-08") == 0
    before = (scratch.warehouse.version(FOLDS), scratch.rows(date(2025, 1, 8)))
    files = set((tmp_path / "warehouse/tables/folds").rglob("*.parquet"))
    broken = payment(999, "user03", midnight(date(2025, 1, 6))) | changes
    nullable = StructType([StructField(f.name, f.dataType) for f in PAYMENTS.struct])
    frame = spark.createDataFrame([*PAID, broken], nullable).coalesce(1)
    scratch.warehouse.overwrite(PAYMENTS, frame)
    assert scratch.main("2025-01-08", *wrong) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert message in error
    assert (scratch.warehouse.version(FOLDS), scratch.rows(date(2025, 1, 8))) == before
    assert set((tmp_path / "warehouse/tables/folds").rglob("*.parquet")) == files


def test_a_second_night_through_spark_knows_its_own_spec(scratch: Scratch) -> None:
    settings = ("fold.through_spark=true", "fold.max_payments_per_merchant=1000000")
    # Longer than what Spark keeps of a text in its statistics.
    assert len(load_config("conf/local.yaml", [*scratch.overrides, *settings]).fold.spec) > 32
    for day in ("2025-01-06", "2025-01-07"):
        assert scratch.main(day, *settings) == 0
    assert scratch.rows(date(2025, 1, 7)) != []


def test_specs_that_the_log_states_whole_are_not_read_from_files() -> None:
    spec = "v2-w180-m128f32-p256-c512-h64-t8192x6"
    files = [
        DataFile(f"nowhere/{day}.parquet", 10, {"as_of": day}, {"fold_spec": spec}, {"fold_spec": spec})
        for day in ("2025-07-01", "2025-07-02")
    ]
    assert stored_specs(files) == {spec}
