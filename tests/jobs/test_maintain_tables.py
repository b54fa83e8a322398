"""The maintenance job on real Delta tables and a real MLflow store: what it merges, removes and keeps."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import mlflow
import pandas as pd
import pytest
from delta.tables import DeltaTable
from deltalake import DeltaTable as PlainDeltaTable
from fold_oracle import DAY, FOLD, collect, fold_of, midnight, payment, payments_frame
from fold_rows import random_rows, small_model
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, IntegerType, StringType

from jobs import fold_payments, maintain_tables
from jobs.common import Job
from lbsf.config import load_config
from lbsf.errors import InputError
from lbsf.folds.packed import LIST_COLUMNS
from lbsf.models.artifact import save_model
from lbsf.schemas import EXAMPLES, FOLDS, PAYMENTS, SCORES, Column, TableSchema
from lbsf.tables import Maintained, maintain

FIRST = date(2025, 1, 1)
EIGHTH, NINTH = date(2025, 1, 8), date(2025, 1, 9)
PAID = [
    payment(number, f"user{number % 7:02d}", midnight(FIRST) + number % 10 * DAY, merchant_id=f"m{number % 3}")
    for number in range(90)
]


@pytest.fixture
def settings(overrides: list[str], champion_uri: str) -> list[str]:
    """A warehouse of the test's own, and a model of its own in the shared store."""
    return [
        *overrides,
        f"tracking.uri={champion_uri}",
        f"tracking.model_name=maintained_{uuid.uuid4().hex}",
        "fold.window_days=5",
        "fold.max_payments_per_merchant=2",
        "maintenance.compact_files=2",
    ]


@pytest.fixture
def scratch(settings: list[str], spark: SparkSession) -> Job:
    return changed(settings)


def changed(settings: list[str], *overrides: str, retention_hours: int = 0) -> Job:
    """The same warehouse with some settings changed."""
    values = [*settings, *overrides]
    config = load_config("conf/local.yaml", values)
    # Tests do not wait a day for what the configuration would hold for so long.
    maintenance = config.maintenance.model_copy(update={"retention_hours": retention_hours})
    return Job(config.model_copy(update={"maintenance": maintenance}), "conf/local.yaml", values)


def deliver(job: Job, *payments: dict[str, Any]) -> None:
    assert job.warehouse.insert_new(PAYMENTS, payments_frame(job.spark, list(payments)), PAYMENTS.key) == len(payments)


def late(number: int, day: int, user: str) -> dict[str, Any]:
    return payment(1000 + number, user, midnight(FIRST) + day * DAY + timedelta(hours=1), merchant_id="late")


def folds_of(job: Job, day: date) -> list[dict[str, Any]]:
    return collect(job.warehouse.read(FOLDS).where(F.col("as_of") == F.lit(day)))


def data_files(job: Job, table: TableSchema) -> set[str]:
    """Every Parquet file in the table's folder, whether a commit names it or not."""
    root = Path(job.warehouse.location(table))
    return {str(path) for path in root.rglob("*.parquet") if "_delta_log" not in path.parts}


def files_of(job: Job, table: TableSchema, versions: Collection[int]) -> set[str]:
    # The log writes paths with escapes.
    return {unquote(file.path) for version in versions for file in job.warehouse.data_files(table, version)}


def tree(job: Job) -> dict[str, tuple[int, int]]:
    """Everything under the tables' folder, with size and time."""
    paths = Path(job.config.storage.root, "tables").rglob("*")
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def register(job: Job, folder: Path, params: dict[str, Any], tags: dict[str, str]) -> None:
    """A model version whose run and tags name what it was trained and validated on."""
    save_model(folder, *small_model())
    rows = pd.DataFrame(random_rows(2, seed=9))[["as_of", "fold_spec", *LIST_COLUMNS]]
    with job.tracker.run("train") as run:
        run.params(params)
        model = job.tracker.register(run, folder, rows.assign(as_of=pd.to_datetime(rows["as_of"])))
    job.tracker.tag(model, tags)


def write_payments(job: Job, versions: int) -> None:
    for version in range(versions):
        job.warehouse.overwrite(PAYMENTS, payments_frame(job.spark, PAID[version:]).coalesce(1))


def write_folds(job: Job, made_from: list[int], as_of: date = EIGHTH) -> None:
    """A version of folds for each version of payments that it is made from."""
    for payments_version in made_from:
        rows = [{**fold_of(PAID, f"user{user:02d}", as_of, FOLD), "user_bucket": 0} for user in range(3)]
        frame = job.spark.createDataFrame([{**row, "payments_version": payments_version} for row in rows], FOLDS.struct)
        job.warehouse.replace_day(FOLDS, frame.coalesce(1), as_of)


