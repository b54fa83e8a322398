"""Payments, quarantined payments and labels: what comes in."""

from pyspark.sql.types import (
    ArrayType,
    DateType,
    DecimalType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
)

from lbsf.schemas.table import Column, TableSchema

PAYMENTS = TableSchema(
    name="payments",
    purpose="One row a payment that meets the contract. A payment delivered twice is stored once.",
    key=("payment_id",),
    partition_by=("paid_month", "user_bucket"),
    sorted_by=("user_id", "paid_at"),
    change_feed=True,
    columns=(
        Column("payment_id", StringType(), "the source's identifier of the payment, unique"),
        Column("user_id", StringType(), "who paid"),
        Column("merchant_id", StringType(), "who was paid"),
        Column("paid_at", TimestampType(), "instant of the payment, UTC"),
        Column("paid_on", DateType(), "UTC day of paid_at"),
        Column("amount", DecimalType(18, 2), "amount in currency; negative for a refund"),
        Column("currency", StringType(), "ISO 4217 code, one of ingest.currencies"),
        Column("category", StringType(), "the merchant's or the purchase's category", nullable=True),
        Column("channel", StringType(), "how or where it was paid (pos, online, cash, a store)", nullable=True),
        Column("merchant_name", StringType(), "name as on the statement", nullable=True),
        Column("description", StringType(), "purchase description", nullable=True),
        Column("ingested_at", TimestampType(), "when the row was stored, UTC"),
        Column("source", StringType(), "name of the source mapping that delivered it"),
        Column("paid_month", DateType(), "first day of paid_on's month"),
        Column("user_bucket", IntegerType(), "CRC-32 of user_id modulo storage.user_buckets: who is folded together"),
    ),
)

_QUARANTINE_COLUMNS = (
    Column("quarantine_id", StringType(), "SHA-256 of source_file and row: the same bad row is stored once"),
    Column(
        "row",
        StringType(),
        "the source's row as JSON, its columns that are not null; the text of one that does not fit its file",
    ),
    Column("reasons", ArrayType(StringType()), "each rule that it broke"),
    Column("occurrences", LongType(), "how often the identical row stood in the file"),
    Column("source", StringType(), "name of the source mapping"),
    Column("source_file", StringType(), "file that held it"),
    Column("run_id", StringType(), "ingest run that first saw it"),
    Column("quarantined_at", TimestampType(), "when it was stored, UTC"),
)

PAYMENTS_QUARANTINE = TableSchema(
    name="payments_quarantine",
    purpose="Payments that broke the contract, as they came, so that they can be mended at their source.",
    key=("quarantine_id",),
    columns=_QUARANTINE_COLUMNS,
)

LABELS = TableSchema(
    name="labels",
    purpose="One row an observed outcome: did this user, observed on this day, default afterwards?",
    key=("user_id", "observed_on"),
    columns=(
        Column("user_id", StringType(), "the borrower"),
        Column("observed_on", DateType(), "features may use only payments with paid_at < observed_on"),
        Column("label", IntegerType(), "1: defaulted, 0: did not"),
        Column("matured_on", DateType(), "day on which the outcome was known"),
    ),
)

LABELS_QUARANTINE = TableSchema(
    name="labels_quarantine",
    purpose="Labels that broke the contract, as they came, so that they can be mended at their source.",
    key=("quarantine_id",),
    columns=_QUARANTINE_COLUMNS,
)

SYNTHETIC_TRUTH = TableSchema(
    name="synthetic_truth",
    purpose="The simulator's own default probabilities. For benchmarks alone: no job or model may read it.",
    key=("user_id", "observed_on"),
    columns=(
        Column("user_id", StringType(), "simulated user"),
        Column("observed_on", DateType(), "day of the label"),
        Column("label", IntegerType(), "the outcome drawn with default_probability"),
        Column("default_probability", DoubleType(), "true probability of default given the latent state"),
    ),
)
