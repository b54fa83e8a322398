"""The measures of a night, which of them breach their thresholds, and what to look at after a breach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

ALL = "all"


class Measure(NamedTuple):
    """A measure's title and number format on the page, and what to look at after a breach.

    Attributes:
        title: on the page.
        kind: `number`, `count`, `share` (written in percent) or `change` (in percent, with its sign).
        look_at: None for a measure without a threshold.
    """

    title: str
    kind: Literal["number", "count", "share", "change"]
    look_at: str | None = None

    def text(self, value: float | None) -> str:
        """Format a value for people.

        >>> MEASURES["users_change"].text(-0.25), MEASURES["thin_share"].text(0.00012), MEASURES["users"].text(None)
        ('-25 %', '0.012 %', '–')
        """
        if value is None:
            return "–"
        forms = {"number": "{:.3f}", "count": "{:,.0f}", "share": "{:.3g} %", "change": "{:+.3g} %"}
        return forms[self.kind].format(100 * value if self.kind in ("share", "change") else value)


_MOVED = "whether another model scored, and input_psi of the night"
_TRAIN = "the default rates by band; train anew on the matured labels"

# Every measure that monitor_scores writes. docs/monitoring.md explains each.
MEASURES = {
    "score_psi": Measure(
        "PSI of the scores", "number", "input_psi of the night for what moved; train anew where users have changed"
    ),
    "input_psi": Measure(
        "PSI of an input",
        "number",
        "that field's source: mapping, new codes, nulls; train anew where users have changed",
    ),
    "moved_two_bands": Measure("moved two bands or more", "share", _MOVED),
    "moved_up": Measure("moved to higher risk", "share", _MOVED),
    "moved_down": Measure("moved to lower risk", "share", _MOVED),
    "users": Measure("scored users", "count"),
    "users_change": Measure("scored users, change", "change", "whether a part of the payments is missing or new"),
    "thin_share": Measure("thin files", "share", "whether payments are missing: payments_week_change, users_change"),
    "without_fold_share": Measure(
        "payers without a fold", "share", "why they were left out; fold the night with --full, then score it again"
    ),
    "without_score_share": Measure("folds without a score", "share", "why they were left out; score the night again"),
    "payments_day": Measure("payments of the last day", "count"),
    "payments_day_change": Measure(
        "payments of the last day, change", "change", "whether the last delivery is whole, or was delivered twice"
    ),
    "payments_week": Measure("payments of the last week", "count"),
    "payments_week_change": Measure(
        "payments of the last week, change", "change", "whether each day is whole, and each source still delivers"
    ),
    "late_share": Measure(
        "late payments", "share", "why the source was late; score the nights concerned again (Backfill, operations.md)"
    ),
    "quarantined_share": Measure(
        "quarantined rows", "share", "payments_quarantine by reason and source_file; mend the rows at their source"
    ),
    "matured_users": Measure("matured labels with a score", "count"),
    "matured_defaults": Measure("defaults among them", "count"),
    "matured_mean_probability": Measure("matured scores, mean probability", "share"),
    "matured_default_rate": Measure("matured scores, default rate", "share"),
    "matured_auc": Measure("matured scores, AUC", "number", _TRAIN),
    "matured_auc_low": Measure("matured scores, lower 95 % limit of the AUC", "number"),
    "matured_auc_high": Measure("matured scores, upper 95 % limit of the AUC", "number"),
    "matured_ks": Measure("matured scores, KS", "number", _TRAIN),
    "matured_calibration": Measure("matured scores, mean probability over default rate", "number", _TRAIN),
}


class Measured(NamedTuple):
    """One row of the table score_monitoring (lbsf/schemas/scores.py)."""

    measure: str
    segment: str
    value: float | None
    threshold: float | None
    breached: bool
    counted: int

    @property
    def side(self) -> str:
        """Return whether a breach is `above` or `below` its threshold."""
        return "above" if (self.value or 0.0) > (self.threshold or 0.0) else "below"

    def __str__(self) -> str:
        """Return a breach in one line: the measure, its value, and what to look at."""
        kind = MEASURES[self.measure]
        return (
            f"{self.measure} {self.segment}: {kind.text(self.value)} is {self.side} {kind.text(self.threshold)} "
            f"({self.counted:,} counted); look at {kind.look_at}"
        )


def shown(measure: str, value: float | None, counted: int, segment: str = ALL) -> Measured:
    """Return a value without a threshold."""
    return Measured(measure, segment, None if value is None else float(value), None, False, counted)


def at_most(
    measure: str, value: float | None, limit: float, counted: int, segment: str = ALL, *, judged: bool = True
) -> Measured:
    """Return a value that is a breach above its limit; without a threshold if `judged` is False."""
    if value is None or not judged:
        return shown(measure, value, counted, segment)
    return Measured(measure, segment, value, limit, value > limit, counted)


def at_least(measure: str, value: float | None, limit: float, counted: int, *, judged: bool) -> Measured:
    """Return a value that is a breach below its limit; without a threshold if `judged` is False."""
    if value is None or not judged:
        return shown(measure, value, counted)
    return Measured(measure, ALL, value, limit, value < limit, counted)


def within(
    measure: str, value: float | None, limits: tuple[float, float], middle: float, counted: int, *, judged: bool
) -> Measured:
    """Return a value that is a breach outside its limits; without a threshold if `judged` is False.

    Its threshold is the lower limit if the value is below `middle`, else the upper one.
    """
    if value is None or not judged:
        return shown(measure, value, counted)
    low, high = limits
    return Measured(measure, ALL, value, low if value < middle else high, not low <= value <= high, counted)


def share(part: int, whole: int) -> float | None:
    """Return part / whole, or None if `whole` is 0."""
    return part / whole if whole else None


def breaches(measured: Sequence[Measured]) -> list[Measured]:
    """Return the breaches, in the order of MEASURES."""
    order = list(MEASURES)
    return sorted((one for one in measured if one.breached), key=lambda one: (order.index(one.measure), one.segment))
