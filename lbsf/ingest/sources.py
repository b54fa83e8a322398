"""Source mappings: where a delivery is, and a Spark SQL expression for each of the table's columns.

A mapping (conf/sources/NAME.yaml):

    name: my_bank                     # stored with each payment
    table: payments                   # or labels
    format: csv                       # csv, parquet, json, delta
    path: "{root}/raw/payments"       # a file, a folder (with partition folders), or a glob
    files: ["*.csv", "*.dat"]         # names to read in a folder or glob; left out: the format's endings
    recursive: false                  # whether to read subfolders that are not partition folders
    options: {header: true}           # options of Spark's reader; CSV follows RFC 4180 unless they change it
    schema: null                      # DDL of the source's columns; null: from the files, all strings in CSV
    columns:
      payment_id: txn_id
      paid_at: to_timestamp(booked, 'dd.MM.yyyy HH:mm')
      currency: "'EUR'"

In `path`, `{root}` is storage.root, `{project}` is the folder above conf/, and `${NAME:-default}` is an environment
variable with its default. A relative path is relative to the working directory.

An expression may use only its own row (lbsf/ingest/expressions.py). The expressions of `amount` and `currency` must
convert a source with several currencies to one, because folds add amounts without regard to currency.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, StringType, StructType, TimestampType

from lbsf.config.loader import describe, read_yaml
from lbsf.config.models import Identifier
from lbsf.errors import ConfigurationError, InputError
from lbsf.ingest.contract import AMBIGUOUS, NEVER_WAS
from lbsf.ingest.expressions import Computed, ExpressionRefusedError, compute
from lbsf.ingest.files import Delivery, list_delivery
from lbsf.ingest.reader import FAULT, RESERVED_OPTIONS, ROW, Kind, SourceFormat, first_sentence, read_kinds, union
from lbsf.ingest.row_faults import BAD_CHARACTER
from lbsf.ingest.times import time_columns
from lbsf.schemas import LABELS, PAYMENTS, TableSchema

# Formats whose files hold text; the expressions in `columns` must convert their times.
TEXT_FORMATS = ("csv", "json")
TABLES = {"payments": PAYMENTS, "labels": LABELS}
REQUIRED = {
    "payments": ("payment_id", "user_id", "merchant_id", "paid_at", "amount", "currency"),
    "labels": ("user_id", "observed_on", "label", "matured_on"),
}
OPTIONAL: dict[str, tuple[str, ...]] = {
    "payments": ("category", "channel", "merchant_name", "description"),
    "labels": (),
}

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class SourceMapping(BaseModel):
    """The format, location and columns of one source. Frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Identifier
    table: Literal["payments", "labels"]
    format: Literal["csv", "parquet", "json", "delta"]
    path: str = Field(min_length=1)
    files: tuple[str, ...] | None = Field(default=None, min_length=1)
    recursive: bool = False
    options: dict[str, str | bool | int | float] = {}
    schema_ddl: str | None = Field(default=None, alias="schema")
    columns: dict[str, str]

    _file: Path = PrivateAttr(default=Path("mapping"))

    @model_validator(mode="after")
    def _columns_fit(self) -> SourceMapping:
        required, optional = REQUIRED[self.table], OPTIONAL[self.table]
        problems = [f"column {name} is missing" for name in required if name not in self.columns]
        problems += [
            f"column {name} is not one of {', '.join((*required, *optional))}"
            for name in self.columns
            if name not in (*required, *optional)
        ]
        problems += [
            f"options.{name} cannot be set: {RESERVED_OPTIONS[name.lower()]}"
            for name in self.options
            if name.lower() in RESERVED_OPTIONS
        ]
        if self.format == "delta" and (self.files is not None or self.recursive):
            problems.append("files and recursive say nothing of a Delta table, which knows its own files")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def file(self) -> Path:
        """Return the file that holds the mapping, for error messages."""
        return self._file

    def location(self, root: str, path: str | None = None) -> str:
        """Return `path`, by default the mapping's own, with `{root}`, `{project}` and `${NAME:-default}` filled in.

        Raises:
            ConfigurationError: an environment variable without a default is not set.
        """

        def value(match: re.Match[str]) -> str:
            found = os.environ.get(match["name"]) or match["default"]
            if found is None:
                raise ConfigurationError(
                    f"{self.file}: path {self.path} names the environment variable {match['name']}, which is not set"
                )
            return found

        # Mappings are conf/sources/NAME.yaml; one nearer to the file system's root has no project folder above it.
        project = Path("/", *self.file.resolve().parts[1:-3])
        text = _VARIABLE.sub(value, self.path if path is None else path)
        return text.replace("{root}", root.rstrip("/")).replace("{project}", str(project))


