"""CSV and JSON as they come: quotes, line breaks, encodings, and rows that cannot be taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from source_files import COLUMNS, DELIVERIES, HEADER, line, rows, write_csv, write_mapping

from lbsf.errors import ConfigurationError, InputError
from lbsf.ingest import load_mapping
from lbsf.ingest.row_faults import (
    BAD_CHARACTER,
    CUT_FIELD,
    FIELD_COUNT,
    FIRST_ROW_COUNT,
    NOT_JSON,
    NOT_OF_SCHEMA,
    OPEN_QUOTE,
)
from lbsf.schemas import PAYMENTS

NAMED = {**COLUMNS, "merchant_name": "name"}
NAMED_HEADER = "id,user,merchant,at,amount,name"


def fields(found: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in found]


@pytest.mark.parametrize("multi_line", [True, False])
def test_rfc_4180_quotes_are_read_as_they_are_meant(spark: SparkSession, tmp_path: Path, multi_line: bool) -> None:
    def read(name: str) -> list[tuple[Any, ...]]:
        options = {"header": True, "multiLine": multi_line}
        mapping = write_mapping(tmp_path, path=f"{DELIVERIES}/quotes/{name}.csv", columns=NAMED, options=options)
        return fields(rows(spark, mapping), "payment_id", "merchant_name", "amount")

    assert read("payments") == [("1", 'Shop "A", 99, Ltd', "12.34"), ("2", 'Bar "Blue"', "5.00")]
    assert read("backslash") == [("1", "ACME \\", "9.00")]


def test_a_line_break_in_quotes_belongs_to_its_field(spark: SparkSession, tmp_path: Path) -> None:
    path = f"{DELIVERIES}/quotes/newline_in_quotes.csv"
    whole = rows(spark, write_mapping(tmp_path, path=path, columns=NAMED))
    assert fields(whole, "payment_id", "merchant_name", "amount", "source_fault") == [
        ("1", "two\nlines", "7.00", None),
        ("2", "plain", "8.00", None),
    ]
    options = {"header": True, "multiLine": False}
    cut = rows(spark, write_mapping(tmp_path, path=path, columns=NAMED, options=options))
    assert fields(cut[:1], "payment_id", "source_fault") == [("2", None)]
    assert {row["source_row"]: row["source_fault"] for row in cut[1:]} == {
        '1,u1,m1,2025-07-01 10:00:00,"two': FIELD_COUNT,
        'lines",7.00': CUT_FIELD,
    }


def test_rows_that_do_not_fit_their_header_keep_their_text_and_nothing_else(
    spark: SparkSession, tmp_path: Path
) -> None:
    odd = [
        "1,u,m,2025-07-01 10:00:00,5.00,a,extra",
        "2,u,m",
        '3,u,m,2025-07-01 10:00:00,5.00,"a""b\n ",c',
        "#4",
    ]
    fine = ["5,u,m,2025-07-01 10:00:00,5.00,", '"#6",u,m,2025-07-01 10:00:00,5.00,"x"']
    write_csv(tmp_path / "raw/a.csv", odd[0], fine[0], *odd[1:], "", fine[1], header=NAMED_HEADER)
    found = rows(spark, write_mapping(tmp_path, columns=NAMED))
    assert fields(found, "payment_id", "amount", "source_fault") == [
        ("#6", "5.00", None),
        ("5", "5.00", None),
        *[(None, None, FIELD_COUNT)] * 4,
    ]
    assert {row["source_row"] for row in found[2:]} == set(odd)


def test_a_row_that_swallows_others_is_not_taken(spark: SparkSession, tmp_path: Path) -> None:
    def faults(*lines: str, header: str = NAMED_HEADER, end: str = "\n") -> list[str | None]:
        path = tmp_path / "raw/a.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join([header, *lines]) + end)
        return [row["source_fault"] for row in rows(spark, write_mapping(tmp_path, columns=NAMED))]

    at = "m,2025-07-01 10:00:00"
    # The mark opens a field, the next row's closes it: the second amount would be the first payment's.
    first = "id,name,user,merchant,at,amount"
    assert faults(f'1,"a,u,{at},5.00', f'2,"b",u,{at},6.00', f"3,c,u,{at},7.00", header=first) == [None, OPEN_QUOTE]
    assert faults(f'1,"a,u,{at},5.00', f"2,b,u,{at},6.00", f'3,5",u,{at},7.00', header=first) == [OPEN_QUOTE]
    # It opens the last field, and nothing closes it.
    open_end = [f'1,u,{at},5.00,"a', f"2,u,{at},6.00,b", f"3,u,{at},7.00,c"]
    assert faults(*open_end) == faults(*open_end, end="") == [OPEN_QUOTE]
    # Lists in prose, and marks inside a field, are no rows.
    prose = f'1,u,{at},5.00,"Bought:\nbread, milk, eggs, ham, butter, jam"'
    assert faults(prose, f'2,u,{at},5.00,5" pipe', f'3,u,{at},5.00,"""A""\nshop"') == [None] * 3


