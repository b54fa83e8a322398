"""The cells' results as tables and pictures: the generated part of docs/experiments.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiment.cells import DAYS, LONGEST
from benchmarks.experiment.pictures import plot_epochs, plot_history, plot_labels
from benchmarks.experiment.series import BY_LABELS, PRETRAINED, TAUGHT, TAUGHT_ON_ALL, Series, at, by_labels, models_of
from lbsf.folds.views import FIELDS

# Each of these is compared with all other models, but not with each other.
OURS = ("lbsf", TAUGHT, TAUGHT_ON_ALL)
MARKS = ("<!-- results: made by benchmarks/experiment/report.py -->\n", "<!-- end of results -->\n")


def tables(found: dict[str, Series], reachable_auc: float) -> str:
    """Return all results as Markdown."""
    parts = [
        f"Best reachable AUC (the simulator's own probabilities): {reachable_auc:.4f}.\n",
        _history(found),
        _longer(found),
        _against_baselines(found),
        _together(found),
        _ablations("Parts of LBSF", found, _parts(found)),
        _ablations("Fields", found, [(f"without {field}", at(found, without=field)) for field in FIELDS]),
        _labels(found),
        _epochs(found),
    ]
    return "\n".join(part for part in parts if part)


def _history(found: dict[str, Series]) -> str:
    lines = ["### AUC and KS by length of history\n", "AUC out of time, mean over seeds; 95 % limits over users.\n"]
    lines += [f"| model | seeds | {' | '.join(f'{days} days' for days in DAYS)} | KS at {LONGEST} |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for network in models_of(found):
        of = [at(found, network, days) for days in DAYS]
        last = of[-1]
        cells = " | ".join(f"{series.auc.interval:.4f}" if series else "" for series in of)
        seeds = max((len(series.seeds) for series in of if series), default=0)
        lines.append(f"| {network} | {seeds} | {cells} | {f'{last.ks.value:.3f}' if last else ''} |")
    return "\n".join([*lines, "", "![AUC by length of history](images/experiment_auc.png)", ""])


def _longer(found: dict[str, Series]) -> str:
    lines = ["### Gain from longer history\n", "Paired differences of AUC on the same bootstrap samples of users.\n"]
    steps = [(45, 90), (90, 180), (45, 180)]
    lines += [f"| model | {' | '.join(f'{a} to {b} days' for a, b in steps)} |", "|---|---:|---:|---:|"]
    for network in models_of(found):
        pairs = [(at(found, network, a), at(found, network, b)) for a, b in steps]
        cells = [f"{b.auc.minus(a.auc):+.4f}" if a and b else "" for a, b in pairs]
        if any(cells):
            lines.append(f"| {network} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _against_baselines(found: dict[str, Series]) -> str:
    if at(found) is None:
        return ""
    lines = ["### LBSF against the others\n", "Paired differences of AUC and of KS; above 0, LBSF is better.\n"]
    lines += [f"| LBSF | against | {' | '.join(f'{days} days' for days in DAYS)} | KS at {LONGEST} |"]
    lines += ["|---|---|---:|---:|---:|---:|"]
    for model in OURS:
        for other in models_of(found):
            pairs = [(at(found, model, days), at(found, other, days)) for days in DAYS]
            ours, theirs = pairs[-1]
            if ours and theirs and other not in OURS:
                auc = " | ".join(f"{a.auc.minus(b.auc):+.4f}" if a and b else "" for a, b in pairs)
                lines.append(f"| {model} | {other} | {auc} | {ours.ks.minus(theirs.ks):+.3f} |")
    return "\n".join([*lines, ""])


def _together(found: dict[str, Series]) -> str:
    """Compare the seeds' ensemble with single seeds, which shows how much of the error is due to the seed."""
    rows = []
    for network in models_of(found):
        series = at(found, network)
        if series and series.together:
            ahead = series.together.minus(series.auc)
            rows.append(f"| {network} | {len(series.seeds)} | {series.together.interval:.4f} | {ahead:+.4f} |")
    if not rows:
        return ""
    what = f"AUC at {LONGEST} days of the mean of the seeds' logits, and its paired gain over a single seed.\n"
    head = ["| model | seeds | ensemble | gain over one seed |", "|---|---:|---:|---:|"]
    return "\n".join(["### Ensembles of seeds\n", what, *head, *rows, ""])


