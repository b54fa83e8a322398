"""Writes to small tables without Spark, for records that must be written even if Spark has failed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from lbsf.schemas import TableSchema
from lbsf.tables.log import NewFile, create_table, is_table, newest_version, replace_files, snapshot_files
from lbsf.tables.warehouse import Warehouse, local_path


def replace_small_day(warehouse: Warehouse, table: TableSchema, rows: Sequence[Sequence[Any]], on: date) -> None:
    """Replace the rows of one day by a few others in one transaction, like `Warehouse.replace_day` but without Spark.

    Only the first write of a table under `storage.database` needs Spark, to register the table.

    Args:
        warehouse: the tables; this process must be able to write files and commits to their storage.
        table: a table partitioned by its first column, a day.
        rows: values in the order of the table's columns; timestamps have a time zone.
        on: the day of all rows.

    Raises:
        InputError: another writer committed first; nothing is written.
    """
    if table.partition_by != (table.column_names[0],):
        raise ValueError(f"table {table.name} is not partitioned by its first column")
    root = local_path(warehouse.location(table))
    if new := not is_table(root):
        create_table(root, table, warehouse.properties(table))
    version = newest_version(root)
    partition = {table.column_names[0]: on.isoformat()}
    stored = StructType(table.struct.fields[1:])
    columns = zip(*(row[1:] for row in rows), strict=True)
    schema = to_arrow_schema(stored)
    content = pa.table([pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)], schema)
    name = f"{table.column_names[0]}={on.isoformat()}/{uuid.uuid4().hex}.parquet"
    path = Path(root, name)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(content, path, store_schema=False)
    old = [file for file in snapshot_files(root, version) if file.partition == partition]
    replace_files(
        root, [NewFile(name, path.stat().st_size, len(rows), partition, {})], old, at_version=version, made_from={}
    )
    if new:
        warehouse.register(table)
