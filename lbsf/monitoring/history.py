"""What monitor_scores wrote of a night and of the nights before it, for the report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lbsf.monitoring.findings import ALL, Measured, breaches
from lbsf.monitoring.migration import Migration

DATES = 60
# The segments of score_psi and of quality are few; of these measures the page shows all nights.
SHOWN_OVER_TIME = ("score_psi", "input_psi", "matured_auc", "matured_ks", "matured_calibration")


@dataclass(frozen=True)
class Watched:
    """One watched night.

    Attributes:
        measured: its rows, in the order of measure and segment.
        history: (measure, segment) -> score date -> value, of SHOWN_OVER_TIME and the last DATES dates.
        migrations: its band changes, `night` and `month` where there are such.
    """

    measured: tuple[Measured, ...]
    history: dict[tuple[str, str], dict[date, float]]
    migrations: tuple[Migration, ...]

    @property
    def breaches(self) -> list[Measured]:
        """What lies beyond its threshold."""
        return breaches(self.measured)

    def of(self, measure: str, segment: str = ALL) -> Measured | None:
        """One row, or None where there is none."""
        return next((one for one in self.measured if one[:2] == (measure, segment)), None)

    def segments(self, measure: str) -> dict[str, Measured]:
        """A measure's rows by segment, without the whole."""
        return {one.segment: one for one in self.measured if one.measure == measure and one.segment != ALL}


def collect_watched(monitoring: DataFrame, migration: DataFrame, as_of: date) -> Watched | None:
    """Reads one night and the history up to it; None where the night was not watched.

    Args:
        monitoring: the score_monitoring table.
        migration: the band_migration table.
        as_of: the night.
    """
    known = monitoring.select("score_date").where(F.col("score_date") <= F.lit(as_of)).distinct()
    dates = [row["score_date"] for row in known.orderBy(F.desc("score_date")).limit(DATES).collect()]
    if as_of not in dates:
        return None
    wanted = (F.col("score_date") == F.lit(as_of)) | F.col("measure").isin(*SHOWN_OVER_TIME)
    rows = (
        monitoring.where(F.col("score_date").between(F.lit(min(dates)), F.lit(as_of)) & wanted)
        .orderBy("score_date", "measure", "segment")
        .collect()
    )
    history: dict[tuple[str, str], dict[date, float]] = {}
    for row in rows:
        if row["measure"] in SHOWN_OVER_TIME and row["value"] is not None:
            history.setdefault((row["measure"], row["segment"]), {})[row["score_date"]] = row["value"]
    measured = [Measured(*(row[name] for name in Measured._fields)) for row in rows if row["score_date"] == as_of]
    return Watched(tuple(measured), history, _migrations(migration, as_of))


def _migrations(migration: DataFrame, as_of: date) -> tuple[Migration, ...]:
    rows = migration.where(F.col("score_date") == F.lit(as_of)).collect()
    periods = sorted({(row["period"], row["since"]) for row in rows}, reverse=True)
    return tuple(
        Migration(
            period,
            since,
            {(row["from_band"], row["to_band"]): row["users"] for row in rows if row["period"] == period},
        )
        for period, since in periods
    )