def test_a_schema_declares_types_by_name_and_its_misfits_are_kept(spark: SparkSession, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw/a.csv", line(1), line(2, "n/a"), line(3, "7,8"))
    mapping = write_mapping(tmp_path, schema="amount decimal(10,2)")
    found = rows(spark, mapping)
    assert [str(row["amount"]) for row in found] == ["5.00", "None", "None"]
    assert [row["source_fault"] for row in found] == [None, NOT_OF_SCHEMA, NOT_OF_SCHEMA]
    assert [row["source_row"] for row in found[1:]] == [line(2, "n/a"), line(3, "7,8")]


def test_files_without_a_header_go_by_the_schema_or_their_first_row(spark: SparkSession, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw/a.csv", "2,u,m,x", header=line(1))
    schema = ", ".join(f"{name} string" for name in HEADER.split(","))
    named = rows(spark, write_mapping(tmp_path, options={}, schema=schema))
    assert fields(named, "payment_id", "source_fault") == [("1", None), (None, NOT_OF_SCHEMA)]
    columns = dict(zip(("payment_id", "user_id", "merchant_id", "paid_at", "amount"),
        (f"_c{number}" for number in range(5)), strict=True)) | {"currency": "'EUR'"}  # fmt: skip
    numbered = rows(spark, write_mapping(tmp_path, options={}, columns=columns))
    assert fields(numbered, "payment_id", "source_fault") == [("1", None), (None, FIRST_ROW_COUNT)]


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        (None, "utf-8"),
        (None, "utf-8-sig"),
        ("UTF-16", "utf-16"),
        ("UTF-16LE", "utf-16-le"),
        ("UTF-16BE", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("windows-1252", "cp1252"),
        ("ISO-8859-15", "iso-8859-15"),
    ],
)
def test_encodings_give_their_characters(
    spark: SparkSession, tmp_path: Path, encoding: str | None, written: str
) -> None:
    text = f'{NAMED_HEADER}\n{line(1)},"café\n5 €"\n{line(2)},x\n'
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.csv").write_bytes(text.encode(written))
    options = {"header": True} | ({"encoding": encoding} if encoding else {})
    found = rows(spark, write_mapping(tmp_path, columns=NAMED, options=options))
    assert fields(found, "payment_id", "merchant_name", "source_fault") == [("1", "café\n5 €", None), ("2", "x", None)]


def test_an_export_in_utf_16_has_no_junk(spark: SparkSession, tmp_path: Path) -> None:
    options = {"header": True, "encoding": "UTF-16"}
    found = rows(spark, write_mapping(tmp_path, path=f"{DELIVERIES}/utf16", options=options))
    assert fields(found, "payment_id", "amount", "source_fault") == [("1", "5.00", None), ("2", "6.00", None)]


def test_characters_of_another_encoding_are_faults_of_their_rows(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    text = f"{NAMED_HEADER},note\n{line(1)},café,x\n{line(2)},plain,naïve\n"
    (tmp_path / "raw/a.csv").write_bytes(text.encode("cp1252"))
    found = rows(spark, write_mapping(tmp_path, columns=NAMED))
    # Only what the mapping reads counts.
    assert fields(found, "payment_id", "source_fault") == [("2", None), (None, BAD_CHARACTER)]
    assert json.loads(found[1]["source_row"])["name"] == "caf\ufffd"
    knowing = {**NAMED, "merchant_name": "replace(name, '\ufffd', '?')"}
    accepted = rows(spark, write_mapping(tmp_path, columns=knowing))
    assert fields(accepted, "merchant_name", "source_fault") == [("caf?", None), ("plain", None)]


def test_json_lines_that_are_none_keep_their_text(spark: SparkSession, tmp_path: Path) -> None:
    good = json.dumps(dict(zip(HEADER.split(","), line(1).split(","), strict=True)))
    (tmp_path / "raw").mkdir()
    # The second is cut off, the third is not UTF-8.
    lines = [good.encode(), good[:30].encode(), good.replace("m1", "caf\xe9").encode("cp1252")]
    (tmp_path / "raw/a.jsonl").write_bytes(b"\n".join(lines))
    for schema in (None, ", ".join(f"{name} string" for name in HEADER.split(","))):
        found = rows(spark, write_mapping(tmp_path, format="json", options={}, schema=schema))
        assert fields(found, "payment_id", "source_fault") == [("1", None), (None, NOT_JSON), (None, NOT_JSON)]
        assert good[:30] in {row["source_row"] for row in found}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoding": "utf-99"}, "options.encoding: 'utf-99' is not the name of a character encoding"),
        ({"encoding": "no name"}, "options.encoding: 'no name' is not the name of a character encoding"),
        ({"encoding": "UTF-16", "multiLine": False}, "options.multiLine: false cannot split text in UTF-16 into lines"),
        ({}, "payments.csv is not text in UTF-8: name its encoding, for instance UTF-16, in options"),
    ],
)
def test_an_encoding_that_cannot_be_is_one_line(
    spark: SparkSession, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    mapping = load_mapping(
        write_mapping(tmp_path, path=f"{DELIVERIES}/utf16", options={"header": True, **options}), PAYMENTS
    )
    with pytest.raises(InputError) as caught:
        rows(spark, mapping)
    assert str(caught.value).startswith(f"{mapping.file}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("option", ["mode", "inferSchema", "pathGlobFilter", "recursiveFileLookup", "enforceschema"])
def test_options_that_would_drop_rows_or_files_unseen_are_refused(tmp_path: Path, option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"options.{option} cannot be set: "):
        load_mapping(write_mapping(tmp_path, options={option: "DROPMALFORMED"}), PAYMENTS)


def test_own_quotes_and_separators_stay_possible(spark: SparkSession, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw/a.csv", line(1).replace(",", "|") + "|'a\\'|b'",
        header=NAMED_HEADER.replace(",", "|"))  # fmt: skip
    options = {"header": True, "sep": "|", "quote": "'", "escape": "\\"}
    assert fields(rows(spark, write_mapping(tmp_path, columns=NAMED, options=options)), "merchant_name") == [("a'|b",)]
