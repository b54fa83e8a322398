"""Source mappings: where a delivery is, and for each of our columns a Spark SQL expression over its columns.

A mapping (conf/sources/NAME.yaml):

    name: my_bank                     # stored with each payment
    table: payments                   # or labels
    format: csv                       # csv, parquet, json, delta
    path: "{root}/raw/payments"       # a file, a folder (with partition folders), or a glob
    options: {header: true}           # of Spark's reader
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
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from py4j.protocol import Py4JJavaError
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DateType, StructType, TimestampType

from lbsf.config.loader import describe, read_yaml
from lbsf.config.models import Identifier
from lbsf.errors import ConfigurationError, InputError
from lbsf.ingest.contract import AMBIGUOUS, NEVER_WAS
from lbsf.ingest.expressions import Computed, ExpressionRefusedError, compute
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


def read_source(spark: SparkSession, mapping: SourceMapping, root: str, path: str | None = None) -> DataFrame:
    """The source's rows in our columns, unchecked.

    Args:
        spark: the session.
        mapping: what to read.
        root: storage.root.
        path: read this instead of the mapping's own path (one day's file).

    Returns:
        Each of the table's mapped columns with the type that its expression has, times with the table's (null
        where a column is optional and not mapped, and where a text is no full date); local_time, "ambiguous" or
        "never was" where to_utc_timestamp met an hour that clocks went through twice or left out, else null;
        source_row, the source's own columns as JSON without the null ones; source_file.

    Raises:
        InputError: nothing is there, it cannot be opened, or an expression does not fit its columns or does what
            a mapping may not.
    """
    source = _open(spark, mapping, mapping.location(root), None if path is None else mapping.location(root, path))
    if mapping.format in TEXT_FORMATS and (read := _times_of_reader(source)):
        raise InputError(
            f"{mapping.file}: {', '.join(read)}: the reader would take 12:30 for today at 12:30; read times of "
            f"{mapping.format} files as strings (`schema`, no inferSchema) and convert them in `columns`"
        )
    computed = {name: _computed(source, mapping, name) for name in (*REQUIRED[mapping.table], *OPTIONAL[mapping.table])}
    return source.select(
        *(one.column.alias(name) for name, one in computed.items()),
        _local_time(computed.values()).alias("local_time"),
        F.to_json(F.struct("*")).alias("source_row"),
        F.col("_metadata.file_path").alias("source_file"),
    )


def _computed(source: DataFrame, mapping: SourceMapping, name: str) -> Computed:
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
            f"{where} cannot be read from the source: {_reason(error)} (its columns: {', '.join(source.columns)})"
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


def _open(spark: SparkSession, mapping: SourceMapping, usual: str, other: str | None) -> DataFrame:
    location = usual if other is None else other
    # A CSV file whose header names other columns is refused rather than read by position.
    options: dict[str, str | bool | int | float] = {"enforceSchema": False} if mapping.format == "csv" else {}
    if other is not None and other.startswith(f"{usual.rstrip('/')}/") and mapping.format != "delta":
        # A part of the usual folder has the columns of its partition folders too.
        options |= {"basePath": usual}
    try:
        reader = spark.read.format(mapping.format).options(**{**options, **mapping.options})
        if mapping.schema_ddl is not None:
            reader = reader.schema(mapping.schema_ddl)
        source = reader.load(location)
    except Py4JJavaError as error:
        fault = file_fault(error)
        if fault is None:
            raise
        raise InputError(f"{mapping.file}: {location} cannot be opened as {mapping.format}: {fault}") from None
    except PySparkException as error:
        if error.getErrorClass() == "PATH_NOT_FOUND":
            raise InputError(f"{mapping.file}: there is nothing at {location}") from None
        raise InputError(f"{mapping.file}: {location} cannot be opened as {mapping.format}: {_reason(error)}") from None
    if not source.columns:
        raise InputError(f"{mapping.file}: {location} holds no rows")
    return source


def file_fault(error: Exception) -> str | None:
    """What Spark says of a file that it cannot read; None where the fault is another."""
    marks = (
        "CANNOT_READ_FILE_FOOTER",
        "while reading file",
        "CSV header does not conform",
        # A packed file that was cut off or is not packed; Spark does not say which file.
        "java.io.EOFException",
        "java.util.zip.ZipException",
        "not a gzip file",
    )
    for line in str(error).splitlines():
        for mark in marks:
            if mark in line:
                return line[line.index(mark) :].strip()
    return None


def _reason(error: Exception) -> str:
    """The first sentence of one of Spark's messages, without its error class and its plan."""
    text = str(error).strip().splitlines()[0]
    return re.sub(r"^\[[A-Z_.]+\]\s*", "", text).split(";")[0].strip()
