"""Read a delivery's files as one DataFrame of the source's columns.

The files may differ in the number and order of their columns. Files with the same columns (a kind) are read together,
then the kinds are united by column name. CSV is read by RFC 4180: `"` is the quotation mark, doubled inside a field, a
field may contain line breaks, and a backslash is an ordinary character.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from lbsf.errors import InputError
from lbsf.ingest.files import Delivery, SourceFile, java_message, literal_glob
from lbsf.ingest.heads import breaks_lines_as_ascii, csv_headers, damaged_file, is_charset, parquet_schemas
from lbsf.ingest.row_faults import FIELD_COUNT, FIRST_ROW_COUNT, NOT_JSON, NOT_OF_SCHEMA, csv_fault
from lbsf.session import settings_of

# Columns added to the source's own: why a row cannot be read (null: it can), and the row as delivered.
FAULT, ROW = "_lbsf_fault", "_lbsf_row"
RFC_4180: dict[str, str | bool | int | float] = {"quote": '"', "escape": '"', "multiLine": True}
# Options that the reader sets itself, and why or what to use instead.
RESERVED_OPTIONS = {
    "mode": "rows that cannot be read are always quarantined",
    "columnnameofcorruptrecord": "rows that cannot be read are always quarantined",
    "enforceschema": "a file's header always decides its columns",
    "inferschema": "CSV columns are text; `schema` declares types",
    "pathglobfilter": "`files` says which names are taken",
    "recursivefilelookup": "`recursive: true` reads subfolders",
}

_UNPARSED = "_lbsf_unparsed"
_METADATA = ("file_path", "file_name", "file_size", "file_modification_time")
# By default Spark starts one task for each file to check that 10,000 files exist.
_LISTING = {"spark.sql.sources.parallelPartitionDiscovery.parallelism": "64"}


@dataclass(frozen=True)
class SourceFormat:
    """How files are read.

    Attributes:
        name: csv, json, parquet or delta.
        options: options of Spark's reader; for CSV they override RFC_4180.
        schema: DDL of columns whose types the files do not tell.
    """

    name: str
    options: Mapping[str, str | bool | int | float]
    schema: str | None = None

    def option(self, name: str, default: str = "") -> str:
        """Return an option as text; its name is case-insensitive."""
        values = {key.lower(): value for key, value in {**RFC_4180, **self.options}.items()}
        value = values.get(name.lower(), default)
        return str(value).lower() if isinstance(value, bool) else str(value)

    @property
    def separator(self) -> str:
        """Return the separator of CSV fields."""
        return self.option("sep", self.option("delimiter", ",")).replace("\\t", "\t")

    @property
    def encoding(self) -> str:
        """Return Java's name of the character encoding."""
        return self.option("encoding", self.option("charset", "UTF-8"))

    def is_on(self, name: str) -> bool:
        """Return whether an option is true."""
        return self.option(name).lower() == "true"


class Kind(NamedTuple):
    """Files with the same columns.

    Attributes:
        files: the files.
        rows: rows with the source's columns, Spark's `_metadata` of the file, FAULT and ROW.
        columns: names of the source's columns.
    """

    files: tuple[SourceFile, ...]
    rows: DataFrame
    columns: tuple[str, ...]


def read_kinds(spark: SparkSession, delivery: Delivery, source: SourceFormat) -> list[Kind]:
    """Open a delivery, with files of the same columns read together.

    Raises:
        InputError: a file cannot be read, or the format does not fit it.
    """
    reader = _Reader(spark, delivery, source)
    if source.name == "delta":
        return [reader.kind((), reader.declared)]
    if source.name == "csv":
        reader.check_encoding()
    groups = reader.like_files()
    if not groups:
        raise InputError(f"{delivery.location} holds no rows")
    shapes: dict[tuple[object, ...], tuple[StructType | None, list[SourceFile]]] = {}
    for (partitions, head), files in groups.items():
        schema = reader.schema_of(files, head)
        # Headers that differ only in a byte order mark, or footers only in page order, are one kind.
        columns = schema if schema is None else tuple((field.name, field.dataType) for field in schema)
        shapes.setdefault((partitions, columns), (schema, []))[1].extend(files)
    reader.check_declared([schema for schema, _ in shapes.values()])
    return [reader.kind(tuple(files), schema) for schema, files in shapes.values()]


def union(kinds: Sequence[Kind]) -> DataFrame:
    """Return all rows, united by column name; a column that a file lacks is null there."""
    return reduce(
        lambda above, below: above.unionByName(below, allowMissingColumns=True), (kind.rows for kind in kinds)
    )


def quoted(name: str) -> str:
    """Return a column's name quoted for Spark SQL, whatever characters it contains."""
    return "`" + name.replace("`", "``") + "`"


