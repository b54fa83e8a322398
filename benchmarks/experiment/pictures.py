"""The experiment's pictures: AUC and KS by length of history, epoch time, AUC by number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.experiment.cells import DAYS
from benchmarks.experiment.series import BY_LABELS, PRETRAINED, TAUGHT, TAUGHT_ON_ALL, Series, at, by_labels, models_of

COLOURS = {
    "lbsf": "#d1495b",
    TAUGHT: "#f28482",
    TAUGHT_ON_ALL: "#e85d9e",
    PRETRAINED: "#7b5ea7",
    "fusion": "#8c1c2e",
    "lightgbm": "#edae49",
    "gru": "#2e6f95",
    "transformer": "#222222",
}
OTHER_COLOURS = ("#6a994e", "#5c4033", "#999999", "#00a6a6")


def _colour(network: str, networks: Sequence[str]) -> str:
    others = [name for name in networks if name not in COLOURS]
    return COLOURS.get(network) or OTHER_COLOURS[others.index(network) % len(OTHER_COLOURS)]


def plot_history(found: dict[str, Series], reachable: float, path: Path) -> None:
    """Draw AUC and KS by length of history."""
    picture, axes = plt.subplots(1, 2, figsize=(11, 4.8))
    networks = models_of(found)
    for number, network in enumerate(networks):
        of = [series for days in DAYS if (series := at(found, network, days))]
        for axis, figures in ((axes[0], [s.auc for s in of]), (axes[1], [s.ks for s in of])):
            shown = [figure.interval for figure in figures]
            values = np.array([interval.value for interval in shown])
            limits = np.array([(i.value - i.low, i.high - i.value) for i in shown]).T
            # Shifted sideways, so that the intervals of one length of history do not overlap.
            days = [s.cell.days + 1.6 * (number - len(networks) / 2) for s in of]
            colour = _colour(network, networks)
            axis.errorbar(days, values, yerr=limits, fmt="o-", color=colour, label=network, capsize=3)
    axes[0].axhline(reachable, color="#777777", linestyle="--", linewidth=1, label="best reachable")
    axes[0].set(ylabel="AUC out of time")
    axes[1].set(ylabel="KS out of time")
    for axis in axes:
        axis.set(xlabel="days of history", xticks=DAYS)
        _clean(axis)
    # Between the line of the best reachable AUC and the models' lines.
    axes[0].legend(frameon=False, fontsize=8, ncol=2, loc="upper left", bbox_to_anchor=(0, 0.94))
    _save(picture, path)


def plot_epochs(found: dict[str, Series], path: Path) -> None:
    """Draw epoch time by length of history."""
    picture, axis = plt.subplots(figsize=(7, 4.6))
    networks = models_of(found)
    for network in networks:
        of = [(days, series.epoch_seconds) for days in DAYS if (series := at(found, network, days))]
        measured = [(days, seconds) for days, seconds in of if seconds]
        if measured:
            axis.plot(*zip(*measured, strict=True), "o-", color=_colour(network, networks), label=network)
    axis.set(xlabel="days of history", ylabel="CPU seconds an epoch", xticks=DAYS, ylim=(0, None))
    axis.legend(frameon=False)
    _clean(axis)
    _save(picture, path)


def plot_labels(found: dict[str, Series], path: Path) -> None:
    """Draw AUC by number of labels."""
    picture, axis = plt.subplots(figsize=(7, 4.6))
    rows = by_labels(found)
    for name in BY_LABELS:
        of = [(number, series[name].auc.interval) for number, series in rows.items() if name in series]
        if of:
            n, shown = zip(*of, strict=True)
            limits = np.array([(i.value - i.low, i.high - i.value) for i in shown]).T
            axis.errorbar(
                n, [i.value for i in shown], yerr=limits, fmt="o-", color=COLOURS[name], label=name, capsize=3
            )
    axis.set(xlabel="training users with labels", ylabel="AUC out of time", xscale="log")
    axis.set_xticks(list(rows), [f"{number:,}" for number in rows])
    axis.minorticks_off()
    axis.legend(frameon=False)
    _clean(axis)
    _save(picture, path)


def _clean(axis: Axes) -> None:
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _save(picture: Figure, path: Path) -> None:
    picture.tight_layout()
    picture.savefig(path, dpi=110)
    plt.close(picture)
