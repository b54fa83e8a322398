"""Parquet files of the tables, whoever wrote them: Spark, our own tasks, delta-rs, Polars or DuckDB.

Arrow's writers keep an Arrow schema in a file's footer, and PyArrow takes the columns' types from it rather than from
the Parquet schema. So the same column is a string, a large string, a dictionary or a string view, depending on the
writer; and PyArrow 14, which Petastorm needs, refuses to open a file with a type that came after it ("Unrecognized
type: 24", the string views of delta-rs). Files are therefore opened without that schema: the Parquet schema decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_MAGIC = b"PAR1"
# A Parquet file ends with the footer's length, four bytes, and the magic word.
_TAIL = 8
# The schema's key in the footer, as Thrift writes it, and one of the same length that Arrow passes over.
_ARROW_SCHEMA, _PASSED_OVER = b"\x18\x0cARROW:schema", b"\x18\x0carrow_schema"


def open_parquet(
    path: str | Path, *, metadata: pq.FileMetaData | None = None, read_dictionary: Sequence[str] | None = None
) -> pq.ParquetFile:
    """Opens a file whose columns have the types of its Parquet schema.

    Args:
        path: local path.
        metadata: the file's `read_metadata`, where it is known.
        read_dictionary: string columns to read as dictionaries.

    Raises:
        OSError: the file cannot be read.
        pyarrow.ArrowInvalid: it is no Parquet file.
    """
    if metadata is None and not isinstance(source := footer_source(path), str):
        metadata = pq.read_metadata(source)
    # Without metadata PyArrow reads the footer itself, there is no Arrow schema in it.
    return pq.ParquetFile(path, metadata=metadata, read_dictionary=read_dictionary)


def read_parquet(path: str | Path, columns: Sequence[str] | None = None, *, use_threads: bool = True) -> pa.Table:
    """Reads a file, or some of its columns in the order that is asked for. Raises as `open_parquet`.

    Raises:
        KeyError: the file has no such column.
    """
    with open_parquet(path) as file:
        if columns is None:
            return file.read(use_threads=use_threads)
        return file.read(columns=list(columns), use_threads=use_threads).select(list(columns))


def read_metadata(path: str | Path) -> pq.FileMetaData:
    """Reads a file's footer. Raises as `open_parquet`."""
    return pq.read_metadata(footer_source(path))


def footer_source(path: str | Path) -> str | pa.BufferReader:
    """Where PyArrow finds the file's footer without an Arrow schema: in the file, or in memory as that of no rows."""
    with Path(path).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - _TAIL, 0))
        tail = file.read()
        if not tail.endswith(_MAGIC):
            return str(path)
        file.seek(max(size - _TAIL - int.from_bytes(tail[:4], "little"), 0))
        end = file.read()
    # The key stands behind the row groups, whose statistics may hold any text.
    before, key, after = end.rpartition(_ARROW_SCHEMA)
    return pa.BufferReader(b"".join((_MAGIC, before, _PASSED_OVER, after))) if key else str(path)
