"""Source mappings: where a delivery is, and for each of our columns a Spark SQL expression over its columns.

A mapping (conf/sources/NAME.yaml):

    name: my_bank                     # stored with each payment
    table: payments                   # or labels
    format: csv                       # csv, parquet, json, delta
    path: "{root}/raw/payments"       # a file, a folder (with partition folders), or a glob
    files: ["*.csv", "*.dat"]         # names that are taken of a folder or glob; left out: by the format's endings
    recursive: false                  # whether subfolders that are no partition folders are read
    options: {header: true}           # of Spark's reader; CSV is read by RFC 4180 where they do not say otherwise
    schema: null                      # DDL of the source's columns; null: as the files say, in CSV all strings
    columns:
      payment_id: txn_id
      paid_at: to_timestamp(booked, 'dd.MM.yyyy HH:mm')
      currency: "'EUR'"

In `path`, `{root}` is storage.root, `{project}` is the folder above conf/, `${NAME:-default}` is an environment
variable with its default. A relative path is relative to the working directory.

An expression computes from its own row alone (lbsf/ingest/expressions.py). A source in several currencies is converted
to one in its `amount` and `currency`: a fold adds what it is given.
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

# Formats whose files hold text: what is a time in them is for `columns` to say.
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
    """One source's format, place and columns. Frozen, unknown keys refused."""

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
        """The file that holds the mapping; errors name it."""
        return self._file

    def location(self, root: str, path: str | None = None) -> str:
        """`path`, or else the mapping's own, with `{root}`, `{project}` and `${NAME:-default}` filled in.

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

        # conf/sources/NAME.yaml; a mapping kept nearer to the file system's root has no project above it.
        project = Path("/", *self.file.resolve().parts[1:-3])
        text = _VARIABLE.sub(value, self.path if path is None else path)
        return text.replace("{root}", root.rstrip("/")).replace("{project}", str(project))


def load_mapping(file: str | Path, table: TableSchema) -> SourceMapping:
    """Reads a mapping for `table` (PAYMENTS or LABELS).

    Raises:
        ConfigurationError: the file is missing or not YAML, a key or a column is missing or unknown, or
            it maps another table.
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
    """The files that the mapping takes, and those that it leaves aside (lbsf/ingest/files.py has the rule).

    Args:
        spark: the session.
        mapping: what to read.
        root: storage.root.
        path: read this instead of the mapping's own path (one day's file).

    Raises:
        InputError: nothing is there, or no file of it is taken.
    """
    usual = mapping.location(root)
    location = usual if path is None else mapping.location(root, path)
    if mapping.format == "delta":
        return Delivery(location)
    # A part of the usual folder has the columns of its partition folders too.
    base = usual if location.startswith(f"{usual.rstrip('/')}/") else None
    base = next((str(value) for name, value in mapping.options.items() if name.lower() == "basepath"), base)
    try:
        return list_delivery(
            spark, location, mapping.format, patterns=mapping.files, recursive=mapping.recursive, base=base
        )
    except InputError as error:
        raise InputError(f"{mapping.file}: {error}") from None


def read_source(spark: SparkSession, mapping: SourceMapping, delivery: Delivery) -> DataFrame:
    """The delivery's rows in our columns, unchecked.

    Args:
        spark: the session.
        mapping: what to read.
        delivery: its files, by `find_delivery`.

    Returns:
        Each of the table's mapped columns with the type that its expression has, times with the table's (null
        where a column is optional and not mapped, and where a text is no full date); local_time, "ambiguous" or
        "never was" where to_utc_timestamp met an hour that clocks went through twice or left out, else null;
        source_row, the source's own columns as JSON without the null ones, or the text of a row that cannot be read;
        source_file; source_fault, null or why the row cannot be taken: its mapped columns are null then.

    Raises:
        InputError: it cannot be opened, an expression does not fit its columns or does what a mapping may not, or a
            file does not have a column that a required one is read from.
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
        # What a decoder puts in place of bytes that are no character of its encoding.
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
    """One of our columns over the source."""
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
    """What is to be said of a row's local times: of one that left no value, or else of one that gave one."""
    never, twice = F.lit(False), F.lit(False)
    for one in computed:
        for flag in one.never:
            never |= flag & one.column.isNull()
        for flag in one.twice:
            twice |= flag & one.column.isNotNull()
    return F.when(never, NEVER_WAS).when(twice, AMBIGUOUS)


def _times_of_reader(source: DataFrame) -> list[str]:
    """The columns within the files, not those of partition folders, that the reader itself makes times of."""
    found: dict[str, None] = {}
    leaves = source._jdf.queryExecution().analyzed().collectLeaves()
    for place in range(leaves.size()):
        leaf = leaves.apply(place)
        if leaf.getClass().getSimpleName() == "LogicalRelation":
            schema = StructType.fromJson(json.loads(leaf.relation().dataSchema().json()))
            found |= dict.fromkeys(time_columns(schema))
    return list(found)


def _check_every_file(mapping: SourceMapping, kinds: list[Kind], source: DataFrame) -> None:
    """Raises InputError where a required column is null in every row of a file, because its column is missing."""
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
    """Whether Spark's optimizer knows that the column `value` has no value in any row."""
    rows = value.where(F.col("value").isNotNull())._jdf.queryExecution().optimizedPlan().maxRows()
    return bool(rows.isDefined() and rows.get() == 0)
