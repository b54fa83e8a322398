"""The examples job on real tables: what it writes, that it repeats itself, what it refuses."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fold_oracle import collect, fold_of, midnight, payment, payments_frame
from pyspark.sql import SparkSession
from storage_faults import DiedError, die_before

from jobs import build_examples, train_model
from jobs.common import Job
from lbsf.config import load_config
from lbsf.examples import split_of
from lbsf.schemas import EXAMPLES, FOLD_LOSS, LABELS, PAYMENTS
from lbsf.tables import Warehouse

START, CUT = date(2025, 1, 1), date(2025, 1, 20)
Row = dict[str, Any]
SETTINGS = (
    "fold.window_days=5",
    "examples.validation_share=0.2",
    "examples.test_share=0.2",
    "examples.out_of_time_from=2025-01-20",
    "training.ranks=2",
)


def users_labels(users: int = 300, label: int | None = None) -> list[tuple[str, date, int, date]]:
    """Three kinds of label in turn: known before the cut, observed after it, and known too late."""
    days = [
        (START + timedelta(days=10), CUT),
        (CUT, CUT + timedelta(days=9)),
        (CUT - timedelta(days=1), date(2025, 2, 1)),
    ]
    return [(f"user{n:03d}", days[n % 3][0], n % 2 if label is None else label, days[n % 3][1]) for n in range(users)]


def users_payments(users: int = 300) -> list[Row]:
    """Four payments of each user, every sixth day; every tenth user pays too late for its label."""
    return [
        payment(
            users * n + beat,
            f"user{n:03d}",
            midnight(START) + timedelta(days=6 * beat + (30 if n % 10 == 0 else 0), minutes=n),
            merchant_id=f"m{n % 7}",
            merchant_name="Corner shop",
        )
        for n in range(users)
        for beat in range(4)
    ]


def write(
    spark: SparkSession, warehouse: Warehouse, labels: list[tuple[str, date, int, date]], paid: list[Row]
) -> None:
    warehouse.overwrite(PAYMENTS, payments_frame(spark, paid).coalesce(1))
    warehouse.overwrite(LABELS, spark.createDataFrame(labels, LABELS.struct))


def main(overrides: list[str], *more: str) -> int:
    settings = [part for override in (*overrides, *SETTINGS, *more) for part in ("--set", override)]
    return build_examples.main(["--conf", "conf/local.yaml", *settings])


def test_examples_are_the_labels_folds_in_full_row_groups(
    job: Job, overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, paid = users_labels(), users_payments()
    write(job.spark, job.warehouse, labels, paid)
    config = load_config("conf/local.yaml", [*overrides, *SETTINGS]).fold
    assert main(overrides) == 0
    line = capsys.readouterr().out
    assert "in 300 | out 200 | train " in line
    assert "out_of_time 100 (50.0 %) | left out 100 (50.0 %) | " in line
    assert "| payments version 0 | labels version 0" in line

    found = collect(job.warehouse.read(EXAMPLES))
    expected = {
        (user, day): {**fold_of(paid, user, day, config), "label": label, "matured_on": matured_on}
        for user, day, label, matured_on in labels
        if matured_on <= CUT or day >= CUT
    }
    assert [{name: row[name] for name in row if name != "split"} for row in found] == [
        expected[key] for key in sorted(expected)
    ]
    assert sum(row["payments_kept"] == 0 for row in found) == 20  # those who paid too late
    # All payments were stored at once, months after the labels.
    paid = sum(row["payments_kept"] + row["payments_dropped"] for row in found)
    assert f"| ingested after the label's day {paid:,} (100.0 %) | " in line
    assert {row["split"] for row in found} == {"train", "validation", "test", "out_of_time"}

    loss = [row.asDict() for row in job.warehouse.read(FOLD_LOSS).collect()]
    for label in (0, 1):
        of_label = [row for row in found if row["label"] == label]
        counted = [row for row in loss if row["label"] == str(label)]
        assert sum(row["users"] for row in counted) == len(of_label) > 0
        assert sum(row["users"] for row in counted if row["history"] == "000") == sum(
            not row["history_days"] for row in of_label
        )
        for name in ("payments_dropped", "cents_dropped", "cents"):
            assert sum(row[name] for row in counted) == sum(row[name] for row in of_label)
    assert {(row["of_table"], row["table_version"]) for row in loss} == {("examples", 0)}

    sizes: dict[str, list[int]] = {}
    for path in (tmp_path / "warehouse/tables/examples").glob("split=*/*.parquet"):
        metadata = pq.ParquetFile(path).metadata
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        sizes.setdefault(path.parent.name.removeprefix("split="), []).extend(rows)
    assert len(sizes["train"]) >= 2 * 2 * 4
    for groups in sizes.values():
        assert len([size for size in groups if size < max(groups)]) <= 1

    assert main(overrides) == 0
    assert collect(job.warehouse.read(EXAMPLES)) == found


@pytest.fixture(scope="module")
def with_payments(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, list[str]]:
    """One warehouse for all refusals, for they write nothing."""
    overrides = [f"storage.root={tmp_path_factory.mktemp('refused')}"]
    warehouse = Warehouse(spark, load_config("conf/local.yaml", overrides).storage)
    warehouse.overwrite(PAYMENTS, payments_frame(spark, users_payments(60)).coalesce(1))
    return warehouse, overrides


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        pytest.param([], (), "table labels is empty", id="no labels"),
        pytest.param(users_labels(60, label=0), (), "of the train split are 0: a model needs both", id="one class: 0"),
        pytest.param(users_labels(60, label=1), (), "of the train split are 1: a model needs both", id="one class: 1"),
        pytest.param(
            [(user, date(2024, 6, 1), label, matured_on) for user, _, label, matured_on in users_labels(60)],
            (),
            "observed 2024-06-01 to 2024-06-01, but table payments holds 2025-01-01 to 2025-02-18",
            id="labels before all payments",
        ),
        pytest.param(
            [(user, date(2025, 3, 1), label, matured_on) for user, _, label, matured_on in users_labels(60)],
            (),
            "observed 2025-03-01 to 2025-03-01",
            id="labels after all payments",
        ),
        pytest.param(
            users_labels(60),
            ("examples.out_of_time_from=2025-01-05",),
            "no label falls into the train split",
            id="no train",
        ),
        pytest.param(
            users_labels(60),
            ("examples.validation_share=0",),
            "no label falls into the validation split",
            id="no validation",
        ),
        pytest.param(
            [(user, day, int(label and day < CUT), matured_on) for user, day, label, matured_on in users_labels(60)],
            (),
            "all 20 labels of the out_of_time split are 0: a model needs both defaults and non-defaults",
            id="one class out of time",
        ),
    ],
)
def test_a_refused_run_writes_nothing(
    with_payments: tuple[Warehouse, list[str]],
    labels: list[tuple[str, date, int, date]],
    settings: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    warehouse, overrides = with_payments
    warehouse.overwrite(LABELS, warehouse.spark.createDataFrame(labels, LABELS.struct))
    assert main(overrides, *settings) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not warehouse.exists(EXAMPLES)


def test_a_refused_run_leaves_the_examples_as_they_were(
    job: Job, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write(job.spark, job.warehouse, users_labels(60), users_payments(60))
    assert main(overrides) == 0
    before = (job.warehouse.version(EXAMPLES), collect(job.warehouse.read(EXAMPLES)))
    write(job.spark, job.warehouse, users_labels(60, label=1), users_payments(60))
    assert main(overrides) == 2
    assert "a model needs both" in capsys.readouterr().err
    assert (job.warehouse.version(EXAMPLES), collect(job.warehouse.read(EXAMPLES))) == before


@pytest.mark.parametrize(("missing", "present"), [("payments", LABELS), ("labels", PAYMENTS)])
def test_a_missing_table_is_named(
    job: Job, overrides: list[str], missing: str, present: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    job.warehouse.overwrite(present, job.spark.createDataFrame([], present.struct))
    assert main(overrides) == 2
    assert f"table {missing} does not exist" in capsys.readouterr().err
    assert not job.warehouse.exists(EXAMPLES)


def test_small_data_are_refused_with_shares_that_help(
    job: Job, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """354 labels, 30 of them bad, and by chance none of these among the validation users."""
    default_shares = ("examples.validation_share=0.1", "examples.test_share=0.1", "examples.out_of_time_from=null")
    day = START + timedelta(days=10)
    users = [(f"user{n:03d}", day, 0, day) for n in range(354)]
    config = load_config("conf/local.yaml", default_shares).examples
    placed = split_of(job.spark.createDataFrame(users, LABELS.struct), config).collect()
    bad = {row["user_id"] for row in [row for row in placed if row["split"] != "validation"][100:130]}
    labels = [(user, day, int(user in bad), day) for user, *_ in users]
    write(job.spark, job.warehouse, labels, users_payments(354))

    assert main(overrides, *default_shares) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "labels of the validation split are 0: a model needs both" in error
    assert not job.warehouse.exists(EXAMPLES)
    promised = re.findall(r"examples\.(\w+)_share=([\d.]+) would hold (\d+) defaults and (\d+) others", error)
    assert [split for split, *_ in promised] == ["validation", "test"]
    assert all(int(defaults) >= 5 for _, _, defaults, _ in promised)

    # What the line promises is what comes of it, for train_model too.
    remedy = [f"examples.{split}_share={share}" for split, share, *_ in promised]
    assert main(overrides, *remedy, "examples.out_of_time_from=2025-12-01") == 0
    printed = capsys.readouterr().out
    found = job.warehouse.read(EXAMPLES).groupBy("split", "label").count().collect()
    held = {(row["split"], row["label"]): row["count"] for row in found}
    for split, _, defaults, others in promised:
        assert (held[split, 1], held[split, 0]) == (int(defaults), int(others))
    assert {split for split, _ in held} == {"train", "validation", "test"}
    assert train_model._splits(job.warehouse.data_files(EXAMPLES, 0)).keys() == {"train", "validation", "test"}
    # Enough to train, too little to rely on; and the test that was asked for is empty.
    assert f"  validation holds {promised[0][2]} defaults and {promised[0][3]} others: with fewer than 30" in printed
    assert "| out_of_time 0 (no label is observed from 2025-12-01 on) | " in printed


def test_a_run_killed_before_fold_loss_is_made_good_by_the_next(
    job: Job, overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(job.spark, job.warehouse, users_labels(60), users_payments(60))
    die_before(monkeypatch, FOLD_LOSS)
    with pytest.raises(DiedError):
        main(overrides)
    monkeypatch.undo()
    assert job.warehouse.exists(EXAMPLES) and not job.warehouse.exists(FOLD_LOSS)
    assert main(overrides) == 0
    loss = job.warehouse.read(FOLD_LOSS).collect()
    assert {row["table_version"] for row in loss} == {job.warehouse.version(EXAMPLES)}
    assert sum(row["users"] for row in loss) == job.warehouse.read(EXAMPLES).count()
