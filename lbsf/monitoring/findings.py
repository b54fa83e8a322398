"""What was measured of a night, what of it lies beyond its threshold, and what a person should look at then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

ALL = "all"


class Measure(NamedTuple):
    """What a measure is called on the page, and what to look at when it breaches; None where it never does."""

    title: str
    look_at: str | None = None


# Every measure that monitor_scores writes. docs/monitoring.md explains each.
MEASURES = {
    "score_psi": Measure(
        "PSI of the scores", "input_psi of the night for what moved; train anew where users have changed"
    ),
    "input_psi": Measure(
        "PSI of an input",
        "the source of that field: its mapping, new codes, nulls; train anew where users have changed",
    ),
    "moved_two_bands": Measure("moved two bands or more", "whether another model scored, and input_psi of the night"),
    "moved_up": Measure("moved to higher risk", "whether another model scored, and input_psi of the night"),
    "moved_down": Measure("moved to lower risk", "whether another model scored, and input_psi of the night"),
    "users": Measure("scored users"),
    "users_change": Measure("change of scored users", "whether a part of the bank's payments is missing or new"),
    "thin_share": Measure("thin files", "whether payments are missing: payments_day_change, payments_week_change"),
    "without_fold_share": Measure("payers without a fold", "fold the night again with --full, then score it again"),
    "without_score_share": Measure("folds without a score", "score the night again"),
    "payments_day": Measure("payments of the last day"),
    "payments_day_change": Measure(
        "change of the last day's payments", "whether the last delivery is whole, or was delivered twice"
    ),
    "payments_week": Measure("payments of the last week"),
    "payments_week_change": Measure(
        "change of the last week's payments", "whether each day's delivery is whole, and each source still delivers"
    ),
    "late_share": Measure(
        "late payments", "why the source was late; score the nights that it concerns again, see Backfill in operations"
    ),
    "quarantined_share": Measure(
        "quarantined rows", "payments_quarantine by reason and source_file; mend the rows at their source"
    ),
    "matured_users": Measure("matured labels with a score"),
    "matured_defaults": Measure("defaults among them"),
    "matured_mean_probability": Measure("mean probability of matured scores"),
    "matured_default_rate": Measure("default rate of matured scores"),
    "matured_auc": Measure("AUC of matured scores", "the bands' default rates; train anew on the matured labels"),
    "matured_auc_low": Measure("lower 95 % limit of that AUC"),
    "matured_auc_high": Measure("upper 95 % limit of that AUC"),
    "matured_ks": Measure("KS of matured scores", "the bands' default rates; train anew on the matured labels"),
    "matured_calibration": Measure(
        "mean probability over default rate", "the bands' default rates; train anew on the matured labels"
    ),
}


class Measured(NamedTuple):
    """One row of score_monitoring: see lbsf/schemas/scores.py."""

    measure: str
    segment: str
    value: float | None
    threshold: float | None
    breached: bool
    counted: int

    def __str__(self) -> str:
        """A breach in one line: what, how much, and what to look at."""
        value, threshold = self.value or 0.0, self.threshold or 0.0
        side = "above" if value > threshold else "below"
        return (
            f"{self.measure} {self.segment}: {value:.4g} is {side} {threshold:.4g} ({self.counted:,} counted); "
            f"look at {MEASURES[self.measure].look_at}"
        )


def shown(measure: str, value: float | None, counted: int, segment: str = ALL) -> Measured:
    """A value that no threshold judges."""
    return Measured(measure, segment, value, None, False, counted)


def at_most(
    measure: str, value: float | None, limit: float, counted: int, segment: str = ALL, *, judged: bool = True
) -> Measured:
    """A value that breaches above its limit; not judged, it has none."""
    if value is None or not judged:
        return shown(measure, value, counted, segment)
    return Measured(measure, segment, value, limit, value > limit, counted)


def at_least(measure: str, value: float | None, limit: float, counted: int, *, judged: bool) -> Measured:
    """A value that breaches below its limit."""
    if value is None or not judged:
        return shown(measure, value, counted)
    return Measured(measure, ALL, value, limit, value < limit, counted)


def within(
    measure: str, value: float | None, limits: tuple[float, float], middle: float, counted: int, *, judged: bool
) -> Measured:
    """A value that breaches outside its limits; its threshold is the limit on its side of `middle`."""
    if value is None or not judged:
        return shown(measure, value, counted)
    low, high = limits
    return Measured(measure, ALL, value, low if value < middle else high, not low <= value <= high, counted)


def share(part: int, whole: int) -> float | None:
    """`part` of `whole`; None of nothing."""
    return part / whole if whole else None


def breaches(measured: Sequence[Measured]) -> list[Measured]:
    """Those beyond their threshold, in the order of MEASURES."""
    order = list(MEASURES)
    return sorted((one for one in measured if one.breached), key=lambda one: (order.index(one.measure), one.segment))
