"""Metrics by segment of users: length of history, payments, merchants, thin files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lbsf.evaluation.delong import Floats, auc_interval
from lbsf.evaluation.metrics import evaluate
from lbsf.folds.packed import SECONDS_PER_DAY, Ints, PackedFolds
from lbsf.models.artifact import thin_files

Names = npt.NDArray[np.str_]

# What `describe` returns for each user.
FACTS = ("payments", "merchants", "history_days")
# Lower limits of the bands; a first band begins at 0. History has the bands of the table fold_loss.
HISTORY_BANDS = (1, 30, 60, 90, 120, 150, 180)
PAYMENT_BANDS = (1, 10, 30, 100, 300)
MERCHANT_BANDS = (1, 3, 10, 30)


def describe(packed: PackedFolds) -> dict[str, Ints]:
    """Return the FACTS of each user of a batch, (n,) int64 each.

    payments and merchants are those kept in the fold. history_days are the days from the first kept payment to
    as_of, rounded up; 0 without payments.
    """
    first = packed.as_of.copy()
    np.minimum.at(first, packed.user_of_payment, packed.paid_at)
    return {
        "payments": packed.payments_of_users,
        "merchants": packed.merchant_count.astype(np.int64),
        "history_days": -((first - packed.as_of) // SECONDS_PER_DAY),
    }


def segment_users(facts: Mapping[str, Ints], thin_payments: int, thin_merchants: int) -> dict[str, Names]:
    """Return each user's band in every segmentation.

    Args:
        facts: as returned by `describe`.
        thin_payments: a user with fewer payments is a thin file.
        thin_merchants: a user with fewer merchants is a thin file.

    Returns:
        history, payments, merchants, file -> (n,) names of bands.
    """
    thin = thin_files(facts["payments"], facts["merchants"], thin_payments, thin_merchants)
    return {
        "history": _bands(facts["history_days"], HISTORY_BANDS),
        "payments": _bands(facts["payments"], PAYMENT_BANDS),
        "merchants": _bands(facts["merchants"], MERCHANT_BANDS),
        "file": np.where(thin, "thin", "full"),
    }


def segment_table(label: Floats, probability: Floats, segments: Mapping[str, Names]) -> pd.DataFrame:
    """Compute the metrics of each segment and band that has users.

    Args:
        label: (n,) 0 or 1.
        probability: (n,) of default.
        segments: as returned by `segment_users`.

    Returns:
        One row per segment and band: segment, band, users, defaults, default_rate, mean_probability, brier; auc, ks
        and calibration, NaN without both classes; auc_low and auc_high (95 % limits), NaN if undefined.
    """
    rows = []
    for segment, band, chosen in each_band(segments):
        outcome, scored = label[chosen], probability[chosen]
        row: dict[str, Any] = {
            "segment": segment,
            "band": band,
            "users": len(outcome),
            "defaults": int(outcome.sum()),
            "default_rate": float(outcome.mean()),
            "mean_probability": float(scored.mean()),
            "brier": float(np.mean((outcome - scored) ** 2)),
        }
        row |= dict.fromkeys(("auc", "auc_low", "auc_high", "ks", "calibration"), float("nan"))
        if 0 < row["defaults"] < row["users"]:
            measured = evaluate(outcome, scored)
            row |= {name: measured[name] for name in ("auc", "ks", "calibration")}
            row["auc_low"], row["auc_high"] = auc_interval(outcome, scored) or (float("nan"), float("nan"))
        rows.append(row)
    return pd.DataFrame(rows)


def segment_metrics(table: pd.DataFrame, split: str) -> dict[str, float]:
    """Return `segment.SPLIT.SEGMENT.BAND.auc` for each row of a segment table that has an AUC."""
    found = table[table["auc"].notna()]
    names = f"segment.{split}." + found["segment"] + "." + found["band"] + ".auc"
    return dict(zip(names, found["auc"].astype(float), strict=True))


def each_band(segments: Mapping[str, Names]) -> Sequence[tuple[str, str, npt.NDArray[np.bool_]]]:
    """Return segment, band and the (n,) mask of its users for each band with users; bands in ascending order."""
    return [(segment, str(band), bands == band) for segment, bands in segments.items() for band in np.unique(bands)]


def _bands(values: Ints, limits: Sequence[int]) -> Names:
    """Return each value's band: `000`, `001-009`, …, `300-up`. Names sort as text and are valid in MLflow."""
    lows = (0, *limits)
    names = [
        f"{low:03d}" if low == high - 1 else f"{low:03d}-{high - 1:03d}"
        for low, high in zip(lows, lows[1:], strict=False)
    ]
    return np.array([*names, f"{lows[-1]:03d}-up"])[np.searchsorted(limits, values, side="right")]
