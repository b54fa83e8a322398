"""The figures of one night, counted in Spark. Pure: tables in, plain numbers out."""

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

# Bins of the score distribution: ten a decade, from DECADES decades below 1 on.
DECADES = 4
BINS_A_DECADE = 10
MERCHANTS = 10

METRICS = ("auc", "ks", "pr_auc", "brier")
SPLITS = ("out_of_time", "test", "validation")


class Band(NamedTuple):
    """Users of one risk band; mean_probability is None where there are none, limit of the thin files."""

    name: str
    limit: float | None
    users: int
    share: float
    mean_probability: float | None


class Merchant(NamedTuple):
    """A merchant that raises or lowers risk: of how many users, by what mean factor on the odds."""

    name: str
    users: int
    odds: float


class FieldReasons(NamedTuple):
    """How many reasons a field of the payments did most of; None: no field did."""

    field: str | None
    raises: int
    lowers: int


class Loss(NamedTuple):
    """What the caps dropped of the night's folds: users of whom something was dropped, and shares of the whole."""

    users_cut: int
    payments: float
    merchants: float
    spending: float


@dataclass(frozen=True)
class Night:
    """One night's scores and what they were made from.

    Attributes:
        as_of: the night.
        users: scored users.
        mean_probability: over all users.
        thin_files: users with too few payments or merchants.
        model: `name version n` of the model that scored, one each.
        folds_versions: Delta versions of the folds table that were scored.
        bands: in rising order of risk, empty ones too, then the thin files.
        histogram: users in each bin of probability, DECADES * BINS_A_DECADE of them, even in
            log10(probability); the first also holds what lies below. Thin files are left out.
        raising: the merchants most often named as raising risk.
        lowering: those most often named as lowering it.
        fields: reasons by field, the most frequent first.
        loss: what the caps dropped; None where that was not counted.
        payments_by_day: payments of each day of the window that has any.
        quarantined: rows refused so far, by reason; a row that broke two rules counts under both.
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
    """How well a model tells defaulters from others, on labels that it was not trained on.

    Attributes:
        model: whose metrics these are.
        split: the split that was measured.
        metrics: auc, ks, pr_auc, brier.
        baseline: the same of LightGBM on the same rows, or None.
        best_auc: the highest AUC that anyone could reach, where it is known.
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
    """Counts one night.

    Args:
        scores: rows of the scores table; other nights are left out.
        payments: rows of the payments table, of the window to show.
        quarantine: the payments_quarantine table, or None where nothing was ever quarantined.
        fold_loss: the fold_loss table, or None where there is none.
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
    """The quality of a model from its run's metrics: the out-of-time test before others; None without any.

    Args:
        model: name and version.
        metrics: `split.metric`, and `lightgbm.split.metric` of the baseline.
        best_auc: the highest AUC that anyone could reach.
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
    place = F.floor((F.log10(F.greatest(F.col("probability"), F.lit(10.0**-DECADES))) + DECADES) * BINS_A_DECADE)
    full = scores.where(~F.col("thin_file"))
    counted = _counts(full.groupBy(F.least(place, F.lit(bins - 1)).cast("int")).agg(F.count("*")))
    return tuple(counted.get(number, 0) for number in range(bins))


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
    """Sums over the bands of history; None where the night's folds were not counted."""
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
    """Rows of (key, count) as a dictionary, in their order."""
    rows: Sequence[Sequence[object]] = df.collect()
    return {row[0]: row[1] for row in rows}
