"""The cells' results as tables and pictures: docs/experiments.md between its marks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import logit

from benchmarks.comparison.cells import DAYS, LABELS, LONGEST, Cell
from benchmarks.comparison.intervals import Floats, Resampled, auc_and_ks, draw, mean
from lbsf.loading.views import FIELDS

MARKS = ("<!-- results: made by benchmarks/experiment.py -->\n", "<!-- end of results -->\n")
COLOURS = {"lbsf": "#d1495b", "fusion": "#8c1c2e", "lightgbm": "#edae49", "gru": "#2e6f95", "transformer": "#222222"}
OTHER_COLOURS = ("#6a994e", "#7b5ea7", "#999999", "#00a6a6")
SPLIT = "out_of_time"


class Series(NamedTuple):
    """The cells that differ by seed alone.

    Attributes:
        cell: one of them.
        auc, ks: mean over seeds, of the users out of time.
        seeds: AUC of each.
        together: AUC of the mean of the seeds' logits; None where there is one seed.
        epoch_seconds: of one core, median over epochs and seeds; None where there are no epochs.
    """

    cell: Cell
    auc: Resampled
    ks: Resampled
    seeds: list[float]
    together: Resampled | None
    epoch_seconds: float | None


def gather(cells: Iterable[tuple[Cell, Path, dict[str, Any]]]) -> dict[str, Series]:
    """The series of trained cells.

    Args:
        cells: each cell with its folder and its result.

    Raises:
        SystemExit: two cells were measured on different users.
    """
    parts: dict[str, list[tuple[Cell, Resampled, Resampled]]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    logits: dict[str, list[Floats]] = defaultdict(list)
    label = counts = None
    for cell, folder, result in cells:
        with np.load(folder / f"{SPLIT}.npz", allow_pickle=False) as saved:
            if label is None or counts is None:
                label = saved["label"]
                counts = draw(label)
            if not np.array_equal(label, saved["label"]):
                raise SystemExit(f"{folder}: other users, or another order, than the first cell's")
            parts[cell.series].append((cell, *auc_and_ks(label, saved["probability"], counts)))
            logits[cell.series].append(logit(saved["probability"]))
        seconds[cell.series] += [epoch["cpu_seconds"] for epoch in result["epochs"]]
    if label is None or counts is None:
        return {}
    return {
        name: Series(
            of[0][0],
            mean([auc for _, auc, _ in of]),
            mean([ks for _, _, ks in of]),
            [auc.value for _, auc, _ in of],
            auc_and_ks(label, np.mean(logits[name], axis=0), counts)[0] if len(of) > 1 else None,
            float(np.median(seconds[name])) if seconds[name] else None,
        )
        for name, of in parts.items()
    }


def tables(found: dict[str, Series], reachable_auc: float) -> str:
    """All results as Markdown."""
    parts = [
        f"Best reachable AUC (the simulator's own probabilities): {reachable_auc:.4f}.\n",
        _history(found),
        _longer(found),
        _against_baselines(found),
        _together(found),
        _ablations("Parts of LBSF", found, _parts(found)),
        _ablations("Fields", found, [(f"without {field}", _at(found, without=field)) for field in FIELDS]),
        _labels(found),
        _epochs(found),
    ]
    return "\n".join(part for part in parts if part)


def _at(found: dict[str, Series], network: str = "lbsf", days: int = LONGEST, **other: Any) -> Series | None:
    unfolded = network not in ("lbsf", "lightgbm", "fusion")
    cell = replace(Cell(network, days, 0), **{"unfolded": unfolded, **other})
    return found.get(cell.series)


def _networks(found: dict[str, Series]) -> list[str]:
    """Those of the main comparison, the best at 180 days first."""
    seen = {series.cell.network for series in found.values()}
    at = {network: _at(found, network) for network in seen}
    return sorted(seen, key=lambda network: -(s.auc.value if (s := at[network]) else 0.0))


def _history(found: dict[str, Series]) -> str:
    lines = ["### AUC and KS by length of history\n", "AUC out of time with 95 % limits over users, mean over seeds.\n"]
    lines += [f"| model | seeds | {' | '.join(f'{days} days' for days in DAYS)} | KS at {LONGEST} |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for network in _networks(found):
        of = [_at(found, network, days) for days in DAYS]
        last = of[-1]
        cells = " | ".join(f"{series.auc.interval:.4f}" if series else "" for series in of)
        seeds = max((len(series.seeds) for series in of if series), default=0)
        lines.append(f"| {network} | {seeds} | {cells} | {f'{last.ks.value:.3f}' if last else ''} |")
    return "\n".join([*lines, "", "![AUC by length of history](images/experiment_auc.png)", ""])


def _longer(found: dict[str, Series]) -> str:
    lines = ["### What longer history brings\n", "Paired differences of AUC, the same users resampled.\n"]
    steps = [(45, 90), (90, 180), (45, 180)]
    lines += [f"| model | {' | '.join(f'{a} to {b} days' for a, b in steps)} |", "|---|---:|---:|---:|"]
    for network in _networks(found):
        pairs = [(_at(found, network, a), _at(found, network, b)) for a, b in steps]
        cells = [f"{b.auc.minus(a.auc):+.4f}" if a and b else "" for a, b in pairs]
        if any(cells):
            lines.append(f"| {network} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _against_baselines(found: dict[str, Series]) -> str:
    ours = _at(found)
    if ours is None:
        return ""
    lines = [f"### LBSF against the others at {LONGEST} days\n", "Paired differences: above 0 LBSF is ahead.\n"]
    lines += ["| against | AUC | KS | limits exclude 0 |", "|---|---:|---:|---|"]
    for network in _networks(found):
        other = _at(found, network)
        if other and network != "lbsf":
            auc = ours.auc.minus(other.auc)
            apart = "yes" if auc.apart_from_zero else "no"
            lines.append(f"| {network} | {auc:+.4f} | {ours.ks.minus(other.ks):+.3f} | {apart} |")
    return "\n".join([*lines, ""])


def _together(found: dict[str, Series]) -> str:
    """How much of a network's error is its own seed's."""
    rows = []
    for network in _networks(found):
        series = _at(found, network)
        if series and series.together:
            ahead = series.together.minus(series.auc)
            rows.append(f"| {network} | {len(series.seeds)} | {series.together.interval:.4f} | {ahead:+.4f} |")
    if not rows:
        return ""
    what = f"AUC at {LONGEST} days of the mean of the seeds' logits, and how far it is ahead of one seed's (paired).\n"
    head = ["### Seeds together\n", what, "| model | seeds | together | ahead of one |", "|---|---:|---:|---:|"]
    return "\n".join([*head, *rows, ""])


def _parts(found: dict[str, Series]) -> list[tuple[str, Series | None]]:
    return [
        ("not folded: one sequence a user", _at(found, unfolded=True)),
        ("merchants do not look at each other", _at(found, relational=False)),
        ("GRU within each merchant", _at(found, sequence="gru")),
        ("transformer within each merchant", _at(found, sequence="transformer")),
        ("pretrained without labels", _at(found, pretrained=True)),
    ]


def _ablations(title: str, found: dict[str, Series], changed: Sequence[tuple[str, Series | None]]) -> str:
    whole = _at(found)
    there = [(name, series) for name, series in changed if series]
    if whole is None or not there:
        return ""
    lines = [f"### {title}\n", f"LBSF at {LONGEST} days with one thing changed; AUC and its difference to the whole.\n"]
    lines += ["| LBSF | seeds | AUC | difference | CPU seconds an epoch |", "|---|---:|---:|---:|---:|"]
    for name, series in [("whole", whole), *there]:
        difference = "" if series is whole else f"{series.auc.minus(whole.auc):+.4f}"
        lines.append(
            f"| {name} | {len(series.seeds)} | {series.auc.value:.4f} | {difference} | {series.epoch_seconds:.1f} |"
        )
    return "\n".join([*lines, ""])


def _labels(found: dict[str, Series]) -> str:
    rows = [(n, _at(found, labels=n), _at(found, labels=n, pretrained=True)) for n in LABELS]
    rows = [(n, plain, pretrained) for n, plain, pretrained in rows if plain and pretrained]
    if not rows:
        return ""
    lines = ["### Pretraining and the number of labels\n"]
    lines += ["| labels | from scratch | pretrained | difference |", "|---:|---:|---:|---:|"]
    for n, plain, pretrained in rows:
        assert plain and pretrained
        difference = pretrained.auc.minus(plain.auc)
        lines.append(f"| {n:,} | {plain.auc.interval:.4f} | {pretrained.auc.interval:.4f} | {difference:+.4f} |")
    return "\n".join([*lines, "", "![AUC by number of labels](images/experiment_labels.png)", ""])


def _epochs(found: dict[str, Series]) -> str:
    lines = ["### Epoch time\n", "Median CPU seconds of a training epoch: other work on the machine does not count.\n"]
    lines += [f"| model | {' | '.join(f'{days} days' for days in DAYS)} | 180 over 45 |", "|---|---:|---:|---:|---:|"]
    for network in _networks(found):
        of = [_at(found, network, days) for days in DAYS]
        times = [series.epoch_seconds if series else None for series in of]
        if any(times):
            growth = f"{times[-1] / times[0]:.1f}" if times[0] and times[-1] else ""
            cells = " | ".join("" if seconds is None else f"{seconds:.1f}" for seconds in times)
            lines.append(f"| {network} | {cells} | {growth} |")
    return "\n".join([*lines, "", "![Epoch time by length of history](images/experiment_epochs.png)", ""])


def write(found: dict[str, Series], reachable_auc: float, docs: Path) -> str:
    """Replaces the results' part of docs/experiments.md, and makes the pictures; returns that part."""
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    _plot_history(found, reachable_auc, images / "experiment_auc.png")
    _plot_epochs(found, images / "experiment_epochs.png")
    if _labels(found):
        _plot_labels(found, images / "experiment_labels.png")
    text = tables(found, reachable_auc)
    page = docs / "experiments.md"
    part = re.compile(f"{re.escape(MARKS[0])}.*?{re.escape(MARKS[1])}", re.DOTALL)
    before = page.read_text(encoding="utf-8") if page.exists() else f"# Experiments\n\n{MARKS[0]}{MARKS[1]}"
    page.write_text(part.sub(lambda _: f"{MARKS[0]}{text}{MARKS[1]}", before, count=1), encoding="utf-8")
    return text


