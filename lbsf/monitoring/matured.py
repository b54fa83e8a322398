"""Quality of past scores, measured on labels that have matured since."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lbsf.config.models import MonitoringConfig
from lbsf.evaluation.delong import auc_interval
from lbsf.evaluation.metrics import evaluate
from lbsf.monitoring.findings import Measured, at_least, shown, within


def matured_counts(labels: DataFrame, scores: DataFrame, as_of: date, limits: MonitoringConfig) -> pd.DataFrame:
    """Count users and defaults by band and probability, for labels that matured in the limits.matured_days to `as_of`.

    Each label is joined to its user's latest score that is not later than the label's observed_on and at most
    limits.score_age_days older; a later score could already know the outcome. Labels without such a score are left out.

    Args:
        labels: rows of the labels table.
        scores: rows of the scores table.
        as_of: the night; a label that matures after it is not known yet.
        limits: the lookback periods.

    Returns:
        band, probability, users, defaults: one row per distinct probability and band, however many labels there are.
    """
    first = as_of - timedelta(days=limits.matured_days)
    labels = labels.where((F.col("matured_on") > F.lit(first)) & (F.col("matured_on") <= F.lit(as_of)))
    observed = labels.agg(F.min("observed_on"), F.max("observed_on")).head()
    assert observed is not None  # An aggregate without groups has one row.
    if observed[0] is None:
        return pd.DataFrame({"band": [], "probability": [], "users": [], "defaults": []})
    earliest = observed[0] - timedelta(days=limits.score_age_days)
    # The table is partitioned by night: only these nights are read.
    nights = scores.where(F.col("score_date").between(F.lit(earliest), F.lit(observed[1])))
    age = F.datediff("observed_on", "score_date")
    latest = (
        labels.select("user_id", "observed_on", "label")
        .join(nights.select("user_id", "score_date", "probability", "band"), "user_id")
        .where((age >= 0) & (age <= limits.score_age_days))
        .groupBy("user_id", "observed_on", "label")
        .agg(F.max(F.struct("score_date", "probability", "band")).alias("score"))
    )
    return (
        latest.groupBy("score.band", "score.probability")
        .agg(F.count("*").alias("users"), F.sum("label").alias("defaults"))
        .orderBy("band", "probability")
        .toPandas()
    )


def matured_measures(counts: pd.DataFrame, limits: MonitoringConfig) -> list[Measured]:
    """Measure the quality of matured scores overall, and the mean probability and default rate of each band.

    Thresholds apply only if there are at least limits.min_defaults defaults and as many non-defaults.

    Args:
        counts: as returned by `matured_counts`.
        limits: the thresholds.
    """
    users, defaults = int(counts["users"].sum()), int(counts["defaults"].sum())
    found = [shown("matured_users", users, users), shown("matured_defaults", defaults, users), *_rates(counts)]
    if not 0 < defaults < users:
        undefined = ("matured_auc", "matured_auc_low", "matured_auc_high", "matured_ks", "matured_calibration")
        return found + [shown(measure, None, users) for measure in undefined]
    # The counts are expanded to one element per label: defaults first, then the others. 16 bytes a label.
    label = np.repeat([1.0, 0.0], [defaults, users - defaults])
    others = counts["users"] - counts["defaults"]
    probability = np.concatenate([np.repeat(counts["probability"], times) for times in (counts["defaults"], others)])
    measured = evaluate(label, probability)
    low, high = auc_interval(label, probability) or (None, None)
    judged = min(defaults, users - defaults) >= limits.min_defaults
    return [
        *found,
        at_least("matured_auc", measured["auc"], limits.min_auc, users, judged=judged),
        shown("matured_auc_low", low, users),
        shown("matured_auc_high", high, users),
        at_least("matured_ks", measured["ks"], limits.min_ks, users, judged=judged),
        within("matured_calibration", measured["calibration"], limits.calibration, 1.0, users, judged=judged),
    ]


def _rates(counts: pd.DataFrame) -> list[Measured]:
    """Return mean probability and default rate, overall and by band."""
    found = []
    expected = counts.assign(expected=counts["users"] * counts["probability"])
    parts = [("all", expected), *expected.groupby("band")]
    for segment, part in parts:
        users = int(part["users"].sum())
        if users:
            found += [
                shown("matured_mean_probability", float(part["expected"].sum() / users), users, str(segment)),
                shown("matured_default_rate", float(part["defaults"].sum() / users), users, str(segment)),
            ]
    return found