def load_mapping(file: str | Path, table: TableSchema) -> SourceMapping:
    """Read a mapping for `table` (PAYMENTS or LABELS).

    Raises:
        ConfigurationError: the file is missing or not YAML, a key or a column is missing or unknown, or
            the mapping is for another table.
    """
    path = Path(file)
    try:
        mapping = SourceMapping.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {describe(error)}") from None
    if mapping.table != table.name:
        raise ConfigurationError(f"{path}: maps {mapping.table}, this job takes a mapping of {table.name}")
    mapping._file = path
    return mapping


def find_delivery(spark: SparkSession, mapping: SourceMapping, root: str, path: str | None = None) -> Delivery:
    """Find the files that the mapping reads, and those that it leaves aside (lbsf/ingest/files.py has the rules).

    Args:
        spark: the session.
        mapping: the source mapping.
        root: storage.root.
        path: path to read in place of the mapping's own (one day's file).

    Raises:
        InputError: nothing is there, or none of its files is to be read.
    """
    usual = mapping.location(root)
    location = usual if path is None else mapping.location(root, path)
    if mapping.format == "delta":
        return Delivery(location)
    # Files in a part of the usual folder still get the columns of the partition folders above that part.
    base = usual if location.startswith(f"{usual.rstrip('/')}/") else None
    base = next((str(value) for name, value in mapping.options.items() if name.lower() == "basepath"), base)
    try:
        return list_delivery(
            spark, location, mapping.format, patterns=mapping.files, recursive=mapping.recursive, base=base
        )
    except InputError as error:
        raise InputError(f"{mapping.file}: {error}") from None


def read_source(spark: SparkSession, mapping: SourceMapping, delivery: Delivery) -> DataFrame:
    """Read the delivery's rows in the table's columns, without checking them against the contract.

    Args:
        spark: the session.
        mapping: the source mapping.
        delivery: the files to read, from `find_delivery`.

    Returns:
        Rows with these columns:

        - The table's mapped columns. Times have the table's type, other columns the type of their expression. A column
          is null where it is optional and not mapped, and a time where text is not a full date.
        - local_time: "ambiguous" or "never was" where to_utc_timestamp read a local time that occurred twice or never,
          else null.
        - source_row: the source's own columns as JSON without nulls, or the text of a row that cannot be read.
        - source_file.
        - source_fault: why the row cannot be read, else null. The mapped columns of such a row are null.

    Raises:
        InputError: the delivery cannot be opened, an expression does not fit its columns or does what a mapping may
            not, or a file lacks a column from which a required one is read.
    """
    try:
        kinds = read_kinds(spark, delivery, SourceFormat(mapping.format, mapping.options, mapping.schema_ddl))
        source = union(kinds)
    except InputError as error:
        raise InputError(f"{mapping.file}: {error}") from None
    except AnalysisException as error:
        raise InputError(f"{mapping.file}: files at {delivery.location} differ: {first_sentence(error)}") from None
    if mapping.format in TEXT_FORMATS and (read := _times_of_reader(source)):
        raise InputError(
            f"{mapping.file}: {', '.join(read)}: the reader would take 12:30 for today at 12:30; read times of "
            f"{mapping.format} files as strings (`schema`) and convert them in `columns`"
        )
    names = list(dict.fromkeys(name for kind in kinds for name in kind.columns))
    mapped = (*REQUIRED[mapping.table], *OPTIONAL[mapping.table])
    computed = {name: _computed(source, mapping, name, names) for name in mapped}
    if len(kinds) > 1:
        _check_every_file(mapping, kinds, source)
    fault = F.col(FAULT)
    if mapping.format in TEXT_FORMATS:
        texts = [
            computed[column.name].column.cast("string")
            for column in TABLES[mapping.table].columns
            if column.name in computed and column.type == StringType()
        ]
        # A decoder replaces bytes that are not valid in its encoding by this character.
        replaced = reduce(or_, [F.coalesce(text.contains("\ufffd"), F.lit(False)) for text in texts])
        fault = F.coalesce(fault, F.when(replaced, F.lit(BAD_CHARACTER)))
    rows = source.select(
        *(one.column.alias(name) for name, one in computed.items()),
        _local_time(computed.values()).alias("local_time"),
        F.col(ROW).alias("source_row"),
        F.col("_metadata.file_path").alias("source_file"),
        fault.alias("source_fault"),
    )
    sound = F.col("source_fault").isNull()
    return rows.select(
        *(F.when(sound, F.col(name)).alias(name) for name in (*mapped, "local_time")),
        "source_row",
        "source_file",
        "source_fault",
    )


