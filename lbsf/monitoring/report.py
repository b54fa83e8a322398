"""The nightly report: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from jinja2 import Environment, PackageLoader, StrictUndefined

from lbsf.monitoring import charts
from lbsf.monitoring.night import DECADES, METRICS, Night, Quality

METRIC_NAMES = {"auc": "AUC", "ks": "KS", "pr_auc": "PR-AUC", "brier": "Brier score"}


def render_report(
    night: Night, quality: Quality | None, versions: Mapping[str, int], window_days: int, made_at: datetime
) -> str:
    """The page.

    Args:
        night: the night's figures.
        quality: of the champion; None where its run has no metrics.
        versions: table -> Delta version that the figures were read at.
        window_days: days of history behind the scores.
        made_at: when the page is made, UTC.
    """
    environment = Environment(
        loader=PackageLoader("lbsf.monitoring", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    first = night.as_of - timedelta(days=window_days)
    return environment.get_template("report.html").render(
        night=night,
        quality=quality,
        metrics=[(METRIC_NAMES[name], name) for name in METRICS],
        versions=versions,
        window_days=window_days,
        made_at=made_at,
        first=first,
        last=night.as_of - timedelta(days=1),
        charts={
            "scores": charts.score_distribution(night.histogram, DECADES, {b.name: b.limit for b in night.bands}),
            "payments": charts.payments_by_day(night.payments_by_day, first, night.as_of),
            "quality": None if quality is None else charts.model_comparison(_aucs(quality)),
        },
    )


def _aucs(quality: Quality) -> dict[str, float]:
    aucs = {"LBSF": quality.metrics["auc"]}
    if quality.baseline is not None and "auc" in quality.baseline:
        aucs["LightGBM"] = quality.baseline["auc"]
    if quality.best_auc is not None:
        aucs["best reachable"] = quality.best_auc
    return aucs
