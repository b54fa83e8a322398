"""Series: the results of cells that differ only by seed, combined."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logit

from benchmarks.experiment.cells import LONGEST, Cell
from benchmarks.experiment.intervals import Floats, Interval, Resampled, auc_and_ks, draw, mean
from benchmarks.experiment.predictions import read

SPLIT = "out_of_time"
TAUGHT = "lbsf, taught"
TAUGHT_ON_ALL = "lbsf, taught on all"
PRETRAINED = "lbsf, pretrained"
# LBSF trained in other ways than on the labels only.
TRAINED_AS: dict[str, dict[str, Any]] = {
    TAUGHT: {"taught": True},
    TAUGHT_ON_ALL: {"taught": True, "pretrained": "teacher"},
    PRETRAINED: {"pretrained": "visits"},
}
# The models that are trained with several numbers of labels.
BY_LABELS = ("lbsf", *TRAINED_AS, "lightgbm")


class Series(NamedTuple):
    """The cells that differ only by seed.

    Attributes:
        cell: one of them.
        auc, ks: mean over seeds, on the out-of-time users.
        seeds: AUC of each seed.
        together: AUC of the ensemble (mean of the seeds' logits); None if there is one seed.
        labels: number of training users.
        epoch_seconds: CPU seconds of an epoch, median over epochs and seeds; None if there are no epochs.
    """

    cell: Cell
    auc: Resampled
    ks: Resampled
    seeds: dict[int, Resampled]
    together: Resampled | None
    labels: int
    epoch_seconds: float | None

    def ahead_of(self, other: Series) -> Interval:
        """Return the paired difference of mean AUC, over the seeds that both have, or over all if they share none."""
        common = [seed for seed in self.seeds if seed in other.seeds]
        if not common:
            return self.auc.minus(other.auc)
        return mean([self.seeds[seed] for seed in common]).minus(mean([other.seeds[seed] for seed in common]))


def gather(cells: Iterable[tuple[Cell, Path, dict[str, Any]]]) -> dict[str, Series]:
    """Combine trained cells to series, by name.

    Args:
        cells: each cell with its folder and its result.

    Raises:
        SystemExit: two cells were measured on different users.
    """
    parts: dict[str, list[tuple[Cell, Resampled, Resampled]]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    logits: dict[str, list[Floats]] = defaultdict(list)
    labels: dict[str, int] = {}
    label = counts = None
    for cell, folder, result in cells:
        label, probability = read(folder, SPLIT, label)
        counts = draw(label) if counts is None else counts
        parts[cell.series].append((cell, *auc_and_ks(label, probability, counts)))
        logits[cell.series].append(logit(probability))
        labels[cell.series] = result["labels"]
        seconds[cell.series] += [epoch["cpu_seconds"] for epoch in result["epochs"]]
    if label is None or counts is None:
        return {}
    return {
        name: Series(
            of[0][0],
            mean([auc for _, auc, _ in of]),
            mean([ks for _, _, ks in of]),
            {cell.seed: auc for cell, auc, _ in of},
            auc_and_ks(label, np.mean(logits[name], axis=0), counts)[0] if len(of) > 1 else None,
            labels[name],
            float(np.median(seconds[name])) if seconds[name] else None,
        )
        for name, of in parts.items()
    }


def at(found: dict[str, Series], model: str = "lbsf", days: int = LONGEST, **other: Any) -> Series | None:
    """Return the series of a network or of one of TRAINED_AS; None if it is not trained.

    Args:
        found: series by name.
        model: a network or a key of TRAINED_AS.
        days: length of history.
        other: other fields of the cell.
    """
    network = "lbsf" if model in TRAINED_AS else model
    unfolded = network not in ("lbsf", "lightgbm", "fusion")
    cell = replace(Cell(network, days, 0), **{"unfolded": unfolded, **TRAINED_AS.get(model, {}), **other})
    return found.get(cell.series)


def models_of(found: dict[str, Series]) -> list[str]:
    """Return the models of the main comparison, the one with the best AUC at 180 days first."""
    seen = {series.cell.network for series in found.values()}
    seen |= {model for model in (TAUGHT, TAUGHT_ON_ALL) if at(found, model)}
    longest = {model: at(found, model) for model in seen}
    return sorted(seen, key=lambda model: -(s.auc.value if (s := longest[model]) else 0.0))


def by_labels(found: dict[str, Series]) -> dict[int, dict[str, Series]]:
    """Return number of labels -> model of BY_LABELS -> its series; empty if there is only one number of labels."""
    numbers = {None, *(series.cell.labels for series in found.values())}
    rows = [{model: s for model in BY_LABELS if (s := at(found, model, labels=n))} for n in numbers]
    of = {series.labels: row for row in rows for series in row.values()}
    return {number: of[number] for number in sorted(of)} if len(of) > 1 else {}
