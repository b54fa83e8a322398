"""Scores: what comes out, and how it is watched."""

from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DateType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from lbsf.schemas.table import Column, TableSchema

# Fields of a merchant's payments that can be what moved a score; lbsf/scoring/fields.py tells how that is found.
REASON_FIELDS = ("amount", "time", "kind")
# The band of users with too little history for the network.
THIN_BAND = "thin"

REASON = StructType(
    [
        StructField("merchant_id", StringType(), False),
        StructField("merchant_name", StringType(), False),
        StructField("direction", StringType(), False),
        StructField("contribution", DoubleType(), False),
        StructField("field", StringType(), True),
        StructField("text", StringType(), False),
    ]
)

CHANGE = StructType(
    [
        StructField("since", DateType(), False),
        StructField("probability", DoubleType(), False),
        StructField("contribution", DoubleType(), False),
        StructField("new_payments", IntegerType(), False),
        StructField("by_new_payments", DoubleType(), False),
        StructField("text", StringType(), False),
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
        Column(
            "probability",
            DoubleType(),
            "calibrated probability of default, 0 to 1; of a thin file the default rate of thin files in training",
        ),
        Column("band", StringType(), f"risk band of scoring.bands, or `{THIN_BAND}`"),
        Column(
            "percentile",
            DoubleType(),
            "share of the night's users with a lower probability, 0 to 100, thin files left out; null for a thin file",
            nullable=True,
        ),
        Column("thin_file", BooleanType(), "too few payments or merchants for the network to say anything"),
        Column(
            "reasons",
            ArrayType(REASON, containsNull=False),
            "merchants that moved the score most, the strongest first: direction `raises` or `lowers`, contribution in "
            "log-odds, field (`amount`, `time`, `kind`) that did most of it or null, and a sentence; none for a thin "
            "file",
        ),
        Column(
            "change",
            CHANGE,
            "against the user's score of the night scored before: since (that night), probability then, contribution "
            "(log-odds now less then), new_payments since then, by_new_payments (log-odds with less without them), "
            "and a sentence; null without an earlier score, or where either is a thin file's",
            nullable=True,
        ),
        Column("model_name", StringType(), "registered model"),
        Column("model_version", StringType(), "its version"),
        Column("folds_version", LongType(), "Delta version of the folds table that was read"),
        Column("payments_version", LongType(), "Delta version of the payments table that the fold was made from"),
        Column("scored_at", TimestampType(), "when the row was made, UTC"),
    ),
)

SCORE_MONITORING = TableSchema(
    name="score_monitoring",
    purpose="One row a score date, measure and segment: drift, volumes, and the quality of matured scores. "
    "Monitoring a date again replaces that date alone.",
    key=("score_date", "measure", "segment"),
    partition_by=("score_date",),
    columns=(
        Column("score_date", DateType(), "the night that was watched"),
        Column("measure", StringType(), "what was measured; docs/monitoring.md lists all"),
        Column("segment", StringType(), "part of the users or the input that it was measured on; `all` for the whole"),
        Column("value", DoubleType(), "the measured value; null where there was nothing to measure", nullable=True),
        Column("threshold", DoubleType(), "value beyond which it is a breach; null where none is set", nullable=True),
        Column("breached", BooleanType(), "whether the value lies beyond its threshold"),
        Column("counted", LongType(), "users, payments or labels behind the value"),
        Column("monitored_at", TimestampType(), "when the row was made, UTC"),
    ),
)

BAND_MIGRATION = TableSchema(
    name="band_migration",
    purpose="How many users went from which band to which, since the night before and since a month before. "
    "Monitoring a date again replaces that date alone.",
    key=("score_date", "period", "from_band", "to_band"),
    partition_by=("score_date",),
    columns=(
        Column("score_date", DateType(), "the later night"),
        Column("period", StringType(), "`night` or `month`"),
        Column("since", DateType(), "the earlier night: the last one scored before, or at least a month before"),
        Column("from_band", StringType(), "band on the earlier night; `none`: not scored then"),
        Column("to_band", StringType(), "band on the later night; `none`: not scored then"),
        Column("users", LongType(), "users who went that way, those who stayed included"),
    ),
)

NIGHTLY_RUNS = TableSchema(
    name="nightly_runs",
    purpose="One row a night and step of the nightly job: what was done last, and how it ended.",
    key=("as_of", "step"),
    partition_by=("as_of",),
    columns=(
        Column("as_of", DateType(), "the night"),
        Column("step", StringType(), "ingest, labels, fold, score, monitor or report"),
        Column("number", IntegerType(), "the step's place in the night, from 1"),
        Column("outcome", StringType(), "`started`, `done`, `finding` (done, and a person must look) or `failed`"),
        Column("attempt", IntegerType(), "how often the step was begun for this night"),
        Column("started_at", TimestampType(), "when it began, UTC"),
        Column(
            "ended_at", TimestampType(), "when it ended, UTC; null while it runs or where it was killed", nullable=True
        ),
        Column("rows_in", LongType(), "rows read; of an ingest those that are new", nullable=True),
        Column("rows_out", LongType(), "rows written", nullable=True),
        Column("quarantined", LongType(), "rows newly refused and kept aside", nullable=True),
        Column("details", StringType(), "the step's further figures and table versions, as JSON", nullable=True),
        Column("message", StringType(), "why it failed, or what it found", nullable=True),
        Column("run_id", StringType(), "the run of the nightly job that did it"),
        Column("code_version", StringType(), "git commit, or the installed version, of the code that did it"),
    ),
)
