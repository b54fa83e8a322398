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
    assert (first.details["read"], first.details["known before"], first.findings) == (9, 0, [])
    assert first.details["refused"] == (
        "currency is missing 2, amount is missing or no number 1, currency is not in ingest.currencies 1, "
        "paid_at is in the future 1"
    )
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

    # A night with nothing new counts nothing.
    again = ingest_payments.run(job, source=mapping)
    assert figures(again) == (0, 0, 0, 0)
    assert (again.details["read"], again.details["known before"]) == (9, 9)
    assert stored(job) == rows
    assert quarantined(job) == bad
    assert (again.details["payments version"], job.warehouse.version(PAYMENTS_QUARANTINE)) == (0, 0)

    # One day's file alone: the bad row of a file is known whether its folder or the file was named.
    file = tmp_path / "raw/day=2025-01-03/a.csv"
    assert figures(ingest_payments.run(job, source=mapping, path=str(file))) == (0, 0, 0, 0)
    assert quarantined(job) == bad

    # A late row lands on its own day; what was stored stays, `t1` with another time included.
    # With everything else that is there, only what is new counts: `t7`, `t7` again, and a bad row, twice.
    seventh = line(7, "2025-01-01 23:59:59")
    deliver(
        tmp_path, "day=2025-01-09/a.csv", seventh, seventh, line(1, "2025-01-08 10:00:00"), *[line(8, value="x")] * 2
    )
    late = ingest_payments.run(job, source=mapping)
    assert figures(late) == (4, 1, 2, 1)
    assert (late.details["read"], late.details["known before"]) == (14, 10)
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
    # The bad row was put in quarantine by the run that was killed.
    assert figures(ingest_payments.run(job, source=mapping)) == (1, 1, 0, 0)
    assert len(quarantined(job)) == 1


def test_a_bad_row_mended_at_its_source_is_stored(job: Job, tmp_path: Path, mapping: str) -> None:
    deliver(tmp_path, "a.csv", line(1, value="n/a"))
    assert figures(ingest_payments.run(job, source=mapping)) == (1, 0, 1, 0)
    assert stored(job) == {}
    deliver(tmp_path, "b.csv", line(1))
    assert figures(ingest_payments.run(job, source=mapping)) == (1, 1, 0, 0)
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
    assert figures(ingest_payments.run(job, source=mapping)) == (0, 0, 0, 0)


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
        ({"columns": {**COLUMNS, "description": "reflect('java.lang.System', 'getenv')"}}, "uses reflect,"),
        (
            {"columns": {**COLUMNS, "paid_at": "to_utc_timestamp(booked, 'Europe/Berlinn')"}},
            "column paid_at: its expression cannot be computed: Unknown time-zone ID: Europe/Berlinn",
        ),
        (
            {"columns": {**COLUMNS, "paid_at": "to_utc_timestamp(booked, concat('Europe/', day_text))"}},
            "column paid_at: its expression cannot be computed: Unknown time-zone ID: Europe/x",
        ),
        (
            {"columns": {**COLUMNS, "paid_at": "to_timestamp(booked, 'yyyy-MM-ddTHH:mm')"}},
            "column paid_at: its expression cannot be computed: Unknown pattern letter: T",
        ),
        # Columns of which no rule asks.
        (
            {"columns": {**COLUMNS, "description": "element_at(split(day_text, ' '), 0)"}},
            "column description: its expression cannot be computed: The index 0 is invalid",
        ),
        ({"columns": {**COLUMNS, "category": "day_text rlike '('"}}, "column category: its expression cannot be"),
        # What it says of a user's id may hold the id.
        ({"columns": {**COLUMNS, "user_id": "to_number(customer, '999')"}}, "column user_id: its expression cannot be"),
        ({"schema": "txn string, b string"}, "schema names columns that no file at"),
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
    assert "u1" not in lines[0]
    assert not (folder / "warehouse").exists()


