"""Files of one delivery that differ in their columns, and files that are damaged."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from source_files import COLUMNS, DELIVERIES, HEADER, line, rows, write_csv, write_mapping

from lbsf.config import Config
from lbsf.errors import InputError
from lbsf.ingest import Received, check_payments, count_rows, find_delivery, load_mapping, read_source
from lbsf.schemas import PAYMENTS


def values(found: list[dict[str, Any]], *names: str) -> list[tuple[str, ...]]:
    return [tuple(str(row[name]) for name in names) for row in found]


def test_an_optional_column_that_a_file_lacks_is_null_there(spark: SparkSession, tmp_path: Path) -> None:
    columns = {**COLUMNS, "merchant_name": "name", "description": "descr"}
    mapping = write_mapping(tmp_path, path=f"{DELIVERIES}/missing_column", columns=columns)
    found = rows(spark, mapping)
    assert values(found, "payment_id", "amount", "merchant_name", "description") == [
        ("1", "5.00", "shop", "bread"),
        ("2", "6.00", "shop", "None"),
    ]
    # A file alone gives the very row that its folder gives.
    assert list(json.loads(found[0]["source_row"])) == ["id", "user", "merchant", "at", "amount", "name", "descr"]
    alone = write_mapping(tmp_path, path=f"{DELIVERIES}/missing_column/2025-07-01.csv", columns=columns)
    assert rows(spark, alone) == found[:1]


def test_each_csv_files_header_decides_its_columns(spark: SparkSession, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw/1.csv", line(1))
    write_csv(tmp_path / "raw/2.csv", "6.00,2025-07-01 10:00:00,m2,u2,2", header="amount,at,merchant,user,id")
    # A mark of the encoding before the header makes no other column; capitals neither.
    (tmp_path / "raw/3.csv").write_bytes(f"\ufeff{HEADER.upper()}\n{line(3)}\n".encode())
    write_csv(tmp_path / "raw/4.csv", line(4) + ",new", header=f'{HEADER},"added\nlater"')
    write_csv(tmp_path / "raw/5.csv")
    write_csv(tmp_path / "raw/6.csv", header="\n\n")
    found = rows(spark, write_mapping(tmp_path, columns={**COLUMNS, "channel": "`added\nlater`"}))
    assert values(found, "payment_id", "user_id", "amount", "channel", "source_fault") == [
        ("1", "u1", "5.00", "None", "None"),
        ("2", "u2", "6.00", "None", "None"),
        ("3", "u3", "5.00", "None", "None"),
        ("4", "u4", "5.00", "new", "None"),
    ]


def write_parquet(spark: SparkSession, folder: Path, query: str) -> None:
    spark.sql(query).coalesce(1).write.mode("append").parquet(str(folder))


FULL = "'1' id, 'u' user, 'm' merchant, timestamp'2025-07-01 10:00:00' at, 5 amount"


def test_parquet_files_may_differ_in_columns_and_width(spark: SparkSession, tmp_path: Path) -> None:
    write_parquet(spark, tmp_path / "raw", f"SELECT {FULL}")
    write_parquet(
        spark,
        tmp_path / "raw",
        "SELECT 7.25BD amount, 'later' note, timestamp'2025-07-01 10:00:00' at, 'm' merchant, 'u' user, '2' id",
    )
    columns = {**COLUMNS, "paid_at": "at", "description": "note"}
    mapping = write_mapping(tmp_path, format="parquet", options={}, columns=columns)
    assert values(rows(spark, mapping), "payment_id", "amount", "description") == [
        ("1", "5.00", "None"),
        ("2", "7.25", "later"),
    ]


def test_a_required_column_that_a_file_lacks_is_named_with_the_file(spark: SparkSession, tmp_path: Path) -> None:
    def refusal(**changes: Any) -> str:
        mapping = write_mapping(tmp_path, **changes)
        with pytest.raises(InputError) as caught:
            rows(spark, mapping)
        assert str(caught.value).startswith(f"{mapping}: ")
        return str(caught.value).removeprefix(f"{mapping}: ")

    write_csv(tmp_path / "raw/1.csv", line(1))
    write_csv(tmp_path / "raw/2.csv", "2,u,m,2025-07-01 10:00:00,6.00", header="id,user,merchant,at,value")
    write_csv(tmp_path / "raw/3.csv", "3,u,m,2025-07-01 10:00:00,6.00", header="id,user,merchant,at,value")
    assert refusal() == (
        f"amount is read from amount, which 2 of 3 files do not have, the first is file:{tmp_path}/raw/2.csv"
    )
    assert "amount is read from amount" in refusal(
        columns={**COLUMNS, "amount": "-cast(replace(amount, ',') AS double)"}
    )
    # A column that got another name is read under both.
    found = rows(spark, write_mapping(tmp_path, columns={**COLUMNS, "amount": "coalesce(value, amount)"}))
    assert values(found, "payment_id", "amount") == [("1", "5.00"), ("2", "6.00"), ("3", "6.00")]

    write_parquet(spark, tmp_path / "parquet", f"SELECT {FULL}")
    write_parquet(spark, tmp_path / "parquet", "SELECT '1' id, 'u' user, 'm' merchant, 5 amount")
    columns = {**COLUMNS, "paid_at": "at"}
    words = refusal(format="parquet", path=f"{tmp_path}/parquet", options={}, columns=columns)
    assert words.startswith("paid_at is read from at, which 1 of 2 files do not have, the first is file:")


def test_columns_of_types_that_do_not_go_together_are_one_line(spark: SparkSession, tmp_path: Path) -> None:
    write_parquet(spark, tmp_path / "raw", f"SELECT {FULL}")
    write_parquet(spark, tmp_path / "raw", f"SELECT {FULL.replace('5 amount', 'array(5) amount')}")
    mapping = write_mapping(tmp_path, format="parquet", options={}, columns={**COLUMNS, "paid_at": "at"})
    with pytest.raises(InputError, match="differ: ") as caught:
        rows(spark, mapping)
    assert "\n" not in str(caught.value)


def count(spark: SparkSession, mapping_file: Path, config: Config) -> int:
    mapping = load_mapping(mapping_file, PAYMENTS)
    source = read_source(spark, mapping, find_delivery(spark, mapping, "/none"))
    received = Received("bank", datetime(2025, 12, 1, tzinfo=UTC), "run")
    checked = check_payments(source, config.ingest, received, 2)
    return count_rows(checked, source, origin="delivery", day="paid_on", key="payment_id").rows


@pytest.mark.parametrize("case", ["gzip", "small gzip", "no gzip", "bzip2", "json", "parquet tail", "parquet page"])
def test_a_damaged_file_is_named(spark: SparkSession, tmp_path: Path, config: Config, case: str) -> None:
    changes: dict[str, Any] = {}
    lines = [HEADER, *(line(number) for number in range(20_000 if case in ("gzip", "json") else 2))]
    folder = tmp_path / "raw"
    write_csv(folder / "good.csv", line(1))
    bad = folder / "bad é.csv.gz"
    packed = gzip.compress("\n".join(lines).encode())
    if case in ("gzip", "small gzip"):
        bad.write_bytes(packed[: len(packed) // 2])
    elif case == "no gzip":
        bad.write_text("id,user")
    elif case == "bzip2":
        bad = folder / "bad.csv.bz2"
        bad.write_bytes(packed)
    elif case == "json":
        bad = folder / "bad.json.gz"
        bad.write_bytes(gzip.compress(b"\n".join(json.dumps({"id": text}).encode() for text in lines))[:-5000])
        changes = {"format": "json", "options": {}}
    else:
        changes = {"format": "parquet", "options": {}, "columns": {**COLUMNS, "paid_at": "at"}}
        (folder / "good.csv").unlink()
        write_parquet(spark, folder, f"SELECT {FULL}")
        (bad,) = folder.glob("*.parquet")
        content = bad.read_bytes()
        bad.write_bytes(content[:-9] if case == "parquet tail" else content[:4] + b"\xff" * 40 + content[44:])
        # Spark keeps a sum beside each file that would find the damage first.
        bad.with_name(f".{bad.name}.crc").unlink()
    with pytest.raises(InputError) as caught:
        count(spark, write_mapping(tmp_path, **changes), config)
    assert str(caught.value).count(bad.name) >= 1
    assert "\n" not in str(caught.value)
