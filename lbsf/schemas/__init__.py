"""The tables' schemas, each declared once."""

from lbsf.schemas.folds import EXAMPLES, FOLD_LOSS, FOLDS
from lbsf.schemas.payments import LABELS, LABELS_QUARANTINE, PAYMENTS, PAYMENTS_QUARANTINE, SYNTHETIC_TRUTH
from lbsf.schemas.scores import BAND_MIGRATION, NIGHTLY_RUNS, SCORE_MONITORING, SCORES
from lbsf.schemas.table import Column, TableSchema

ALL_TABLES = (
    PAYMENTS,
    PAYMENTS_QUARANTINE,
    LABELS,
    LABELS_QUARANTINE,
    FOLDS,
    EXAMPLES,
    FOLD_LOSS,
    SCORES,
    SCORE_MONITORING,
    BAND_MIGRATION,
    NIGHTLY_RUNS,
    SYNTHETIC_TRUTH,
)

__all__ = [
    "ALL_TABLES",
    "BAND_MIGRATION",
    "EXAMPLES",
    "FOLDS",
    "FOLD_LOSS",
    "LABELS",
    "LABELS_QUARANTINE",
    "NIGHTLY_RUNS",
    "PAYMENTS",
    "PAYMENTS_QUARANTINE",
    "SCORES",
    "SCORE_MONITORING",
    "SYNTHETIC_TRUTH",
    "Column",
    "TableSchema",
]
