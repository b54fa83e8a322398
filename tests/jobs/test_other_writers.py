"""Tables that somebody changed with deltalake, the library that a Python user has at hand, and not with Spark."""

from __future__ import annotations

import random

import pytest
from deltalake import DeltaTable
from fold_oracle import DAY
from pyspark.sql import SparkSession
from test_fold_nights import FIRST, Nights, day_of_payments

from lbsf.folds.packed import PackedFolds
from lbsf.loading.petastorm_reader import read_row_groups
from lbsf.schemas import FOLDS, PAYMENTS, TableSchema

AS_OF = FIRST + 9 * DAY
GONE = "user3"


@pytest.fixture
def nights(overrides: list[str], spark: SparkSession) -> Nights:
    made = Nights("conf/local.yaml", overrides)
    made.deliver(day_of_payments(random.Random(1), range(9), 60))
    made.fold(AS_OF)
    return made


def plain(nights: Nights, table: TableSchema) -> DeltaTable:
    return DeltaTable(nights.warehouse.location(table))


def forget(nights: Nights, user: str) -> None:
    """A user's right: DELETE in every table."""
    for table in (PAYMENTS, FOLDS):
        assert plain(nights, table).delete(f"user_id = '{user}'")["num_deleted_rows"] > 0
    nights.known = {key: paid for key, paid in nights.known.items() if paid["user_id"] != user}


def test_a_night_after_deletes_and_updates_by_deltalake_is_right(nights: Nights) -> None:
    payments = sorted(nights.known)
    plain(nights, PAYMENTS).delete(f"payment_id = '{payments[0]}'")
    del nights.known[payments[0]]
    plain(nights, PAYMENTS).update({"merchant_id": "'m9'"}, predicate=f"payment_id = '{payments[1]}'")
    nights.known[payments[1]] |= {"merchant_id": "m9"}
    forget(nights, GONE)
    nights.deliver(day_of_payments(random.Random(2), range(8, 10), 10))
    # Its commits change rows, and the change feed that it writes says whose.
    assert nights.fold(AS_OF + DAY).details["way"] == f"from {AS_OF}"
    nights.assert_right(AS_OF + DAY)


def test_a_night_after_files_were_laid_out_anew_by_deltalake_is_right(nights: Nights) -> None:
    nights.deliver(day_of_payments(random.Random(2), range(8, 10), 10))
    assert plain(nights, PAYMENTS).optimize.compact()["numFilesRemoved"] > 0
    assert nights.fold(AS_OF + DAY).details["way"] == f"from {AS_OF}"
    nights.assert_right(AS_OF + DAY)
    plain(nights, PAYMENTS).optimize.z_order(["paid_at"])
    nights.deliver(day_of_payments(random.Random(3), range(9, 11), 10))
    nights.fold(AS_OF + 2 * DAY)
    nights.assert_right(AS_OF + 2 * DAY)


def test_training_reads_what_deltalake_left(nights: Nights) -> None:
    before = {row["user_id"] for row in nights.rows(AS_OF)}
    forget(nights, GONE)
    files = nights.warehouse.data_files(FOLDS, nights.warehouse.version(FOLDS))
    packed = PackedFolds.concat(list(read_row_groups([file.path for file in files], shard=0, shards=1)))
    assert len(packed) == sum(file.rows for file in files) == len(before - {GONE})
