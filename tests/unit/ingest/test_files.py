"""Which files of a delivery are taken, and what is said of the rest."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from source_files import COLUMNS, DELIVERIES, line, rows, write_csv, write_mapping

from lbsf.errors import InputError
from lbsf.ingest import Delivery, find_delivery, load_mapping
from lbsf.ingest.files import list_delivery
from lbsf.schemas import PAYMENTS


def names(delivery: Delivery) -> list[str]:
    return [file.path.removeprefix("file:") for file in delivery.taken]


def aside(delivery: Delivery) -> dict[str, str]:
    return {file.name: str(file.left_aside) for file in delivery.left_aside}


def touch(folder: Path, *files: str) -> None:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


@pytest.mark.parametrize(
    ("format_name", "taken", "other"),
    [
        ("csv", ["A.CSV", "b.csv.gz", "c.csv.bz2", "d.tsv"], ["e.txt", "f.csv.tmp", "g.csv~", "h.csv.zip", "i.csv.GZ"]),
        ("json", ["a.json", "b.jsonl.gz", "c.ndjson"], ["d.csv", "e.json.part"]),
        ("parquet", ["a.parquet", "b.snappy.parquet"], ["c.parquet.gz", "d.parq"]),
    ],
)
def test_a_folder_gives_its_formats_files_and_names_the_rest(
    spark: SparkSession, tmp_path: Path, format_name: str, taken: list[str], other: list[str]
) -> None:
    touch(tmp_path, *taken, *other)
    # Markers and checksums of other programs are hidden; a data file's name that hides it is told.
    touch(tmp_path, "_SUCCESS", ".a.csv.crc", "_delta_log/0.json", f"_x.{format_name}")
    (tmp_path / f"empty.{format_name}").touch()
    delivery = list_delivery(spark, str(tmp_path), format_name)
    assert names(delivery) == [f"{tmp_path}/{name}" for name in sorted(taken)]
    found = aside(delivery)
    assert found.pop(f"_x.{format_name}") == "its name starts with _ or ., which hides it"
    assert found.pop(f"empty.{format_name}") == "it is empty"
    assert set(found) == set(other)
    assert all("`files` in the mapping says which names are taken" in why for why in found.values())


def test_a_file_carries_its_size_and_time(spark: SparkSession, tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    touch(tmp_path, "a b[1].csv")
    (file,) = list_delivery(spark, str(tmp_path), "csv").taken
    assert (file.path, file.name, file.size) == (f"file:{tmp_path}/a b[1].csv", "a b[1].csv", 1)
    assert before <= file.modified_at <= datetime.now(UTC)


def test_subfolders_are_left_aside_unless_they_are_partitions_or_asked_for(spark: SparkSession, tmp_path: Path) -> None:
    touch(tmp_path, "a.csv", "2025/07/b.csv", "day=2025-07-01/hour=3/c.csv", "day=2025-07-01/old/d.csv", "_tmp/e.csv")
    flat = list_delivery(spark, str(tmp_path), "csv")
    assert names(flat) == [f"{tmp_path}/a.csv", f"{tmp_path}/day=2025-07-01/hour=3/c.csv"]
    why = "a subfolder; `recursive: true` in the mapping reads it"
    assert aside(flat) == {"2025": why, "old": why}
    assert [(file.partition_root, file.partitions) for file in flat.taken] == [
        (None, ()),
        (f"file:{tmp_path}", ("day", "hour")),
    ]
    deep = list_delivery(spark, str(tmp_path), "csv", recursive=True)
    assert {Path(name).name for name in names(deep)} == {"a.csv", "b.csv", "c.csv", "d.csv"}
    assert deep.left_aside == ()


def test_patterns_and_globs_and_exact_names(spark: SparkSession, tmp_path: Path) -> None:
    touch(tmp_path, "pay_1.dat", "pay_2.dat.gz", "other.csv", "2024/x.csv", "2024/x.tmp", "2025/y.csv")
    own = list_delivery(spark, str(tmp_path), "csv", patterns=["pay_*.dat", "pay_*.dat.gz"])
    assert names(own) == [f"{tmp_path}/pay_1.dat", f"{tmp_path}/pay_2.dat.gz"]
    assert aside(own)["other.csv"].startswith("its name matches none of `files`")
    globbed = list_delivery(spark, f"{tmp_path}/20*/*", "csv")
    assert names(globbed) == [f"{tmp_path}/2024/x.csv", f"{tmp_path}/2025/y.csv"]
    assert list(aside(globbed)) == ["x.tmp"]
    folders = list_delivery(spark, f"{tmp_path}/202[45]", "csv")
    assert names(folders) == names(globbed)
    # Who names one file wants that file.
    assert names(list_delivery(spark, f"{tmp_path}/pay_1.dat", "csv")) == [f"{tmp_path}/pay_1.dat"]


def test_a_part_of_a_folder_knows_the_partitions_above_it(spark: SparkSession, tmp_path: Path) -> None:
    touch(tmp_path, "raw/day=2025-07-01/a.csv")
    for path in (f"{tmp_path}/raw/day=2025-07-01", f"{tmp_path}/raw/day=2025-07-01/a.csv"):
        (file,) = list_delivery(spark, path, "csv", base=f"{tmp_path}/raw").taken
        assert (file.partition_root, file.partitions) == (f"file:{tmp_path}/raw", ("day",))
        assert list_delivery(spark, path, "csv").taken[0].partitions == ()


@pytest.mark.parametrize(
    ("path", "files", "words"),
    [
        ("raw/x.csv", [], "there is nothing at"),
        ("raw/*.csv", [], "there is nothing at"),
        ("raw", ["raw/_SUCCESS"], "raw holds no files"),
        ("raw", ["raw/README.txt"], "is taken (README.txt: its name does not end with .csv or .tsv"),
        ("raw", ["raw/2025/a.csv"], "is taken (2025: a subfolder; `recursive: true` in the mapping reads it)"),
        ("nowhere://x/raw", [], 'No FileSystem for scheme "nowhere"'),
    ],
)
def test_where_nothing_is_taken_one_line_says_why(
    spark: SparkSession, tmp_path: Path, path: str, files: list[str], words: str
) -> None:
    touch(tmp_path, *files)
    mapping = load_mapping(write_mapping(tmp_path, path=path if "://" in path else f"{tmp_path}/{path}"), PAYMENTS)
    with pytest.raises(InputError) as caught:
        find_delivery(spark, mapping, "/none")
    assert str(caught.value).startswith(f"{mapping.file}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_upload_under_way_does_not_block_its_folder(spark: SparkSession, tmp_path: Path) -> None:
    mapping = load_mapping(write_mapping(tmp_path, path=f"{DELIVERIES}/half_written"), PAYMENTS)
    assert find_delivery(spark, mapping, "/none").left_aside_text() == "2 (README.txt, day2.csv.tmp)"
    assert [row["payment_id"] for row in rows(spark, mapping)] == ["1"]


def test_many_files_left_aside_are_a_number_and_three_names(spark: SparkSession, tmp_path: Path) -> None:
    touch(tmp_path, "a.csv", *(f"{number}.tmp" for number in range(5)))
    assert list_delivery(spark, str(tmp_path), "csv").left_aside_text() == "5 (0.tmp, 1.tmp, 2.tmp, …)"


def test_nested_files_are_read_where_the_mapping_says_so(spark: SparkSession, tmp_path: Path) -> None:
    flat = load_mapping(write_mapping(tmp_path, path=f"{DELIVERIES}/nested"), PAYMENTS)
    assert [row["payment_id"] for row in rows(spark, flat)] == ["2"]
    assert find_delivery(spark, flat, "/none").left_aside_text() == "1 (2025)"
    deep = load_mapping(write_mapping(tmp_path, path=f"{DELIVERIES}/nested", recursive=True), PAYMENTS)
    assert [row["payment_id"] for row in rows(spark, deep)] == ["1", "2"]


def test_files_beside_partition_folders_have_no_partition(spark: SparkSession, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw/a.csv", line(1))
    write_csv(tmp_path / "raw/day=2025-07-02/b.csv", line(2))
    write_csv(tmp_path / "raw/2025/day=2025-07-03/c {1}.csv", line(3))
    mapping = write_mapping(tmp_path, recursive=True, columns={**COLUMNS, "channel": "cast(day AS string)"})
    assert [(row["payment_id"], row["channel"]) for row in rows(spark, mapping)] == [
        ("1", None),
        ("2", "2025-07-02"),
        ("3", "2025-07-03"),
    ]
