"""Parquet files as other writers leave them: Arrow types in the footer that PyArrow knows, or does not know."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from lbsf.parquet import open_parquet, read_metadata, read_parquet

AT = datetime(2025, 3, 1, 12, tzinfo=UTC)
ROWS = pa.table(
    {
        "user_id": ["u1", "u2", None],
        "paid_at": pa.array([AT, AT, AT], pa.timestamp("us", "UTC")),
        "words": pa.array([["a", "b"], [], None], pa.list_(pa.string())),
    }
)


def deleted_by_delta(path: Path) -> Path:
    """What a user's DELETE leaves of one file: strings and lists of strings as views."""
    root = path.with_suffix("")
    other = pa.table({"user_id": ["gone"], "paid_at": ROWS["paid_at"][:1], "words": ROWS["words"][:1]})
    write_deltalake(root, pa.concat_tables([ROWS, other]))
    DeltaTable(root).delete("user_id = 'gone'")
    return Path(DeltaTable(root).file_uris()[0].removeprefix("file://"))


def as_dictionaries(path: Path) -> Path:
    user_id = pa.array(ROWS["user_id"].to_pylist(), pa.large_string()).dictionary_encode()
    zoned = ROWS["paid_at"].cast(pa.timestamp("us", "Europe/Berlin"))
    words = ROWS["words"].cast(pa.large_list(pa.large_string()))
    pq.write_table(pa.table({"user_id": user_id, "paid_at": zoned, "words": words}), path)
    return path


def by_polars(path: Path) -> Path:
    pl.from_arrow(ROWS).write_parquet(path)  # type: ignore[union-attr]
    return path


def by_arrow(path: Path) -> Path:
    pq.write_table(ROWS, path)
    return path


def without_arrow_schema(path: Path) -> Path:
    pq.write_table(ROWS, path, store_schema=False)
    return path


@pytest.mark.parametrize("write", [deleted_by_delta, as_dictionaries, by_polars, by_arrow, without_arrow_schema])
def test_whoever_wrote_a_file_its_columns_have_the_same_types(write: Callable[[Path], Path], tmp_path: Path) -> None:
    path = write(tmp_path / "written.parquet")
    read = read_parquet(path, ["words", "paid_at", "user_id"])
    assert read.column_names == ["words", "paid_at", "user_id"]
    assert [str(read[name].type) for name in ("paid_at", "user_id")] == ["timestamp[us, tz=UTC]", "string"]
    assert read["words"].type.value_type == pa.string()
    assert read.to_pylist() == ROWS.select(read.column_names).to_pylist()
    # Files of several writers become one table.
    ours = read_parquet(without_arrow_schema(tmp_path / "ours.parquet"), read.column_names)
    assert pa.concat_tables([read, ours]).num_rows == 6
    assert read_metadata(path).num_rows == 3
    coded = open_parquet(path, read_dictionary=["user_id"]).read_row_group(0)["user_id"]
    assert pa.types.is_dictionary(coded.type)
    assert coded.to_pylist() == ["u1", "u2", None]


def test_a_footer_keeps_all_but_the_arrow_schema(tmp_path: Path) -> None:
    # A text of the data itself, in the statistics of the row group, that reads like the schema's key.
    named = pa.table({"merchant": ["ARROW:schema"]}, metadata={"note": "kept"})
    pq.write_table(named, tmp_path / "named.parquet")
    metadata = read_metadata(tmp_path / "named.parquet")
    assert metadata.row_group(0).column(0).statistics.max == "ARROW:schema"
    assert metadata.metadata[b"note"] == b"kept"
    assert b"ARROW:schema" not in metadata.metadata
    assert read_parquet(tmp_path / "named.parquet").to_pylist() == [{"merchant": "ARROW:schema"}]


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"PAR1\0\0\0\0PAR1", b"\xff" * 100, b"\xff" * 30 + b"PAR1"])
def test_a_damaged_file_is_refused_as_pyarrow_does(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.parquet"
    path.write_bytes(damage)
    with pytest.raises((OSError, ValueError)) as ours:
        read_metadata(path)
    with pytest.raises((OSError, ValueError)) as theirs:
        pq.read_metadata(path)
    assert (type(ours.value), str(ours.value)) == (type(theirs.value), str(theirs.value))


def test_a_column_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="label"):
        read_parquet(by_arrow(tmp_path / "written.parquet"), ["user_id", "label"])
