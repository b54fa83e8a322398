"""A table's declaration and the check at the boundary."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql.types import (
    ArrayType,
    DateType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
)

from lbsf.errors import SchemaMismatchError
from lbsf.schemas import ALL_TABLES, LABELS, SCORES, Column, TableSchema

VISITS = TableSchema(
    name="visits",
    purpose="One row a visit.",
    key=("user_id",),
    columns=(
        Column("user_id", StringType(), "who"),
        Column("day", DateType(), "when"),
        Column("seconds", ArrayType(LongType(), containsNull=False), "how long"),
    ),
)


def test_discrepancies_name_each_missing_wrong_and_undeclared_column() -> None:
    found = StructType(
        [
            StructField("user_id", LongType()),  # another type
            StructField("seconds", ArrayType(IntegerType())),  # another element type
            StructField("note", StringType()),  # not declared; and `day` is missing
        ]
    )
    assert VISITS.discrepancies(found) == [
        "column user_id is bigint, not string",
        "column day is missing",
        "column seconds is array<int>, not array<bigint>",
        "column note is not declared",
    ]


def test_nullability_and_order_are_no_discrepancy() -> None:
    found = StructType(
        [
            StructField("seconds", ArrayType(LongType(), containsNull=True), True),
            StructField("day", DateType(), True),
            StructField("user_id", StringType(), True),
        ]
    )
    assert VISITS.discrepancies(found) == []


def test_a_difference_inside_a_nested_type_is_found() -> None:
    fields = list(SCORES.struct.fields)
    position = SCORES.column_names.index("reasons")
    fields[position] = StructField(
        "reasons",
        ArrayType(StructType([StructField("merchant_id", StringType()), StructField("weight", DoubleType())])),
    )
    problems = SCORES.discrepancies(StructType(fields))
    assert len(problems) == 1
    assert problems[0].startswith("column reasons is array<struct<merchant_id:string,weight:double>>, not ")


@pytest.mark.parametrize("table", ALL_TABLES, ids=lambda table: table.name)
def test_a_declaration_agrees_with_itself(table: TableSchema) -> None:
    assert table.discrepancies(table.struct) == []
    assert len(set(table.column_names)) == len(table.columns)
    assert set(table.key) <= set(table.column_names)
    assert set(table.partition_by) | set(table.sorted_by) <= set(table.column_names)
    assert not any(column.nullable for column in table.columns if column.name in table.key)
    assert all(column.comment for column in table.columns)


def test_table_names_differ() -> None:
    assert len({table.name for table in ALL_TABLES}) == len(ALL_TABLES)


@given(seed=st.integers(), dropped=st.sets(st.sampled_from(LABELS.column_names)), extra=st.booleans())
def test_discrepancies_list_exactly_what_differs(seed: int, dropped: set[str], extra: bool) -> None:
    fields = [field for field in LABELS.struct.fields if field.name not in dropped]
    fields += [StructField("note", StringType())] * extra
    random.Random(seed).shuffle(fields)
    expected = {f"column {name} is missing" for name in dropped} | ({"column note is not declared"} if extra else set())
    assert set(LABELS.discrepancies(StructType(fields))) == expected


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(VISITS.columns))
def test_conform_puts_shuffled_columns_in_declared_order(spark: SparkSession, order: list[Column]) -> None:
    struct = StructType([StructField(column.name, column.type) for column in order])
    conformed = VISITS.conform(spark.createDataFrame([], struct))
    assert conformed.columns == VISITS.column_names
    assert [field.metadata["comment"] for field in conformed.schema.fields] == ["who", "when", "how long"]


def test_conform_keeps_each_value_in_its_column(spark: SparkSession) -> None:
    df = spark.sql("SELECT array(7L, 9L) AS seconds, DATE'2025-01-01' AS day, 'u1' AS user_id")
    row = VISITS.conform(df).first()
    assert row is not None
    assert (row.user_id, str(row.day), row.seconds) == ("u1", "2025-01-01", [7, 9])


def test_conform_refuses_in_one_line_that_lists_everything(spark: SparkSession) -> None:
    df = spark.sql("SELECT 1 AS user_id, 'x' AS note")
    with pytest.raises(SchemaMismatchError) as caught:
        VISITS.conform(df)
    assert str(caught.value) == (
        "table visits: column user_id is int, not string; column day is missing; "
        "column seconds is missing; column note is not declared"
    )
