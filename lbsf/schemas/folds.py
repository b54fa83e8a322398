"""Folds and examples: a user's payments of a window, folded by merchant.

The layout is compressed sparse row, so a row has no nested lists. Merchant lists have one element a
merchant, in rising order of merchant_id. Payment lists have sum(merchant_len) elements: the payments
of the first merchant in order of time, then the second's, and so on. Word lists have
sum(merchant_token_len) or sum(description_token_len) elements in the same order.
"""

from pyspark.sql.types import ArrayType, DateType, DoubleType, IntegerType, LongType, StringType

from lbsf.schemas.table import Column, TableSchema


def _list(element: StringType | IntegerType | LongType) -> ArrayType:
    return ArrayType(element, containsNull=False)


FOLD_COLUMNS = (
    Column("user_id", StringType(), "whose payments"),
    Column("as_of", DateType(), "end of the window, exclusive: no payment at or after its midnight UTC"),
    Column("window_days", IntegerType(), "length of the window: [as_of - window_days, as_of)"),
    Column("fold_spec", StringType(), "identifies window, caps and hash sizes; models read one spec only"),
    Column("merchant_id", _list(StringType()), "merchant lists: who was paid"),
    Column("merchant_name", _list(StringType()), "merchant lists: name at the latest kept payment, '' for null"),
    Column("merchant_category", _list(StringType()), "merchant lists: category at the latest kept payment"),
    Column("merchant_len", _list(IntegerType()), "merchant lists: kept payments of the merchant, at least 1"),
    Column("merchant_token_len", _list(IntegerType()), "merchant lists: words of the merchant's name"),
    Column("merchant_token", _list(IntegerType()), "words of merchant names: hash bucket, from 1"),
    Column("paid_at", _list(LongType()), "payment lists: whole seconds since 1970-01-01 UTC"),
    Column("amount_cents", _list(LongType()), "payment lists: amount in hundredths of the currency"),
    Column("category", _list(IntegerType()), "payment lists: hash bucket of the category, 0 for null"),
    Column("channel", _list(IntegerType()), "payment lists: hash bucket of the channel, 0 for null"),
    Column("description_token_len", _list(IntegerType()), "payment lists: words of the description"),
    Column("description_token", _list(IntegerType()), "words of descriptions: hash bucket, from 1"),
    Column("payments_kept", IntegerType(), "payments in the lists"),
    Column("payments_dropped", IntegerType(), "payments of the window that the caps dropped"),
    Column("merchants_kept", IntegerType(), "merchants in the lists"),
    Column("merchants_dropped", IntegerType(), "merchants of the window that the cap dropped"),
    Column("cents", LongType(), "sum of the window's absolute amounts, hundredths of the currency"),
    Column("cents_dropped", LongType(), "of them, of the payments that the caps dropped"),
    Column("history_days", IntegerType(), "days from the window's first payment, dropped or not, to as_of; 0: none"),
)

FOLDS = TableSchema(
    name="folds",
    purpose="One row a user and as_of: the user's payments of the window, folded by merchant.",
    key=("user_id", "as_of"),
    partition_by=("as_of", "user_bucket"),
    columns=(
        *FOLD_COLUMNS,
        Column("user_bucket", IntegerType(), "as in payments"),
        Column("payments_version", LongType(), "Delta version of payments that the fold holds"),
    ),
)

FOLD_LOSS = TableSchema(
    name="fold_loss",
    purpose="What the caps dropped, by label and length of history: where truncation may bias a model.",
    key=("of_table", "as_of", "label", "history"),
    partition_by=("of_table", "as_of"),
    columns=(
        Column("of_table", StringType(), "folds or examples"),
        Column("as_of", DateType(), "day of the folds; of examples, which have many, the latest"),
        Column("table_version", LongType(), "Delta version of that table"),
        Column("label", StringType(), "1: defaulted, 0: did not; `unknown` for folds"),
        Column("history", StringType(), "days from the window's first payment to as_of, in bands"),
        Column("users", LongType(), "folds of this label and history"),
        Column("users_cut", LongType(), "of them, folds from which a cap dropped payments"),
        Column("payments", LongType(), "payments of their windows"),
        Column("payments_dropped", LongType(), "of them, dropped by the caps"),
        Column("merchants", LongType(), "merchants of their windows"),
        Column("merchants_dropped", LongType(), "of them, dropped by the cap"),
        Column("cents", LongType(), "sum of absolute amounts of their windows, hundredths of the currency"),
        Column("cents_dropped", LongType(), "of them, dropped by the caps"),
        Column("payments_dropped_share", DoubleType(), "payments_dropped / payments, 0 where there are none"),
        Column("cents_dropped_share", DoubleType(), "cents_dropped / cents, 0 where there are none"),
    ),
)

EXAMPLES = TableSchema(
    name="examples",
    purpose="Folds as of each label's observed_on, with the label and its split. Training reads these.",
    key=("user_id", "as_of"),
    partition_by=("split",),
    columns=(
        *FOLD_COLUMNS,
        Column("label", IntegerType(), "1: defaulted, 0: did not"),
        Column("matured_on", DateType(), "day on which the outcome was known"),
        Column("split", StringType(), "train, validation, test (by user hash) or out_of_time (by date)"),
    ),
)