class _Reader:
    def __init__(self, spark: SparkSession, delivery: Delivery, source: SourceFormat):
        self._spark = spark
        self._delivery = delivery
        self._source = source
        self.declared = self._declared_columns()

    def check_encoding(self) -> None:
        encoding = self._source.encoding
        if not is_charset(self._spark, encoding):
            raise InputError(f"options.encoding: {encoding!r} is not the name of a character encoding")
        if not self._source.is_on("multiLine") and not breaks_lines_as_ascii(self._spark, encoding):
            raise InputError(f"options.multiLine: false cannot split text in {encoding} into lines; leave it true")

    def like_files(self) -> dict[tuple[object, str], list[SourceFile]]:
        """Group the files by their partition columns and their header or schema."""
        files = self._delivery.taken
        heads: Sequence[str | None]
        if self._source.name == "parquet":
            heads = parquet_schemas(self._spark, files)
        elif self._source.name == "csv" and self._source.is_on("header"):
            quote, comment = self._source.option("quote"), self._source.option("comment")
            heads = csv_headers(self._spark, files, encoding=self._source.encoding, quote=quote, comment=comment)
        else:
            heads = [""] * len(files)
        groups: dict[tuple[object, str], list[SourceFile]] = {}
        for file, head in zip(files, heads, strict=True):
            if head is not None:
                groups.setdefault(((file.partition_root, file.partitions), head), []).append(file)
        return groups

    def schema_of(self, files: Sequence[SourceFile], head: str) -> StructType | None:
        """Return the columns of files with the same header or schema, with the types that `schema` declares."""
        if self._source.name == "json":
            return self.declared
        if self._source.name == "csv" and not self._source.is_on("header") and self.declared is not None:
            return self.declared
        if self._source.name == "csv" and self._source.is_on("header"):
            own = self._header_columns(head)
        else:
            own = self._load(files[:1], None, with_partitions=False).schema
        declared = {field.name.lower(): field.dataType for field in self.declared or ()}
        return StructType([StructField(f.name, declared.get(f.name.lower(), f.dataType)) for f in own])

    def _header_columns(self, header: str) -> StructType:
        # Spark parses the header from text, because it cannot open a file whose name contains a comma or a bracket.
        jvm: Any = self._spark._jvm
        text = self._spark.range(1).select(F.lit(header.removeprefix("\ufeff")).alias("value"))
        lines = getattr(text._jdf, "as")(jvm.org.apache.spark.sql.Encoders.STRING())
        reader: Any = self._spark.read.options(**{**RFC_4180, **self._source.options})
        return StructType([StructField(name, StringType()) for name in reader._jreader.csv(lines).columns()])

    def check_declared(self, schemas: Sequence[StructType | None]) -> None:
        """Raise InputError where `schema` names a column that no file has."""
        found = {field.name.lower() for schema in schemas for field in schema or ()}
        nowhere = [field.name for field in self.declared or () if field.name.lower() not in found]
        if nowhere:
            raise InputError(
                f"schema names columns that no file at {self._delivery.location} has: {', '.join(nowhere)}"
            )

    def kind(self, files: tuple[SourceFile, ...], schema: StructType | None) -> Kind:
        rows = self._load(files, schema, with_partitions=True)
        columns = tuple(name for name in rows.columns if name != _UNPARSED)
        row = F.to_json(F.struct(*map(quoted, columns)))
        if _UNPARSED in rows.columns:
            row = F.coalesce(F.col(_UNPARSED), row)
        fault = self._fault(rows, len(schema or ()))
        # Kept as a real column, since a union loses Spark's hidden one; by name, since formats add their own fields.
        metadata = F.struct(*(f"_metadata.{name}" for name in _METADATA)).alias("_metadata")
        return Kind(files, rows.select(*map(quoted, columns), metadata, fault.alias(FAULT), row.alias(ROW)), columns)

    def _fault(self, rows: DataFrame, fields: int) -> Column:
        if _UNPARSED not in rows.columns:
            return F.lit(None).cast("string")
        unparsed = F.col(_UNPARSED)
        if self._source.name == "json":
            return F.when(unparsed.isNotNull(), F.lit(NOT_JSON))
        columns = [field for field in rows.schema if field.name != _UNPARSED]
        return csv_fault(
            unparsed,
            [F.col(quoted(field.name)) for field in columns if isinstance(field.dataType, StringType)],
            fields=fields,
            quote=self._source.option("quote"),
            separator=self._source.separator,
            multi_line=self._source.is_on("multiLine"),
            unfit=NOT_OF_SCHEMA if self.declared else FIELD_COUNT if self._source.is_on("header") else FIRST_ROW_COUNT,
        )

    def _load(self, files: Sequence[SourceFile], schema: StructType | None, *, with_partitions: bool) -> DataFrame:
        options: dict[str, str | bool | int | float] = {}
        if self._source.name == "csv":
            # With column pruning Spark does not check the number of fields in a row.
            options |= {**RFC_4180, "columnPruning": False}
        # The partition columns were decided when the files were listed.
        options |= {name: value for name, value in self._source.options.items() if name.lower() != "basepath"}
        if self._source.name in ("csv", "json"):
            options |= {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _UNPARSED}
            if schema is not None:
                schema = StructType([*schema.fields, StructField(_UNPARSED, StringType())])
        root = files[0].partition_root if files else None
        if with_partitions and root is not None:
            options |= {"basePath": root}
        paths = [literal_glob(file.path) for file in files] or [self._delivery.location]
        reader = self._spark.read.format(self._source.name).options(**options)
        if schema is not None:
            reader = reader.schema(schema)
        place = files[0].path if len(files) == 1 else self._delivery.location
        try:
            with settings_of(self._spark, _LISTING):
                return reader.load(paths if files else paths[0])
        except Py4JJavaError as error:
            fault = damaged_file(self._spark, [file.path for file in files]) or java_message(error)
            raise InputError(f"{place} cannot be opened as {self._source.name}: {fault}") from None
        except PySparkException as error:
            if error.getErrorClass() == "PATH_NOT_FOUND":
                raise InputError(f"there is nothing at {place}") from None
            raise InputError(f"{place} cannot be opened as {self._source.name}: {first_sentence(error)}") from None

    def _declared_columns(self) -> StructType | None:
        if self._source.schema is None:
            return None
        try:
            return self._spark.createDataFrame([], self._source.schema).schema
        except PySparkException as error:
            raise InputError(f"schema: {self._source.schema!r} is no DDL: {first_sentence(error)}") from None


def first_sentence(error: Exception) -> str:
    """Return the first sentence of a Spark error message, without its error class and its plan."""
    text = str(error).strip().splitlines()[0]
    return re.sub(r"^\[[A-Z_.]+\]\s*", "", text).split(";")[0].strip()
