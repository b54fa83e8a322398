"""Source mappings: what is refused, where they point, and what their expressions read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import source_files
from pyspark.sql import SparkSession
from source_files import rows

from lbsf.errors import ConfigurationError, InputError
from lbsf.ingest import load_mapping
from lbsf.schemas import LABELS, PAYMENTS

PROJECT = Path(__file__).resolve().parents[3]
COLUMNS = {
    "payment_id": "txn",
    "user_id": "customer",
    "merchant_id": "shop",
    "paid_at": "to_timestamp(booked, 'dd.MM.yyyy HH:mm')",
    "amount": "replace(value, ',', '.')",
    "currency": "'EUR'",
}
HEADER = "txn,customer,shop,booked,value"


def write_mapping(folder: Path, **changes: Any) -> Path:
    return source_files.write_mapping(folder, **{"columns": COLUMNS} | changes)


def write_csv(path: Path, *lines: str) -> None:
    source_files.write_csv(path, *lines, header=HEADER)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"delimiter": ";"}, "delimiter: Extra inputs are not permitted (unknown key)"),
        ({"file": "/etc/hosts"}, "file: Extra inputs are not permitted (unknown key)"),
        ({"path": ...}, "path: Field required"),
        ({"format": "xml"}, "format: Input should be 'csv', 'parquet', 'json' or 'delta'"),
        ({"name": "my bank"}, "name: "),
        ({"files": []}, "files: "),
        ({"format": "delta", "recursive": True}, "files and recursive say nothing of a Delta table"),
        ({"columns": {k: v for k, v in COLUMNS.items() if k != "amount"}}, "column amount is missing"),
        ({"columns": {**COLUMNS, "shop_name": "shop"}}, "column shop_name is not one of payment_id, user_id"),
        ({"columns": {**COLUMNS, "amount": 5}}, "columns.amount: "),
        ({"table": "labels"}, "column observed_on is missing"),
        (
            {"table": "labels", "columns": dict.fromkeys(("user_id", "observed_on", "label", "matured_on"), "x")},
            "maps labels, this job takes a mapping of payments",
        ),
    ],
)
def test_an_unfit_mapping_is_refused_with_what_is_wrong(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    file = write_mapping(tmp_path, **changes)
    with pytest.raises(ConfigurationError) as caught:
        load_mapping(file, PAYMENTS)
    assert str(caught.value).startswith(f"{file}: ")
    assert words in str(caught.value)


def test_a_missing_mapping_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.yaml: no such file"):
        load_mapping(tmp_path / "none.yaml", PAYMENTS)


@pytest.mark.parametrize("file", sorted((PROJECT / "conf" / "sources").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_committed_mapping_loads(file: Path) -> None:
    table = LABELS if file.stem.endswith("labels") else PAYMENTS
    assert load_mapping(file, table).columns


def test_a_path_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def location(path: str) -> str:
        return load_mapping(write_mapping(tmp_path, path=path), PAYMENTS).location("/store/")

    monkeypatch.delenv("LBSF_TEST_DIR", raising=False)
    assert location("{root}/raw/*.csv") == "/store/raw/*.csv"
    assert location("{project}/data/{a,b}.csv") == f"{tmp_path}/data/{{a,b}}.csv"
    assert location("raw/x.csv") == "raw/x.csv"
    assert location("${LBSF_TEST_DIR:-../data}/x.csv") == "../data/x.csv"
    assert location("${LBSF_TEST_DIR:-}x.csv") == "x.csv"
    with pytest.raises(ConfigurationError, match="environment variable LBSF_TEST_DIR, which is not set"):
        location("${LBSF_TEST_DIR}/x.csv")
    monkeypatch.setenv("LBSF_TEST_DIR", "/elsewhere")
    assert location("${LBSF_TEST_DIR:-../data}/x.csv") == "/elsewhere/x.csv"
    assert location("${LBSF_TEST_DIR}/x.csv") == "/elsewhere/x.csv"
    monkeypatch.setenv("LBSF_TEST_DIR", "")  # empty counts as not set, as in a shell
    assert location("${LBSF_TEST_DIR:-../data}/x.csv") == "../data/x.csv"


def test_expressions_give_our_columns_beside_the_row_as_it_came(spark: SparkSession, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw/a.csv", '1,u,s,01.02.2025 10:30,"3,50"', "2,,s,nonsense,4")
    found = rows(spark, load_mapping(write_mapping(tmp_path), PAYMENTS))
    assert [row["payment_id"] for row in found] == ["1", "2"]
    assert str(found[0]["paid_at"]) == "2025-02-01 10:30:00"
    assert (found[0]["amount"], found[0]["currency"], found[0]["category"]) == ("3.50", "EUR", None)
    assert found[1]["paid_at"] is None
    assert found[0]["source_file"].endswith("/raw/a.csv")
    assert json.loads(found[1]["source_row"]) == {"txn": "2", "shop": "s", "booked": "nonsense", "value": "4"}


def test_a_time_that_an_older_parser_would_read_is_null_rather_than_an_error(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_csv(tmp_path / "raw/a.csv", "1,u,s,1.2.2025 10:30,4")
    assert rows(spark, load_mapping(write_mapping(tmp_path), PAYMENTS))[0]["paid_at"] is None


def test_folders_globs_and_packed_files_are_read(spark: SparkSession, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw/day=2025-01-01/a.csv", "1,u,s,01.01.2025 10:30,1")
    write_csv(tmp_path / "raw/day=2025-01-02/a.csv", "2,u,s,02.01.2025 10:30,1")
    packed = tmp_path / "raw/day=2025-01-03/a.csv.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(f"{HEADER}\n3,u,s,03.01.2025 10:30,1\n".encode()))
    columns = {**COLUMNS, "channel": "cast(day AS string)"}
    mapping = load_mapping(write_mapping(tmp_path, columns=columns), PAYMENTS)
    whole = rows(spark, mapping)
    assert [(row["payment_id"], row["channel"]) for row in whole] == [
        ("1", "2025-01-01"),
        ("2", "2025-01-02"),
        ("3", "2025-01-03"),
    ]
    # One file of the folder gives the very row that the folder gives, its partition column too.
    assert rows(spark, mapping, f"{tmp_path}/raw/day=2025-01-02/a.csv") == [whole[1]]
    globbed = load_mapping(write_mapping(tmp_path, path=f"{tmp_path}/raw/*/a.csv"), PAYMENTS)
    assert [row["payment_id"] for row in rows(spark, globbed)] == ["1", "2"]


def test_parquet_and_json_keep_their_types(spark: SparkSession, tmp_path: Path) -> None:
    query = "SELECT 7L txn, 'u' customer, 's' shop, timestamp'2025-01-01 00:00:00' booked, 2.50BD value"
    spark.sql(query).write.parquet(str(tmp_path / "raw"))
    columns = {**COLUMNS, "paid_at": "booked", "amount": "-value"}
    parquet = load_mapping(write_mapping(tmp_path, format="parquet", options={}, columns=columns), PAYMENTS)
    found = rows(spark, parquet)[0]
    assert (found["payment_id"], str(found["paid_at"]), str(found["amount"])) == (7, "2025-01-01 00:00:00", "-2.50")
    spark.sql(query).write.json(str(tmp_path / "json"))
    json_mapping = write_mapping(tmp_path, format="json", options={}, columns=columns, path=f"{tmp_path}/json")
    assert rows(spark, load_mapping(json_mapping, PAYMENTS))[0]["payment_id"] == 7


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "/none/here.csv"}, "there is nothing at /none/here.csv"),
        ({"columns": {**COLUMNS, "amount": "price * 2"}}, "column amount: 'price * 2' cannot be read from the source"),
        ({"columns": {**COLUMNS, "amount": "price"}}, "(its columns: txn, customer, shop, booked, value)"),
        ({"columns": {**COLUMNS, "amount": "value +"}}, "column amount: 'value +' cannot be read"),
        ({"columns": {**COLUMNS, "user_id": "no_such_function(txn)"}}, "column user_id: 'no_such_function(txn)'"),
        ({"columns": {**COLUMNS, "paid_at": "array(booked)"}}, "column paid_at: 'array(booked)' cannot be read"),
        ({"schema": "txn strin"}, "schema: 'txn strin' is no DDL"),
        ({"schema": "txn string, price double"}, "schema names columns that no file at"),
        ({"format": "parquet"}, "raw is taken (a.csv: its name does not end with .parquet"),
        ({"format": "parquet", "files": ["*.csv"]}, "a.csv cannot be opened as parquet: "),
        ({"format": "delta"}, "cannot be opened as delta"),
    ],
)
def test_a_source_that_does_not_fit_is_named_with_its_columns(
    spark: SparkSession, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    write_csv(tmp_path / "raw/a.csv", "1,u,s,01.02.2025 10:30,4")
    file = write_mapping(tmp_path, **changes)
    with pytest.raises(InputError) as caught:
        rows(spark, file)
    assert str(caught.value).startswith(f"{file}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_is_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(InputError, match="raw holds no files"):
        rows(spark, write_mapping(tmp_path))