def _colour(network: str, networks: Sequence[str]) -> str:
    others = [name for name in networks if name not in COLOURS]
    return COLOURS.get(network) or OTHER_COLOURS[others.index(network) % len(OTHER_COLOURS)]


def _plot_history(found: dict[str, Series], reachable: float, path: Path) -> None:
    picture, axes = plt.subplots(1, 2, figsize=(11, 4.8))
    networks = _networks(found)
    for place, network in enumerate(networks):
        of = [series for days in DAYS if (series := _at(found, network, days))]
        for axis, figures in ((axes[0], [s.auc for s in of]), (axes[1], [s.ks for s in of])):
            shown = [figure.interval for figure in figures]
            values = np.array([interval.value for interval in shown])
            limits = np.array([(i.value - i.low, i.high - i.value) for i in shown]).T
            # A little apart, so that intervals of one length of history can be told from each other.
            days = [s.cell.days + 1.6 * (place - len(networks) / 2) for s in of]
            colour = _colour(network, networks)
            axis.errorbar(days, values, yerr=limits, fmt="o-", color=colour, label=network, capsize=3)
    axes[0].axhline(reachable, color="#777777", linestyle="--", linewidth=1, label="best reachable")
    axes[0].set(ylabel="AUC out of time")
    axes[1].set(ylabel="KS out of time")
    for axis in axes:
        axis.set(xlabel="days of history", xticks=DAYS)
        _clean(axis)
    axes[0].legend(frameon=False, fontsize=8, ncol=2)
    _save(picture, path)