def test_a_time_without_a_date_is_quarantined(job: Job, tmp_path: Path) -> None:
    """Read the same on any day: as today, as 1 January and as today again they were stored once."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/payments.csv").write_text(
        "id,user,merchant,at,day,amount\n"
        "1,u1,m1,10:00:00,,5.00\n"
        "2,u1,m1,2025,,6.00\n"
        "3,u1,m1, 10:30:00,,7.00\n"
        "4,u1,m1,10:30:00,2025-07-01,8.00\n"
    )
    names = {"payment_id": "id", "user_id": "user", "merchant_id": "merchant", "amount": "amount", "currency": "'EUR'"}
    for paid_at in ("concat(nvl(day, ''), ' ', at)", "to_timestamp(concat_ws(' ', day, at))", "concat(day, ' ', at)"):
        source = write_mapping(tmp_path, columns={**names, "paid_at": paid_at})
        ingest_payments.run(job, source=source)
        assert {key: str(row["paid_at"]) for key, row in stored(job).items()} == {"4": "2025-07-01 10:30:00"}
        bad = quarantined(job)
        assert [json.loads(row["row"])["id"] for row in bad] == ["1", "2", "3"]
        assert {tuple(row["reasons"]) for row in bad} == {("paid_at is missing or no time",)}


def test_local_times_when_clocks_change_are_counted(job: Job, tmp_path: Path) -> None:
    columns = {**COLUMNS, "paid_at": "to_utc_timestamp(booked, 'Europe/Berlin')"}
    times = ("2024-10-27 02:30:00", "2024-10-27 02:30:00+01:00", "2024-03-31 02:30:00", "2024-07-01 12:00:00")
    deliver(tmp_path, "a.csv", *(line(number, booked) for number, booked in enumerate(times)))
    summary = ingest_payments.run(job, source=write_mapping(tmp_path, columns=columns))
    assert {key: str(row["paid_at"]) for key, row in stored(job).items()} == {
        "t0": "2024-10-27 00:30:00",
        "t1": "2024-10-27 01:30:00",
        "t3": "2024-07-01 10:00:00",
    }
    assert [row["reasons"] for row in quarantined(job)] == [["a local time never was: the clocks went forward"]]
    assert " | ambiguous local times 1 | local times that never were 1 | " in str(summary)


def test_a_delivery_that_is_refused_by_half_ends_with_code_3_and_says_why(
    job: Job, overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [argument for override in overrides for argument in ("--set", override)]
    deliver(tmp_path, "a.csv", line(1, ccy="CZK"), line(2, ccy="CZK", value="2500000"), line(3, "1999-12-31 10:00:00"))
    command = ["--source", write_mapping(tmp_path), *arguments]
    # Asked again it is said again.
    for new in (3, 0):
        assert ingest_payments.main(command) == 3
        output = capsys.readouterr()
        assert f"in {new} | out 0 | quarantined {new} | read 3 | known before {3 - new} | " in output.out
        (said,) = output.err.splitlines()
        assert said.endswith(
            "3 of 3 rows were refused, more than ingest.max_refused_share (0.5): "
            "currency is not in ingest.currencies 2, amount is beyond ingest.max_amount 1, "
            "paid_at is before ingest.earliest_paid_on 1; "
            "currencies found: CZK (2 rows); set ingest.currencies, or convert them in the mapping; "
            "largest amount found: 2,500,000.00; set ingest.max_amount; "
            "earliest day found: 1999-12-31; set ingest.earliest_paid_on"
        )
    # A delivery that fits the limits is stored; one whose new rows are bad is told, however much was stored before.
    fits = ["ingest.currencies=[CZK, EUR]", "ingest.max_amount=3000000", "ingest.earliest_paid_on=1999-01-01"]
    fitting = [argument for override in fits for argument in ("--set", override)]
    deliver(tmp_path, "b.csv", *(line(number) for number in range(4, 9)))
    assert ingest_payments.main([*command, *fitting]) == 0
    assert set(stored(job)) == {f"t{number}" for number in range(1, 9)}
    deliver(tmp_path, "c.csv", line(9, value="x"), line(10, value="y"), line(11))
    capsys.readouterr()
    assert ingest_payments.main([*command, *fitting]) == 3
    said = capsys.readouterr().err.strip()
    assert said.endswith(
        "2 of 3 new rows were refused, more than ingest.max_refused_share (0.5): amount is missing or no number 2"
    )
    assert ingest_payments.main([*command, *fitting, "--set", "ingest.max_refused_share=0.7"]) == 0


@pytest.mark.parametrize("case", ["header only", "missing column", "broken gzip", "line breaks"])
def test_files_that_cannot_be_read_are_one_line_and_write_nothing(
    spark: SparkSession, overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    options: dict[str, Any] = {"header": True}
    if case == "header only":
        deliver(tmp_path, "a.csv")
        words = "holds no rows"
    elif case == "missing column":
        deliver(tmp_path, "a.csv", line(1))
        other = deliver(tmp_path, "b.csv", line(2))
        other.write_text(other.read_text().replace("value", "price"))
        words = f"amount is read from value, which 1 of 2 files do not have, the first is file:{other}"
    elif case == "broken gzip":
        packed = gzip.compress("\n".join([HEADER, *map(line, range(5000))]).encode())
        (tmp_path / "raw").mkdir()
        (tmp_path / "raw/a.csv.gz").write_bytes(packed[: len(packed) // 2])
        words = f"{tmp_path}/raw/a.csv.gz cannot be "
    else:
        # Its first line has all its fields: only the second tells that the last one is cut.
        deliver(tmp_path, "a.csv", line(1), line(2)[:-1] + '"two\nlines"')
        options["multiLine"] = False
        words = "fields hold line breaks (1 rows are the end of one): set options.multiLine to true"
    assert_refused(write_mapping(tmp_path, options=options), overrides, tmp_path, capsys, words)


def test_a_folder_as_banks_fill_it(job: Job, tmp_path: Path) -> None:
    deliver(
        tmp_path, "day1.csv", line(1, value='"5.00"')[:-1] + '"Shop ""A"", 99\nLtd \\"', "t2,u,s", line(3)[:-1] + "�"
    )
    # A later file with its columns in another order and one more.
    late = tmp_path / "raw/day2.csv"
    late.write_text("value,note,txn,customer,shop,booked,ccy,day_text\n7.25,x,t4,u,s,2025-01-02 10:00:00,EUR,plain\n")
    (tmp_path / "raw/day3.csv.tmp").write_text("txn,cust")
    (tmp_path / "raw/README.txt").write_text("by sftp")
    deliver(tmp_path, "2024/old.csv", line(9))
    source = write_mapping(tmp_path, columns={**COLUMNS, "merchant_name": "day_text"})
    summary = ingest_payments.run(job, source=source)
    assert figures(summary) == (4, 2, 2, 0)
    assert summary.details["left aside"] == "3 (2024, README.txt, day3.csv.tmp)"
    assert {key: (row["merchant_name"], str(row["amount"])) for key, row in stored(job).items()} == {
        "t1": ('Shop "A", 99\nLtd \\', "5.00"),
        "t4": ("plain", "7.25"),
    }
    counted, damaged = sorted(quarantined(job), key=lambda row: row["row"])
    assert (counted["row"], counted["reasons"]) == ("t2,u,s", ["the row has another number of fields than the header"])
    assert (json.loads(damaged["row"])["txn"], damaged["reasons"]) == (
        "t3",
        ["a character is not of the file's encoding"],
    )
    # Mended and delivered again, they are stored.
    deliver(tmp_path, "day1.csv", line(1), line(2), line(3))
    assert figures(ingest_payments.run(job, source=source)) == (2, 2, 0, 0)


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
