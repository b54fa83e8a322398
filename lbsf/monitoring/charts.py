"""The report's charts, as SVG that is embedded in the page.

They are drawn at a phone's width, so that their text is readable there, and scale with the page.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

WIDTH, HEIGHT = 5.0, 2.7  # inches of 72 points: 360 points wide
INK, MUTED, BLUE, GREY, RED = "#1f2933", "#616e7c", "#2f6fad", "#9aa5b1", "#b4232c"
# Distinguishable with red-green colour blindness and, by their dashes, in grey print.
LINES = ((BLUE, "-"), ("#c4680a", "--"), ("#4b8b5a", "-."), ("#7a5195", ":"))

_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def over_time(name: str, series: Mapping[str, Mapping[date, float]], label: str, limit: float | None = None) -> str:
    """Draw up to len(LINES) measures by score date, with their threshold.

    Args:
        name: of the chart, unique on the page.
        series: title -> score date -> value.
        label: of the value axis.
        limit: the threshold, drawn as a line; None: no line.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        for (title, values), (colour, dashes) in zip(series.items(), LINES, strict=False):
            days = sorted(values)
            axes.plot(
                days,  # type: ignore[arg-type]
                [values[one] for one in days],
                color=colour,
                linestyle=dashes,
                marker="o",
                markersize=3 if len(days) < 15 else 0,
                label=title,
            )
        if limit is not None:
            axes.axhline(limit, color=RED, linewidth=0.8, linestyle=":", label=f"threshold {limit:.3g}")
        axes.margins(x=0.04, y=0.12)
        if all(value >= 0 for values in series.values() for value in values.values()) and limit is not None:
            axes.set_ylim(bottom=0)
        _dates(axes)
        axes.set_ylabel(label)
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)
        return _svg(figure, name)


def score_distribution(histogram: Sequence[int], decades: int, bands: Mapping[str, float]) -> str:
    """Draw the number of users by probability, on a logarithmic axis, with the bands' limits.

    Args:
        histogram: users in bins of equal width in log10(probability), from 10**-decades to 1.
        decades: how many decades below 1 the axis begins.
        bands: band -> upper limit, rising.
    """
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        edges = [10 ** (-decades + number * decades / len(histogram)) for number in range(len(histogram) + 1)]
        axes.bar(
            edges[:-1], histogram, [b - a for a, b in zip(edges[:-1], edges[1:], strict=True)], align="edge", color=BLUE
        )
        axes.set_xscale("log")
        axes.set_xlim(edges[0], 1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        axes.set_ylim(0, max(histogram) * 1.15 or 1)
        lower = edges[0]
        for name, limit in bands.items():
            if limit < 1:
                axes.axvline(limit, color=GREY, linewidth=0.8, linestyle=":")
            if limit > lower:
                axes.text(
                    (max(lower, edges[0]) * limit) ** 0.5,
                    0.97,
                    name,
                    transform=axes.get_xaxis_transform(),
                    ha="center",
                    va="top",
                    color=MUTED,
                )
            lower = max(limit, edges[0])
        axes.set_xlabel("probability of default")
        _whole_counts(axes, "users")
        return _svg(figure, "scores")


def model_comparison(aucs: Mapping[str, float]) -> str:
    """Draw the AUC of each model as bars from 0.5, which is guessing."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(height=0.55 + 0.42 * len(aucs))
        names = list(aucs)[::-1]
        values = [aucs[name] for name in names]
        colours = [BLUE if name.startswith("LBSF") else GREY for name in names]
        axes.barh(names, [value - 0.5 for value in values], left=0.5, color=colours, height=0.6)
        for place, value in enumerate(values):
            axes.text(max(value, 0.5) + 0.006, place, f"{value:.4f}", va="center")
        axes.set_xlim(min(0.5, *values), min(1.0, max(values) + 0.1))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.xaxis.set_major_locator(MultipleLocator(0.1))
        axes.set_xlabel("AUC (0.5 is guessing)")
        return _svg(figure, "quality")


def payments_by_day(counts: Mapping[date, int], first: date, end: date) -> str:
    """Draw the number of payments of each day of [first, end); days without payments are 0."""
    with mpl.rc_context(_STYLE):
        figure, axes = _axes()
        days = [first + timedelta(days=number) for number in range((end - first).days)]
        values = [counts.get(one, 0) for one in days]
        axes.fill_between(days, values, step="mid", color=BLUE, alpha=0.25, linewidth=0)  # type: ignore[arg-type]
        axes.step(days, values, where="mid", color=BLUE, linewidth=1)  # type: ignore[arg-type]
        _dates(axes)
        axes.set_xlim(first, end)  # type: ignore[arg-type]
        axes.set_ylim(0, max(values, default=0) * 1.1 or 1)
        _whole_counts(axes, "payments")
        return _svg(figure, "payments")


def _axes(height: float = HEIGHT) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _dates(axes: Axes) -> None:
    locator = AutoDateLocator(minticks=2, maxticks=6)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _whole_counts(axes: Axes, label: str) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylabel(label)


def _svg(figure: Figure, name: str) -> str:
    """Return the figure as an <svg> element; the same figure gives the same bytes."""
    with mpl.rc_context({"svg.hashsalt": name}):
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = drawn.getvalue()
    return text[text.index("<svg") :]