def _computed(source: DataFrame, mapping: SourceMapping, name: str, columns: Sequence[str]) -> Computed:
    """Return one of the table's columns computed from the source."""
    expression = mapping.columns.get(name, "cast(null as string)")
    target = next(column.type for column in TABLES[mapping.table].columns if column.name == name)
    to = target.simpleString()
    where = f"{mapping.file}: column {name}: {expression!r}"
    try:
        found = compute(source, expression, to if isinstance(target, DateType | TimestampType) else None)
        source.select(found.column.alias(name)).select(F.expr(f"try_cast({name} AS {to})"))
    except ExpressionRefusedError as error:
        raise InputError(f"{where} {error}") from None
    except AnalysisException as error:
        raise InputError(
            f"{where} cannot be read from the source: {first_sentence(error)} (its columns: {', '.join(columns)})"
        ) from None
    return found


def _local_time(computed: Iterable[Computed]) -> Column:
    """Return NEVER_WAS or AMBIGUOUS where a row's local times are so, else null.

    NEVER_WAS counts only where its column is null, AMBIGUOUS only where its column has a value.
    """
    never, twice = F.lit(False), F.lit(False)
    for one in computed:
        for flag in one.never:
            never |= flag & one.column.isNull()
        for flag in one.twice:
            twice |= flag & one.column.isNotNull()
    return F.when(never, NEVER_WAS).when(twice, AMBIGUOUS)


def _times_of_reader(source: DataFrame) -> list[str]:
    """Return the columns that the reader itself parses as times, without those of partition folders."""
    found: dict[str, None] = {}
    leaves = source._jdf.queryExecution().analyzed().collectLeaves()
    for place in range(leaves.size()):
        leaf = leaves.apply(place)
        if leaf.getClass().getSimpleName() == "LogicalRelation":
            schema = StructType.fromJson(json.loads(leaf.relation().dataSchema().json()))
            found |= dict.fromkeys(time_columns(schema))
    return list(found)


def _check_every_file(mapping: SourceMapping, kinds: list[Kind], source: DataFrame) -> None:
    """Raise InputError where a required column is null in every row of a file because its source column is missing."""
    total = sum(len(kind.files) for kind in kinds)
    for kind in kinds:
        own = {name.lower() for name in kind.columns}
        others = [f for f in source.schema if f.name.lower() not in own and f.name not in ("_metadata", FAULT, ROW)]
        absent = {f.name: F.lit(None).cast(f.dataType) for f in others}
        for name in REQUIRED[mapping.table]:
            expression = mapping.columns[name]
            try:
                kind.rows.select(F.expr(expression))
            except AnalysisException as error:
                values = kind.rows.withColumns(absent).select(F.expr(expression).alias("value"))
                if not _is_always_null(values):
                    continue
                column = (error.getMessageParameters() or {}).get("objectName", expression).strip("`")
                raise InputError(
                    f"{mapping.file}: {name} is read from {column}, which {len(kind.files)} of {total} files "
                    f"do not have, the first is {kind.files[0].path}"
                ) from None


def _is_always_null(value: DataFrame) -> bool:
    """Return whether Spark's optimizer can prove that the column `value` is null in every row."""
    rows = value.where(F.col("value").isNotNull())._jdf.queryExecution().optimizedPlan().maxRows()
    return bool(rows.isDefined() and rows.get() == 0)
