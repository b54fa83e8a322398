"""Scores: what comes out."""

from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DateType,
    DoubleType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from lbsf.schemas.table import Column, TableSchema

REASON = StructType(
    [
        StructField("merchant_id", StringType(), False),
        StructField("merchant_name", StringType(), False),
        StructField("direction", StringType(), False),
        StructField("contribution", DoubleType(), False),
    ]
)

SCORES = TableSchema(
    name="scores",
    purpose="One row a scored user and night. Re-scoring a date replaces that date alone.",
    key=("score_date", "user_id"),
    partition_by=("score_date",),
    columns=(
        Column("score_date", DateType(), "as_of of the folds that were scored"),
        Column("user_id", StringType(), "the scored user"),
        Column("probability", DoubleType(), "calibrated probability of default, 0 to 1"),
        Column("band", StringType(), "risk band of scoring.bands"),
        Column("percentile", DoubleType(), "share of the night's users with a lower probability, 0 to 100"),
        Column("thin_file", BooleanType(), "too few payments or merchants to trust the score alone"),
        Column(
            "reasons",
            ArrayType(REASON, containsNull=False),
            "merchants that moved the score most: direction `raises` or `lowers`, contribution in log-odds",
        ),
        Column("model_name", StringType(), "registered model"),
        Column("model_version", StringType(), "its version"),
        Column("folds_version", LongType(), "Delta version of the folds table that was read"),
        Column("scored_at", TimestampType(), "when the row was made, UTC"),
    ),
)
