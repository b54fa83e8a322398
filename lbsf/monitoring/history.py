"""Reads the results of monitor_scores for one night, and the history before it, for the report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lbsf.monitoring.findings import ALL, Measured, breaches
from lbsf.monitoring.migration import Migration

DATES = 60
# The measures that the report draws over time.
SHOWN_OVER_TIME = ("score_psi", "input_psi", "matured_auc", "matured_ks", "matured_calibration")


@dataclass(frozen=True)
class Watched:
    """The monitoring results of one night.

    Attributes:
        measured: the night's rows of score_monitoring, in the order of measure and segment.
        history: (measure, segment) -> score date -> value, for SHOWN_OVER_TIME and the last DATES dates.
        migrations: the night's band migrations, `night` and `month`, if there are earlier nights to compare with.
    """

    measured: tuple[Measured, ...]
    history: dict[tuple[str, str], dict[date, float]]
    migrations: tuple[Migration, ...]

    @property
    def breaches(self) -> list[Measured]:
        """Return the measures beyond their thresholds."""
        return breaches(self.measured)

    def of(self, measure: str, segment: str = ALL) -> Measured | None:
        """Return the row of a measure and segment, or None."""
        return next((one for one in self.measured if one[:2] == (measure, segment)), None)

    def segments(self, measure: str) -> dict[str, Measured]:
        """Return a measure's rows by segment, without the segment `all`."""
        return {one.segment: one for one in self.measured if one.measure == measure and one.segment != ALL}


def collect_watched(monitoring: DataFrame, migration: DataFrame, as_of: date) -> Watched | None:
    """Read one night and the history up to it; return None if the night was not monitored.

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