def _parts(found: dict[str, Series]) -> list[tuple[str, Series | None]]:
    return [
        ("not folded: one sequence per user", at(found, unfolded=True)),
        ("no attention between merchants", at(found, relational=False)),
        ("GRU within each merchant", at(found, sequence="gru")),
        ("transformer within each merchant", at(found, sequence="transformer")),
        ("pretrained without labels", at(found, PRETRAINED)),
        ("taught by LightGBM", at(found, TAUGHT)),
        ("taught by LightGBM, first on all users", at(found, TAUGHT_ON_ALL)),
    ]


def _ablations(title: str, found: dict[str, Series], changed: Sequence[tuple[str, Series | None]]) -> str:
    whole = at(found)
    trained = [(name, series) for name, series in changed if series]
    if whole is None or not trained:
        return ""
    what = f"LBSF at {LONGEST} days with one change; AUC, and its difference to unchanged LBSF with the same seeds.\n"
    lines = [f"### {title}\n", what]
    lines += ["| LBSF | seeds | AUC | difference | CPU seconds per epoch |", "|---|---:|---:|---:|---:|"]
    for name, series in [("unchanged", whole), *trained]:
        difference = "" if series is whole else f"{series.ahead_of(whole):+.4f}"
        lines.append(
            f"| {name} | {len(series.seeds)} | {series.auc.value:.4f} | {difference} | {series.epoch_seconds:.1f} |"
        )
    return "\n".join([*lines, ""])


def _labels(found: dict[str, Series]) -> str:
    rows = by_labels(found)
    if not rows:
        return ""
    pairs = [(PRETRAINED, "lbsf"), ("lbsf", "lightgbm"), (TAUGHT, "lightgbm"), (TAUGHT_ON_ALL, "lightgbm")]
    heads = ["labels", *BY_LABELS, *(f"{one} - {other}" for one, other in pairs)]
    lines = ["### Number of labels, and pretraining\n"]
    lines += [f"| {' | '.join(heads)} |", f"|{'---:|' * len(heads)}"]
    for number, of in rows.items():
        values = [f"{of[name].auc.value:.4f}" if name in of else "" for name in BY_LABELS]
        values += [f"{of[a].ahead_of(of[b]):+.4f}" if a in of and b in of else "" for a, b in pairs]
        lines.append(f"| {number:,} | {' | '.join(values)} |")
    return "\n".join([*lines, "", "![AUC by number of labels](images/experiment_labels.png)", ""])


def _epochs(found: dict[str, Series]) -> str:
    lines = ["### Epoch time\n", "Median CPU seconds of a training epoch; other work on the machine is not included.\n"]
    lines += [f"| model | {' | '.join(f'{days} days' for days in DAYS)} | 180 / 45 |", "|---|---:|---:|---:|---:|"]
    for network in models_of(found):
        of = [at(found, network, days) for days in DAYS]
        times = [series.epoch_seconds if series else None for series in of]
        if any(times):
            growth = f"{times[-1] / times[0]:.1f}" if times[0] and times[-1] else ""
            cells = " | ".join("" if seconds is None else f"{seconds:.1f}" for seconds in times)
            lines.append(f"| {network} | {cells} | {growth} |")
    return "\n".join([*lines, "", "![Epoch time by length of history](images/experiment_epochs.png)", ""])


def write(found: dict[str, Series], reachable_auc: float, docs: Path) -> str:
    """Replace the generated part of docs/experiments.md and draw the pictures; return the part's text."""
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    plot_history(found, reachable_auc, images / "experiment_auc.png")
    plot_epochs(found, images / "experiment_epochs.png")
    if _labels(found):
        plot_labels(found, images / "experiment_labels.png")
    text = tables(found, reachable_auc)
    page = docs / "experiments.md"
    part = re.compile(f"{re.escape(MARKS[0])}.*?{re.escape(MARKS[1])}", re.DOTALL)
    before = page.read_text(encoding="utf-8") if page.exists() else f"# Experiments\n\n{MARKS[0]}{MARKS[1]}"
    page.write_text(part.sub(lambda _: f"{MARKS[0]}{text}{MARKS[1]}", before, count=1), encoding="utf-8")
    return text
