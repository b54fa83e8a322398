"""Read the tables' Parquet files by any writer: Spark, our own tasks, delta-rs, Polars or DuckDB.

Arrow's writers store an Arrow schema in a file's footer, and PyArrow takes the columns' types from it rather than from
the Parquet schema. The same column is then a string, a large string, a dictionary or a string view, depending on the
writer. PyArrow 14, which Petastorm needs, cannot open a file with a newer type ("Unrecognized type: 24", the string
views of delta-rs). Files are therefore opened without the Arrow schema, so that the Parquet schema gives the types.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_MAGIC = b"PAR1"
# A Parquet file ends with the footer's length (four bytes) and the magic bytes.
_TAIL = 8
# The key of the Arrow schema in the footer, as Thrift writes it, and one of the same length that Arrow ignores.
_ARROW_SCHEMA, _PASSED_OVER = b"\x18\x0cARROW:schema", b"\x18\x0carrow_schema"


def open_parquet(
    path: str | Path, *, metadata: pq.FileMetaData | None = None, read_dictionary: Sequence[str] | None = None
) -> pq.ParquetFile:
    """Open a file with the column types of its Parquet schema.

    Args:
        path: local path.
        metadata: result of `read_metadata` for the file, if known.
        read_dictionary: string columns to read as dictionaries.

    Raises:
        OSError: the file cannot be read.
        pyarrow.ArrowInvalid: it is not a Parquet file.
    """
    if metadata is None and not isinstance(source := footer_source(path), str):
        metadata = pq.read_metadata(source)
    # Without an Arrow schema in the footer, metadata stays None and PyArrow reads the footer itself.
    return pq.ParquetFile(path, metadata=metadata, read_dictionary=read_dictionary)


def read_parquet(path: str | Path, columns: Sequence[str] | None = None, *, use_threads: bool = True) -> pa.Table:
    """Read a file, or some of its columns in the given order. Raises as `open_parquet`.

    Raises:
        KeyError: the file has no such column.
    """
    with open_parquet(path) as file:
        if columns is None:
            return file.read(use_threads=use_threads)
        return file.read(columns=list(columns), use_threads=use_threads).select(list(columns))


def read_metadata(path: str | Path) -> pq.FileMetaData:
    """Read a file's footer. Raises as `open_parquet`."""
    return pq.read_metadata(footer_source(path))


def footer_source(path: str | Path) -> str | pa.BufferReader:
    """Return a source of the file's footer without an Arrow schema: the path, or a file without rows in memory."""
    with Path(path).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - _TAIL, 0))
        tail = file.read()
        if not tail.endswith(_MAGIC):
            return str(path)
        file.seek(max(size - _TAIL - int.from_bytes(tail[:4], "little"), 0))
        end = file.read()
    # Search from the end: the key comes after the row groups, whose statistics may contain any text.
    before, key, after = end.rpartition(_ARROW_SCHEMA)
    return pa.BufferReader(b"".join((_MAGIC, before, _PASSED_OVER, after))) if key else str(path)