def _plot_epochs(found: dict[str, Series], path: Path) -> None:
    picture, axis = plt.subplots(figsize=(7, 4.6))
    networks = _networks(found)
    for network in networks:
        of = [series for days in DAYS if (series := _at(found, network, days)) and series.epoch_seconds]
        if of:
            colour = _colour(network, networks)
            axis.plot([s.cell.days for s in of], [s.epoch_seconds for s in of], "o-", color=colour, label=network)
    axis.set(xlabel="days of history", ylabel="CPU seconds an epoch", xticks=DAYS, ylim=(0, None))
    axis.legend(frameon=False)
    _clean(axis)
    _save(picture, path)


def _plot_labels(found: dict[str, Series], path: Path) -> None:
    picture, axis = plt.subplots(figsize=(7, 4.6))
    for pretrained, name, colour in ((False, "from scratch", "#222222"), (True, "pretrained", "#d1495b")):
        of = [(n, s.auc.interval) for n in LABELS if (s := _at(found, labels=n, pretrained=pretrained))]
        if of:
            n, shown = zip(*of, strict=True)
            limits = np.array([(i.value - i.low, i.high - i.value) for i in shown]).T
            axis.errorbar(n, [i.value for i in shown], yerr=limits, fmt="o-", color=colour, label=name, capsize=3)
    axis.set(xlabel="training users with labels", ylabel="AUC out of time", xscale="log")
    axis.set_xticks(LABELS, [f"{n:,}" for n in LABELS])
    axis.minorticks_off()
    axis.legend(frameon=False)
    _clean(axis)
    _save(picture, path)


def _clean(axis: plt.Axes) -> None:
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _save(picture: plt.Figure, path: Path) -> None:
    picture.tight_layout()
    picture.savefig(path, dpi=110)
    plt.close(picture)
