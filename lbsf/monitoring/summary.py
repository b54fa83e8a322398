"""The figures of one night for the report, counted in Spark: tables in, plain numbers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lbsf.errors import InputError
from lbsf.schemas import FOLDS
from lbsf.schemas.scores import THIN_BAND

# Bins of the score distribution: ten per decade, beginning DECADES decades below 1.
DECADES = 4
BINS_A_DECADE = 10
MERCHANTS = 10

METRICS = ("auc", "ks", "pr_auc", "brier")
SPLITS = ("out_of_time", "test", "validation")


class Band(NamedTuple):
    """Users of one risk band. mean_probability is None if the band is empty, limit is None for thin files."""

    name: str
    limit: float | None
    users: int
    share: float
    mean_probability: float | None


class Merchant(NamedTuple):
    """A merchant that raises or lowers risk: the number of users, and the geometric mean factor on their odds."""

    name: str
    users: int
    odds: float


class FieldReasons(NamedTuple):
    """How many reasons are mostly due to one field of the payments; None: to no single field."""

    field: str | None
    raises: int
    lowers: int


class Loss(NamedTuple):
    """Truncation of the night's folds: users with dropped payments, and the dropped shares of all users' totals."""

    users_cut: int
    payments: float
    merchants: float
    spending: float


@dataclass(frozen=True)
class Night:
    """The figures of one night: its scores and their inputs.

    Attributes:
        as_of: the night.
        users: number of scored users.
        mean_probability: over all users.
        thin_files: users with too few payments or merchants.
        models: `NAME version N` of each model that scored.
        folds_versions: Delta versions of the folds table that were scored.
        bands: in ascending order of risk, including empty ones; thin files last.
        histogram: users in each of DECADES * BINS_A_DECADE bins of equal width in log10(probability); the first
            bin includes lower probabilities. Thin files are left out.
        raising: the merchants most often named as raising risk.
        lowering: the merchants most often named as lowering risk.
        fields: reasons by field, the most frequent first.
        loss: truncation of the folds; None if it was not counted.
        payments_by_day: payments of each day of the window; days without payments are absent.
        quarantined: rows quarantined so far, by reason; a row that broke two rules counts under both.
    """

    as_of: date
    users: int
    mean_probability: float
    thin_files: int
    models: tuple[str, ...]
    folds_versions: tuple[int, ...]
    bands: tuple[Band, ...]
    histogram: tuple[int, ...]
    raising: tuple[Merchant, ...]
    lowering: tuple[Merchant, ...]
    fields: tuple[FieldReasons, ...]
    loss: Loss | None
    payments_by_day: dict[date, int]
    quarantined: dict[str, int]


@dataclass(frozen=True)
class Quality:
    """A model's metrics on held-out labels.

    Attributes:
        model: name and version.
        split: the split that was measured.
        metrics: auc, ks, pr_auc, brier.
        baseline: the same metrics of LightGBM on the same rows, or None.
        best_auc: the AUC of the true probabilities, if it is known (simulated data).
    """

    model: str
    split: str
    metrics: dict[str, float]
    baseline: dict[str, float] | None
    best_auc: float | None


def collect_night(
    scores: DataFrame,
    payments: DataFrame,
    quarantine: DataFrame | None,
    fold_loss: DataFrame | None,
    as_of: date,
    bands: Mapping[str, float],
) -> Night:
    """Compute the figures of one night.

    Args:
        scores: rows of the scores table; other nights are ignored.
        payments: rows of the payments table within the window to show.
        quarantine: the payments_quarantine table, or None if nothing was ever quarantined.
        fold_loss: the fold_loss table, or None if it does not exist.
        as_of: the night.
        bands: band -> upper limit, rising.

    Raises:
        InputError: there are no scores of that night.
    """
    scores = scores.where(F.col("score_date") == F.lit(as_of))
    by_band = {
        row["band"]: row
        for row in scores.groupBy("band")
        .agg(
            F.count("*").alias("users"),
            F.sum("probability").alias("probability"),
            F.count_if("thin_file").alias("thin"),
            F.collect_set(F.concat_ws(" version ", "model_name", "model_version")).alias("models"),
            F.collect_set("folds_version").alias("folds"),
        )
        .collect()
    }
    users = sum(row["users"] for row in by_band.values())
    if not users:
        raise InputError(f"--as-of {as_of}: table scores has none of that night: score the users as of {as_of} first")
    return Night(
        as_of=as_of,
        users=users,
        mean_probability=sum(row["probability"] for row in by_band.values()) / users,
        thin_files=sum(row["thin"] for row in by_band.values()),
        models=tuple(sorted({model for row in by_band.values() for model in row["models"]})),
        folds_versions=tuple(sorted({version for row in by_band.values() for version in row["folds"]})),
        bands=tuple(
            Band(name, limit, row["users"], row["users"] / users, row["probability"] / row["users"])
            if (row := by_band.get(name))
            else Band(name, limit, 0, 0.0, None)
            for name, limit in (*bands.items(), (THIN_BAND, None))
        ),
        histogram=_histogram(scores),
        raising=_merchants(scores, "raises"),
        lowering=_merchants(scores, "lowers"),
        fields=_fields(scores),
        loss=None if fold_loss is None else _loss(fold_loss, as_of),
        payments_by_day=_counts(payments.groupBy("paid_on").agg(F.count("*")).orderBy("paid_on")),
        quarantined={} if quarantine is None else _refused(quarantine),
    )


def quality_of(model: str, metrics: Mapping[str, float], best_auc: float | None) -> Quality | None:
    """Return a model's quality on the first of SPLITS that its run has metrics for, or None.

    Args:
        model: name and version.
        metrics: `SPLIT.METRIC`, and `lightgbm.SPLIT.METRIC` of the baseline.
        best_auc: the AUC of the true probabilities, if it is known.
    """
    for split in SPLITS:
        if all(f"{split}.{name}" in metrics for name in METRICS):
            baseline = {name: metrics.get(f"lightgbm.{split}.{name}") for name in METRICS}
            known = {name: value for name, value in baseline.items() if value is not None}
            measured = {name: metrics[f"{split}.{name}"] for name in METRICS}
            return Quality(model, split.replace("_", "-"), measured, known or None, best_auc)
    return None


def _histogram(scores: DataFrame) -> tuple[int, ...]:
    bins = DECADES * BINS_A_DECADE
    number = F.floor((F.log10(F.greatest(F.col("probability"), F.lit(10.0**-DECADES))) + DECADES) * BINS_A_DECADE)
    full = scores.where(~F.col("thin_file"))
    counted = _counts(full.groupBy(F.least(number, F.lit(bins - 1)).cast("int")).agg(F.count("*")))
    return tuple(counted.get(one, 0) for one in range(bins))


def _merchants(scores: DataFrame, direction: str) -> tuple[Merchant, ...]:
    reason = F.col("reason")
    rows = (
        scores.select(F.explode("reasons").alias("reason"))
        .where(reason["direction"] == direction)
        .groupBy(reason["merchant_id"].alias("merchant_id"))
        .agg(
            F.max(reason["merchant_name"]).alias("name"),
            F.count("*").alias("users"),
            F.exp(F.avg(reason["contribution"])).alias("odds"),
        )
        .orderBy(F.desc("users"), "merchant_id")
        .limit(MERCHANTS)
        .collect()
    )
    return tuple(Merchant(row["name"] or row["merchant_id"], row["users"], row["odds"]) for row in rows)


def _fields(scores: DataFrame) -> tuple[FieldReasons, ...]:
    reason = F.col("reason")
    rows = (
        scores.select(F.explode("reasons").alias("reason"))
        .groupBy(reason["field"].alias("field"))
        .agg(
            F.count_if(reason["direction"] == "raises").alias("raises"),
            F.count_if(reason["direction"] == "lowers").alias("lowers"),
        )
        .collect()
    )
    found = [FieldReasons(row["field"], row["raises"], row["lowers"]) for row in rows]
    return tuple(sorted(found, key=lambda one: (-one.raises - one.lowers, one.field or "")))


def _loss(fold_loss: DataFrame, as_of: date) -> Loss | None:
    """Sum the night's truncation over the bands of history; None if the night's folds were not counted."""
    names = ("users_cut", "payments", "payments_dropped", "merchants", "merchants_dropped", "cents", "cents_dropped")
    of_night = fold_loss.where((F.col("of_table") == FOLDS.name) & (F.col("as_of") == F.lit(as_of)))
    row = of_night.agg(*(F.sum(name).alias(name) for name in names)).head()
    if row is None or row["users_cut"] is None:
        return None
    shares = (row[f"{name}_dropped"] / row[name] if row[name] else 0.0 for name in ("payments", "merchants", "cents"))
    return Loss(int(row["users_cut"]), *shares)


def _refused(quarantine: DataFrame) -> dict[str, int]:
    reasons = quarantine.select(F.explode("reasons").alias("reason"), "occurrences")
    counted = reasons.groupBy("reason").agg(F.sum("occurrences").alias("rows"))
    return _counts(counted.orderBy(F.desc("rows"), "reason"))


def _counts(df: DataFrame) -> dict:  # type: ignore[type-arg]
    """Collect rows of (key, count) into a dictionary, in their order."""
    rows: Sequence[Sequence[object]] = df.collect()
    return {row[0]: row[1] for row in rows}
