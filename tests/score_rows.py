"""Rows of the scores table made by hand, for several tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from lbsf.config import load_config
from lbsf.schemas import SCORES
from lbsf.schemas.scores import THIN_BAND

BANDS = load_config("conf/base.yaml").scoring.bands

Row = dict[str, Any]


def score_row(user_id: str, score_date: date, probability: float, band: str | None = None, **changes: Any) -> Row:
    """One score: its band follows from the probability unless one is given; a thin file's is THIN_BAND."""
    if band is None:
        band = next(name for name, limit in BANDS.items() if probability <= limit)
    thin = band == THIN_BAND
    return {
        "score_date": score_date,
        "user_id": user_id,
        "probability": probability,
        "band": band,
        "percentile": None if thin else 50.0,
        "thin_file": thin,
        "reasons": [],
        "change": None,
        "model_name": "lbsf",
        "model_version": "1",
        "folds_version": 0,
        "payments_version": 0,
        "scored_at": datetime.combine(score_date, time(2), UTC),
    } | changes


def reason(merchant: str, contribution: float, field: str | None = "amount", name: str | None = None) -> Row:
    """One reason; its direction follows from the contribution."""
    direction = "raises" if contribution > 0 else "lowers"
    return {
        "merchant_id": merchant,
        "merchant_name": f"Shop {merchant}" if name is None else name,
        "direction": direction,
        "contribution": contribution,
        "field": field,
        "text": f"{merchant} {direction} it",
    }


def score_frame(spark: SparkSession, rows: Sequence[Row]) -> DataFrame:
    """Rows as the scores table has them."""
    return spark.createDataFrame([tuple(row[name] for name in SCORES.column_names) for row in rows], SCORES.struct)
