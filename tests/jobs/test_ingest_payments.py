"""The ingest of payments as a whole job, on scratch files and a scratch warehouse."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from jobs import ingest_payments
from jobs.common import Job, Summary
from lbsf.schemas import PAYMENTS, PAYMENTS_QUARANTINE

PROJECT = Path(__file__).resolve().parents[2]
REAL = PROJECT / "../shared/data/complete_journey"
HEADER = "txn,customer,shop,booked,value,ccy,day_text"
COLUMNS = {
    "payment_id": "txn",
    "user_id": "customer",
    "merchant_id": "shop",
    "paid_at": "booked",
    "amount": "value",
    "currency": "ccy",
}


@pytest.fixture
def mapping(tmp_path: Path) -> str:
    """A mapping of the CSV files under `tmp_path`/raw."""
    return write_mapping(tmp_path)


def write_mapping(folder: Path, **changes: Any) -> str:
    values: dict[str, Any] = {"name": "bank", "table": "payments", "format": "csv", "path": f"{folder}/raw"}
    values |= {"options": {"header": True}, "columns": COLUMNS} | changes
    file = folder / "conf" / "sources" / "bank.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(values))
    return str(file)


def line(number: int, booked: str = "2025-01-01 10:00:00", value: str = "5.00", ccy: str = "EUR") -> str:
    return f"t{number},u{number % 3},s{number % 5},{booked},{value},{ccy},x"


def deliver(folder: Path, name: str, *lines: str) -> Path:
    path = folder / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def stored(job: Job) -> dict[str, Any]:
    rows = job.warehouse.read(PAYMENTS).collect()
    assert max(Counter(row["payment_id"] for row in rows).values(), default=1) == 1
    return {row["payment_id"]: row for row in rows}


def quarantined(job: Job) -> list[Any]:
    return job.warehouse.read(PAYMENTS_QUARANTINE).orderBy("source_file", "row").collect()


def figures(summary: Summary) -> tuple[Any, ...]:
    return summary.rows_in, summary.rows_out, summary.quarantined, summary.details["duplicates"]


def test_a_delivery_its_re_run_and_a_late_one(job: Job, tmp_path: Path, mapping: str) -> None:
    deliver(
        tmp_path,
        "day=2025-01-02/a.csv",
        line(1),
        line(2, "2025-01-02 00:00:00"),
        line(2, "2025-01-02 00:00:00"),  # twice in its file
        line(3, value="n/a"),
        line(4, "2099-01-01 00:00:00", ccy="XXX"),
    )
    # The payment of another file again, and one bad row twice.
    deliver(tmp_path, "day=2025-01-03/a.csv", line(1), line(5, ccy=""), line(5, ccy=""), line(6, "2025-01-03 09:00:00"))
    first = ingest_payments.run(job, source=mapping)
    assert figures(first) == (9, 3, 4, 2)
    assert (first.details["days"], first.details["payments version"]) == (3, 0)
    rows = stored(job)
    assert {key: row["paid_on"] for key, row in rows.items()} == {
        "t1": date(2025, 1, 1),
        "t2": date(2025, 1, 2),
        "t6": date(2025, 1, 3),
    }
    assert {row["source"] for row in rows.values()} == {"bank"}
    bad = quarantined(job)
    assert [(json.loads(row["row"])["txn"], row["reasons"], row["occurrences"]) for row in bad] == [
        ("t3", ["amount is missing or no number"], 1),
        ("t4", ["paid_at is in the future", "currency is not in ingest.currencies"], 1),
        ("t5", ["currency is missing"], 2),
    ]
    assert json.loads(bad[0]["row"])["value"] == "n/a"
    assert bad[0]["source_file"].endswith("day=2025-01-02/a.csv")

    again = ingest_payments.run(job, source=mapping)
    assert figures(again) == (9, 0, 4, 5)
    assert stored(job) == rows
    assert quarantined(job) == bad
    assert (again.details["payments version"], job.warehouse.version(PAYMENTS_QUARANTINE)) == (0, 0)

    # One day's file alone: the bad row of a file is known whether its folder or the file was named.
    file = tmp_path / "raw/day=2025-01-03/a.csv"
    assert figures(ingest_payments.run(job, source=mapping, path=str(file))) == (4, 0, 2, 2)
    assert quarantined(job) == bad

    # A late row lands on its own day; what was stored stays, `t1` with another time included.
    late = deliver(tmp_path, "day=2025-01-09/a.csv", line(7, "2025-01-01 23:59:59"), line(1, "2025-01-08 10:00:00"))
    assert figures(ingest_payments.run(job, source=mapping, path=str(late))) == (2, 1, 0, 1)
    assert stored(job)["t7"]["paid_on"] == date(2025, 1, 1)
    assert stored(job)["t1"] == rows["t1"]


def test_a_run_killed_between_its_two_writes_is_healed_by_the_next(
    job: Job, tmp_path: Path, mapping: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path, "a.csv", line(1), line(2, value="n/a"))
    insert = job.warehouse.insert_new

    def killed(table: Any, *arguments: Any, **named: Any) -> int:
        if table is PAYMENTS:
            raise KeyboardInterrupt
        return insert(table, *arguments, **named)

    monkeypatch.setattr(job.warehouse, "insert_new", killed)
    with pytest.raises(KeyboardInterrupt):
        ingest_payments.run(job, source=mapping)
    assert not job.warehouse.exists(PAYMENTS)
    monkeypatch.undo()
    assert figures(ingest_payments.run(job, source=mapping)) == (2, 1, 1, 0)
    assert len(quarantined(job)) == 1


def test_a_bad_row_mended_at_its_source_is_stored(job: Job, tmp_path: Path, mapping: str) -> None:
    deliver(tmp_path, "a.csv", line(1, value="n/a"))
    assert figures(ingest_payments.run(job, source=mapping)) == (1, 0, 1, 0)
    assert stored(job) == {}
    deliver(tmp_path, "b.csv", line(1))
    assert figures(ingest_payments.run(job, source=mapping)) == (2, 1, 1, 0)
    assert list(stored(job)) == ["t1"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)], ids=["in order", "latest first"])
def test_deliveries_in_any_order_store_the_same_payments(
    job: Job, tmp_path: Path, mapping: str, order: tuple[int, ...]
) -> None:
    # Each overlaps with the next; t2 and t4 come with another day the second time.
    deliveries = (
        [line(1), line(2, "2025-01-01 10:00:00"), line(3)],
        [line(2, "2025-01-05 10:00:00"), line(3), line(4, "2025-01-02 10:00:00")],
        [line(4, "2025-01-06 10:00:00"), line(1), line(5, "2025-01-03 10:00:00")],
    )
    for number in order:
        file = deliver(tmp_path, f"{number}.csv", *deliveries[number])
        ingest_payments.run(job, source=mapping, path=str(file))
    assert set(stored(job)) == {"t1", "t2", "t3", "t4", "t5"}
    # All files together bring nothing more.
    assert figures(ingest_payments.run(job, source=mapping)) == (9, 0, 0, 9)


def test_parquet_is_read_by_its_types(job: Job, tmp_path: Path) -> None:
    job.spark.sql(
        "SELECT 7L txn, 'u' customer, 's' shop, timestamp'2025-01-01 10:00:00' booked, 2.5D value, 'USD' ccy"
    ).write.parquet(str(tmp_path / "raw"))
    source = write_mapping(tmp_path, format="parquet", options={}, columns={**COLUMNS, "amount": "-value"})
    ingest_payments.run(job, source=source)
    assert str(stored(job)["7"]["amount"]) == "-2.50"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "/none/raw"}, "there is nothing at /none/raw"),
        (
            {"columns": {**COLUMNS, "amount": "price"}},
            "(its columns: txn, customer, shop, booked, value, ccy, day_text)",
        ),
        ({"columns": {**COLUMNS, "price": "value"}}, "column price is not one of payment_id"),
        ({"delimiter": ";"}, "delimiter: Extra inputs are not permitted (unknown key)"),
        ({"schema": "a string, b string, c string, d string, e string, f string, g string"}, "column payment_id"),
    ],
)
def test_a_source_or_mapping_that_does_not_fit_is_one_line_and_writes_nothing(
    spark: SparkSession,
    overrides: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    words: str,
) -> None:
    deliver(tmp_path, "a.csv", line(1))
    source = write_mapping(tmp_path, **changes)
    assert_refused(source, overrides, tmp_path, capsys, words)


def assert_refused(
    source: str, overrides: list[str], folder: Path, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    arguments = [argument for override in overrides for argument in ("--set", override)]
    assert ingest_payments.main(["--source", source, *arguments]) == 2
    lines = [text for text in capsys.readouterr().err.splitlines() if source in text]
    assert len(lines) == 1
    assert words in lines[0]
    assert not (folder / "warehouse").exists()


@pytest.mark.parametrize("case", ["header only", "other header", "broken gzip"])
def test_files_that_cannot_be_read_are_one_line_and_write_nothing(
    spark: SparkSession, overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    if case == "header only":
        deliver(tmp_path, "a.csv")
        words = "holds no rows"
    elif case == "other header":
        deliver(tmp_path, "a.csv", line(1))
        # The second day's file has two columns swapped: by position amounts would become shops.
        swapped = deliver(tmp_path, "b.csv", line(2)).read_text().replace("shop,booked,value", "value,booked,shop")
        (tmp_path / "raw/b.csv").write_text(swapped)
        words = "CSV header does not conform"
    else:
        packed = gzip.compress("\n".join([HEADER, *map(line, range(5000))]).encode())
        (tmp_path / "raw").mkdir()
        (tmp_path / "raw/a.csv.gz").write_bytes(packed[: len(packed) // 2])
        words = "Unexpected end of input stream"
    assert_refused(write_mapping(tmp_path), overrides, tmp_path, capsys, words)


@pytest.mark.skipif(not REAL.is_dir(), reason="the Complete Journey files are not beside the project")
def test_complete_journey_from_its_mapping_alone(job: Job) -> None:
    summary = ingest_payments.run(job, source="conf/sources/complete_journey_payments.yaml")
    # 222 purchases have no manufacturer, so no merchant; no two rows have the same id.
    assert figures(summary) == (75_000, 74_778, 222, 0)
    assert {tuple(row["reasons"]) for row in quarantined(job)} == {("merchant_id is missing",)}
    payments = job.warehouse.read(PAYMENTS)
    assert payments.filter("currency != 'USD' OR paid_on NOT BETWEEN '2017-01-01' AND '2018-01-01'").count() == 0
    sample = payments.filter("payment_id = '31625220889:940996'").collect()
    assert [(row["user_id"], row["merchant_id"], str(row["amount"]), str(row["paid_at"])) for row in sample] == [
        ("2261", "69", "3.86", "2017-01-28 19:06:53")
    ]