def write_examples(job: Job, made_from: list[int]) -> None:
    for payments_version in made_from:
        row = fold_of(PAID, "user01", EIGHTH, FOLD) | {"label": 1, "matured_on": NINTH, "split": "train"}
        frame = job.spark.createDataFrame([row], EXAMPLES.struct)
        job.warehouse.overwrite(EXAMPLES, frame, made_from={PAYMENTS.name: payments_version})


def write_score(job: Job, score_date: date, folds_version: int, scored_at: datetime) -> None:
    score = (score_date, "user01", 0.1, "A", 50.0, False, [], None, "lbsf", "1", folds_version, 0, scored_at)
    job.warehouse.replace_day(SCORES, job.spark.createDataFrame([score], SCORES.struct), score_date)


def test_a_fold_after_compaction_goes_on_and_equals_a_full_one(scratch: Job, settings: list[str]) -> None:
    week = changed(settings, retention_hours=168)
    deliver(scratch, *PAID)
    assert fold_payments.run(scratch, as_of=[EIGHTH]).details["way"] == "full"
    deliver(scratch, late(1, 5, "user01"))
    deliver(scratch, late(2, 6, "user02"), late(3, 6, "user03"))
    before = {file.path for file in scratch.warehouse.data_files(PAYMENTS, scratch.warehouse.version(PAYMENTS))}
    rows = sorted(scratch.warehouse.read(PAYMENTS).collect())

    done = maintain_tables.run(week, table=["payments"])
    files = scratch.warehouse.data_files(PAYMENTS, scratch.warehouse.version(PAYMENTS))
    partitions = [tuple(file.partition.items()) for file in files]
    assert len(partitions) == len(set(partitions)) < len(before)
    assert done.details["files compacted"] == len(before - {file.path for file in files})
    assert sorted(scratch.warehouse.read(PAYMENTS).collect()) == rows
    # Nothing is old enough to be removed: a fold that has not run since still finds the late payments' own files.
    assert done.details["files removed"] == 0

    deliver(scratch, late(4, 7, "user04"))
    assert fold_payments.run(scratch, as_of=[NINTH]).details["way"] == f"from {EIGHTH}"
    incremental = folds_of(scratch, NINTH)
    late_days = {row["user_id"] for row in incremental if "late" in row["merchant_id"]}
    assert late_days == {"user01", "user02", "user03", "user04"}
    assert fold_payments.run(scratch, as_of=[NINTH], full=True).details["way"] == "full"
    assert folds_of(scratch, NINTH) == incremental


def test_a_fold_whose_late_files_were_removed_reads_all_payments(scratch: Job) -> None:
    deliver(scratch, *PAID)
    fold_payments.run(scratch, as_of=[EIGHTH])
    deliver(scratch, late(1, 5, "user01"))
    maintain_tables.run(scratch)
    assert fold_payments.run(scratch, as_of=[NINTH]).details["way"] == "full"
    assert "late" in {merchant for row in folds_of(scratch, NINTH) for merchant in row["merchant_id"]}


def test_the_change_feed_stays_with_its_commits(scratch: Job) -> None:
    deliver(scratch, *PAID)
    fold_payments.run(scratch, as_of=[EIGHTH])
    table = DeltaTable.forPath(scratch.spark, scratch.warehouse.location(PAYMENTS))
    table.delete("payment_id = 'p5'")
    feed = Path(scratch.warehouse.location(PAYMENTS), "_change_data")
    changes = set(feed.rglob("*.parquet"))
    assert changes
    forgotten = feed / next(iter(changes)).parent.name / "cdc-forgotten.parquet"
    forgotten.parent.mkdir(exist_ok=True)
    forgotten.write_bytes(b"of no commit")
    maintain_tables.run(scratch)
    assert set(feed.rglob("*.parquet")) == changes
    assert fold_payments.run(scratch, as_of=[NINTH]).details["way"] == f"from {EIGHTH}"
    incremental = folds_of(scratch, NINTH)
    fold_payments.run(scratch, as_of=[NINTH], full=True)
    assert folds_of(scratch, NINTH) == incremental


