"""What a table is: its columns with their meaning, its key, its partition; and the check at the boundary."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, MapType, StructField, StructType

from lbsf.errors import SchemaMismatchError


@dataclass(frozen=True)
class Column:
    """One column. `comment` says what it holds, with its unit, for docs/tables.md and the catalog."""

    name: str
    type: DataType
    comment: str
    nullable: bool = False

    @property
    def field(self) -> StructField:
        """The column as Spark sees it, with its comment."""
        return StructField(self.name, self.type, self.nullable, {"comment": self.comment})


@dataclass(frozen=True)
class TableSchema:
    """One Delta table, declared once.

    Attributes:
        name: table name, and its folder under `storage.root`/tables.
        purpose: one or two sentences for docs/tables.md.
        columns: in order.
        key: columns that identify a row.
        partition_by: columns of the Delta partitions.
        sorted_by: order of the rows within a file, where a whole table is written at once.
        change_feed: whether Delta keeps what each commit changed, for readers that follow the table.
    """

    name: str
    purpose: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition_by: tuple[str, ...] = ()
    sorted_by: tuple[str, ...] = ()
    change_feed: bool = False

    @property
    def struct(self) -> StructType:
        """The declared schema as Spark sees it, comments included."""
        return StructType([column.field for column in self.columns])

    @property
    def column_names(self) -> list[str]:
        """The columns' names, in order."""
        return [c.name for c in self.columns]

    def discrepancies(self, found: StructType) -> list[str]:
        """Every way in which `found` differs from the declaration: missing, unexpected, other type.

        Nullability is not compared: Delta and Spark widen it freely. Order is not either.
        """
        present = {field.name: field.dataType for field in found.fields}
        problems = []
        for column in self.columns:
            if column.name not in present:
                problems.append(f"column {column.name} is missing")
            elif _plain(present[column.name]) != _plain(column.type):
                problems.append(
                    f"column {column.name} is {present[column.name].simpleString()}, not {column.type.simpleString()}"
                )
        declared = set(self.column_names)
        problems += [f"column {name} is not declared" for name in present if name not in declared]
        return problems

    def conform(self, df: DataFrame) -> DataFrame:
        """`df` with exactly the declared columns, in their order.

        Raises:
            SchemaMismatchError: lists each discrepancy.
        """
        problems = self.discrepancies(df.schema)
        if problems:
            raise SchemaMismatchError(f"table {self.name}: {'; '.join(problems)}")
        return df.select([F.col(c.name).alias(c.name, metadata={"comment": c.comment}) for c in self.columns])


def _plain(data_type: DataType) -> str:
    """A type's text without nullability."""
    if isinstance(data_type, ArrayType):
        return f"array<{_plain(data_type.elementType)}>"
    if isinstance(data_type, MapType):
        return f"map<{_plain(data_type.keyType)},{_plain(data_type.valueType)}>"
    if isinstance(data_type, StructType):
        return f"struct<{','.join(f'{f.name}:{_plain(f.dataType)}' for f in data_type.fields)}>"
    return data_type.simpleString()
