"""The nightly report: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from lbsf.monitoring import charts
from lbsf.monitoring.findings import ALL, MEASURES, Measured
from lbsf.monitoring.history import Watched
from lbsf.monitoring.migration import NOT_SCORED, Migration
from lbsf.monitoring.summary import DECADES, METRICS, Night, Quality

METRIC_NAMES = {"auc": "AUC", "ks": "KS", "pr_auc": "PR-AUC", "brier": "Brier score"}
# Inputs whose PSI is drawn over time: those with the largest PSI on this night.
WORST_INPUTS = 3


class MoveRow(NamedTuple):
    """Users of one band of the earlier night, and their shares by band of the later night."""

    band: str
    users: int
    shares: tuple[float | None, ...]


class MoveMatrix(NamedTuple):
    """A band migration as the page shows it: one row per earlier band; a share is None if no user made that move."""

    period: str
    since: date
    bands: tuple[str, ...]
    rows: tuple[MoveRow, ...]
    moves: tuple[tuple[str, str, int], ...]


def render_report(
    night: Night,
    quality: Quality | None,
    watched: Watched | None,
    versions: Mapping[str, int],
    window_days: int,
    made_at: datetime,
) -> str:
    """Render the page as HTML.

    Args:
        night: the night's figures.
        quality: of the champion; None if its run has no metrics.
        watched: the results of monitor_scores; None if it has not run.
        versions: table -> Delta version that the figures were read from.
        window_days: days of payments that the scores are made from.
        made_at: time of creation shown on the page, UTC.
    """
    environment = Environment(
        loader=PackageLoader("lbsf.monitoring", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    first = night.as_of - timedelta(days=window_days)
    limits = {band.name: band.limit for band in night.bands if band.limit is not None}
    return environment.get_template("report.html").render(
        night=night,
        quality=quality,
        metrics=[(METRIC_NAMES[name], name) for name in METRICS],
        watched=watched,
        measures=MEASURES,
        matrices=[]
        if watched is None
        else [move_matrix(one, [b.name for b in night.bands]) for one in watched.migrations],
        drifts=[] if watched is None else _drifts(watched),
        outcomes=[] if watched is None else _outcomes(watched, [band.name for band in night.bands]),
        versions=versions,
        window_days=window_days,
        made_at=made_at,
        first=first,
        last=night.as_of - timedelta(days=1),
        charts={
            "scores": charts.score_distribution(night.histogram, DECADES, limits),
            "payments": charts.payments_by_day(night.payments_by_day, first, night.as_of),
            "quality": None if quality is None else charts.model_comparison(_aucs(quality)),
            **({} if watched is None else _over_time(watched)),
        },
    )


def move_matrix(migration: Migration, bands: Sequence[str]) -> MoveMatrix:
    """Arrange a migration by the earlier night's bands, in the order of `bands`, then bands of former settings."""
    known = [*bands, *sorted({band for move in migration.moves for band in move} - {*bands, NOT_SCORED}), NOT_SCORED]
    users = {before: sum(n for (one, _), n in migration.moves.items() if one == before) for before in known}
    reached = {after for _, after in migration.moves}
    columns = tuple(band for band in known if band in reached)
    rows = tuple(
        MoveRow(
            before, users[before], tuple(_share(migration.moves.get((before, to)), users[before]) for to in columns)
        )
        for before in known
        if users[before]
    )
    order = {band: position for position, band in enumerate(known)}
    moves = sorted(((*move, n) for move, n in migration.moves.items()), key=lambda m: (order[m[0]], order[m[1]]))
    return MoveMatrix(migration.period, migration.since, columns, rows, tuple(moves))


def _share(users: int | None, of: int) -> float | None:
    return users / of if users else None


def _drifts(watched: Watched) -> list[Measured]:
    """Return the PSI of the scores, then those of the inputs, the largest first."""
    inputs = sorted(watched.segments("input_psi").values(), key=lambda one: (-(one.value or 0.0), one.segment))
    scores = watched.of("score_psi")
    return [*([scores] if scores else []), *inputs]


def _outcomes(watched: Watched, bands: Sequence[str]) -> list[tuple[str, Measured, Measured]]:
    """Return band, mean probability and default rate of matured scores; bands of former settings come last."""
    expected, observed = (watched.segments(f"matured_{name}") for name in ("mean_probability", "default_rate"))
    order = [*bands, *sorted(set(observed) - set(bands))]
    return [(band, expected[band], observed[band]) for band in order if band in observed]


def _over_time(watched: Watched) -> dict[str, str | None]:
    """Draw the charts over the nights up to this one; None for a chart with one night only."""
    history = watched.history
    inputs = [one for one in _drifts(watched) if one.measure == "input_psi"]
    drift = {"scores": history.get(("score_psi", ALL), {})}
    drift |= {one.segment: history.get(("input_psi", one.segment), {}) for one in inputs[:WORST_INPUTS]}
    score_psi, level = watched.of("score_psi"), watched.of("matured_calibration")
    matured = {
        MEASURES[name].title.split(", ")[1]: history.get((name, ALL), {}) for name in ("matured_auc", "matured_ks")
    }
    calibration = {"calibration": history.get(("matured_calibration", ALL), {})}
    return {
        "drift": _line_chart("drift", drift, "PSI", score_psi.threshold if score_psi else None),
        "matured": _line_chart("matured", matured, "of matured scores"),
        "calibration": _line_chart(
            "calibration", calibration, "mean probability / default rate", level.threshold if level else None
        ),
    }


def _line_chart(
    name: str, series: Mapping[str, Mapping[date, float]], label: str, limit: float | None = None
) -> str | None:
    # A line needs at least two nights.
    lines = {title: values for title, values in series.items() if len(values) > 1}
    return charts.over_time(name, lines, label, limit) if lines else None


def _aucs(quality: Quality) -> dict[str, float]:
    aucs = {"LBSF": quality.metrics["auc"]}
    if quality.baseline is not None and "auc" in quality.baseline:
        aucs["LightGBM"] = quality.baseline["auc"]
    if quality.best_auc is not None:
        aucs["best reachable"] = quality.best_auc
    return aucs