def test_what_something_refers_to_stays_and_the_rest_goes(
    scratch: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    write_payments(scratch, versions=7)
    write_examples(scratch, made_from=[0, 1, 2, 1])
    write_folds(scratch, made_from=[2, 3, 4, 5])
    write_score(scratch, EIGHTH, 1, now)
    write_score(scratch, NINTH, 2, now - timedelta(days=scratch.config.storage.history_days + 1))
    register(scratch, tmp_path / "first", {"examples_version": 0, "seed": 1}, {})
    register(scratch, tmp_path / "second", {"examples_version": 0}, {"validation_examples_version": "1"})
    kept = {
        # Trained on, validated on, the newest.
        EXAMPLES: {0, 1, 3},
        # Scored lately, the newest.
        FOLDS: {1, 3},
        # What these were made from, the newest.
        PAYMENTS: {0, 1, 3, 5, 6},
        SCORES: {1},
    }
    before = {(table, version): collected(scratch, table, version) for table in kept for version in kept[table]}

    whole = tree(scratch)
    would = maintain_tables.run(scratch, dry_run=True)
    assert tree(scratch) == whole

    capsys.readouterr()
    done = maintain_tables.run(scratch)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("  payments: 0 files compacted, ")
    assert lines[0].endswith("versions kept 0-1 3 5-6")
    assert {(t, v): collected(scratch, t, v) for t in kept for v in kept[t]} == before
    for table, versions in kept.items():
        assert data_files(scratch, table) == files_of(scratch, table, versions), table.name

    removed = {path for path in whole if path.endswith(".parquet")} - set(tree(scratch))
    # Of payments 2 and 4 each partition's, of examples 2, of folds 0 and 2.
    assert done.details["files removed"] == len(removed) == 2 * 2 + 1 + 2
    assert done.details["bytes removed"] == sum(whole[path][0] for path in removed)
    assert done.details["versions kept"] == sum(map(len, kept.values()))
    assert {name: would.details[name] for name in done.details if name != "tables"} == {
        name: value for name, value in done.details.items() if name != "tables"
    }
    assert "| files removed 7 |" in lines[-1]
    hidden = [path for path in removed if Path(path).with_name(f".{Path(path).name}.crc").exists()]
    assert hidden == []

    after = tree(scratch)
    again = maintain_tables.run(scratch)
    assert tree(scratch) == after
    assert (again.details["files compacted"], again.details["files removed"], again.details["bytes removed"]) == (
        0,
    ) * 3


def collected(job: Job, table: TableSchema, version: int) -> list[Any]:
    return sorted(job.warehouse.read(table, version).collect(), key=str)


def test_folds_without_statistics_keep_their_payments_too(scratch: Job, spark: SparkSession) -> None:
    write_payments(scratch, versions=4)
    table = DeltaTable.createIfNotExists(spark).location(scratch.warehouse.location(FOLDS)).addColumns(FOLDS.struct)
    table.partitionedBy(*FOLDS.partition_by).property("delta.dataSkippingNumIndexedCols", "0").execute()
    write_folds(scratch, made_from=[1])
    (file,) = scratch.warehouse.data_files(FOLDS, 1)
    assert "payments_version" not in file.high
    maintain_tables.run(scratch, table=["payments"])
    assert data_files(scratch, PAYMENTS) == files_of(scratch, PAYMENTS, {1, 3})


def test_files_of_a_killed_job_go_once_they_are_old(scratch: Job, settings: list[str]) -> None:
    write_folds(scratch, made_from=[0])
    write_folds(scratch, made_from=[0])
    replaced = files_of(scratch, FOLDS, [0])
    root = Path(scratch.warehouse.location(FOLDS))
    folder = root / "as_of=2025-01-08" / "user_bucket=1"
    names = (
        "part-00001-{}.zstd.parquet",
        ".part-00001-{}-gone.zstd.parquet.crc",
        "../user_bucket=7{}/part-00007.zstd.parquet",
        "../../_delta_log/.00000000000000000002.json.{}.tmp",
        "../../_temporary/0/_temporary/attempt_{}/part-00000.parquet",
    )
    killed, running = (
        [Path(os.path.normpath(folder / name.format(of))) for name in names] for of in ("killed", "runs")
    )
    old = datetime.now().timestamp() - 3700
    for path in (*killed, *running):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not committed")
    for path in killed:
        os.utime(path, (old, old))
    hour = changed(settings, retention_hours=1)
    assert maintain_tables.run(hour, dry_run=True).details["files removed"] == len(killed)
    done = maintain_tables.run(hour)
    assert (done.details["files removed"], done.details["bytes removed"]) == (5, 5 * len(b"not committed"))
    assert not any(path.exists() for path in killed) and all(path.exists() for path in running)
    # The emptied folder of a partition goes too.
    assert not killed[2].parent.exists()
    # Replaced just now: the version before is younger than the retention.
    assert replaced <= data_files(scratch, FOLDS)


def test_compaction_leaves_few_files_and_row_groups_alone(scratch: Job, settings: list[str]) -> None:
    deliver(scratch, *PAID)
    deliver(scratch, late(1, 5, "user01"))
    write_folds(scratch, made_from=[0])
    frame = scratch.warehouse.read(FOLDS)
    scratch.warehouse.replace_day(FOLDS, frame.repartition(3, "user_id"), EIGHTH)
    files = data_files(scratch, FOLDS)
    assert len(files_of(scratch, FOLDS, [1])) > 1
    done = maintain_tables.run(changed(settings, "maintenance.compact_files=3", retention_hours=1))
    assert done.details["files compacted"] == 0
    assert (scratch.warehouse.version(PAYMENTS), scratch.warehouse.version(FOLDS)) == (1, 1)
    assert data_files(scratch, FOLDS) == files


@pytest.mark.parametrize("partition_by", [(), ("place", "day")], ids=["plain", "by place and day"])
def test_any_table_is_compacted_whatever_its_partitions(scratch: Job, partition_by: tuple[str, ...]) -> None:
    columns = (
        Column("number", IntegerType(), ""),
        Column("place", StringType(), "", True),
        Column("day", DateType(), ""),
    )
    visits = TableSchema("visits", "", columns, ("number",), partition_by)
    places = [None, "Łódź", "it's here", 'a "b"', "c=d/e %"]
    rows = [(number, places[number % 5], FIRST + number % 2 * DAY) for number in range(40)]
    for delivered in (rows[:20], rows[20:]):
        frame = scratch.spark.createDataFrame(delivered, visits.struct).coalesce(1)
        scratch.warehouse.insert_new(visits, frame, visits.key)
    partitions = len(set(partitions_of(rows, partition_by)))
    before = files_of(scratch, visits, [1])
    assert len(before) == 2 * partitions

    def maintained(dry_run: bool) -> Maintained:
        return maintain(scratch.warehouse, visits, [], scratch.config.maintenance, dry_run=dry_run)

    assert maintained(dry_run=True).files_compacted == len(before)
    assert data_files(scratch, visits) == before
    done = maintained(dry_run=False)
    assert (done.files_compacted, done.files_removed) == (len(before), len(before))
    assert data_files(scratch, visits) == files_of(scratch, visits, [2])
    assert len(data_files(scratch, visits)) == partitions
    assert sorted(map(tuple, scratch.warehouse.read(visits).collect())) == sorted(rows)
    assert maintained(dry_run=False) == Maintained(0, 0, 0, (2,), ())


def partitions_of(rows: list[tuple[int, str | None, date]], partition_by: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Each row's partition."""
    return [(place, day) if partition_by else () for _, place, day in rows]


def test_a_version_whose_log_has_expired_is_named_and_the_others_are_kept(
    scratch: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_examples(scratch, made_from=[0, 0, 0, 0, 0])
    root = scratch.warehouse.location(EXAMPLES)
    PlainDeltaTable(root, version=2).create_checkpoint()
    for version in (0, 1):
        for path in Path(root, "_delta_log").glob(f"*{version:020d}.*"):
            path.unlink()
    scratch.spark.catalog.clearCache()
    register(scratch, tmp_path / "first", {"examples_version": 1}, {})
    register(scratch, tmp_path / "second", {"examples_version": 2}, {})
    register(scratch, tmp_path / "third", {"examples_version": 11}, {})
    maintain_tables.run(scratch, table=["examples"])
    line = capsys.readouterr().out.splitlines()[0]
    assert "versions kept 2 4; versions 1 11 are referred to but cannot be read" in line
    assert data_files(scratch, EXAMPLES) == files_of(scratch, EXAMPLES, {2, 4})


def test_a_model_of_unknown_origin_stops_all_removal(scratch: Job, tmp_path: Path) -> None:
    write_examples(scratch, made_from=[0, 0])
    register(scratch, tmp_path / "first", {"examples_version": 1}, {})
    client = mlflow.MlflowClient()
    client.create_model_version(scratch.tracker.model_name, str(tmp_path / "first"), run_id=None)
    whole = tree(scratch)
    with pytest.raises(InputError, match=r"model maintained_\w+ version 2: its run .* is gone"):
        maintain_tables.run(scratch)
    assert tree(scratch) == whole


def test_every_version_of_a_model_is_asked(scratch: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        register(scratch, tmp_path / str(number), {"examples_version": number, "payments_version": 7 + number}, {})
    search = mlflow.MlflowClient.search_model_versions
    monkeypatch.setattr(
        mlflow.MlflowClient,
        "search_model_versions",
        lambda self, text, page_token: search(self, text, max_results=1, page_token=page_token),
    )
    assert scratch.tracker.table_versions() == {"examples": {0, 1, 2}, "payments": {7, 8, 9}}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--table", "paymnets"], r"invalid choice: 'paymnets'"), (["--table", "labels"], "table labels does not exist")],
)
def test_an_unknown_or_missing_table_is_exit_code_2(
    settings: list[str], spark: SparkSession, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [part for value in settings for part in ("--set", value)]
    try:
        code: Any = maintain_tables.main([*values, *arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    assert re.search(says, capsys.readouterr().err)


def test_no_tables_no_work(scratch: Job) -> None:
    assert maintain_tables.run(scratch).details["tables"] == 0
