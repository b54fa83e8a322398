"""A benchmark's part of docs/benchmarks.md, and its pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TITLE = "# Benchmarks\n"


def write_part(page: Path, name: str, made_by: str, text: str) -> None:
    """Replace one benchmark's part of a page, or append it; the other parts are not changed.

    Args:
        page: Markdown file; created if it is missing.
        name: of the part, for its begin and end markers.
        made_by: path of the module that generates the part, shown in the marker.
        text: the part's new text.
    """
    begin, end = f"<!-- {name}: made by {made_by} -->\n", f"<!-- end of {name} -->\n"
    before = page.read_text(encoding="utf-8") if page.exists() else TITLE
    part = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not part.search(before):
        before = f"{before}\n{begin}{end}"
    page.write_text(part.sub(lambda _: f"{begin}{text}{end}", before, count=1), encoding="utf-8")


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a Markdown table; the first column is aligned left, the others right."""
    names = list(header)
    lines = [f"| {' | '.join(names)} |", "|---" + "|---:" * (len(names) - 1) + "|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def plot_lines(
    path: Path,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    colours: Mapping[str, str],
    *,
    xlabel: str,
    ylabel: str,
    xticks: Sequence[int] = (),
) -> None:
    """Draw one line per contender on logarithmic axes, and save the picture.

    Args:
        path: PNG file; its folder is created if it is missing.
        lines: contender -> points (x, y); contenders without points are left out.
        colours: contender -> colour.
        xlabel, ylabel: names of the axes.
        xticks: positions of the x axis' labels; empty: matplotlib's defaults.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    picture, axis = plt.subplots(figsize=(7.5, 4.8))
    for contender, points in lines.items():
        if points:
            x, y = zip(*points, strict=True)
            axis.plot(x, y, "o-", color=colours[contender], label=contender, linewidth=1.8)
    axis.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    if xticks:
        axis.set_xticks(list(xticks), [f"{tick:,}" for tick in xticks])
        axis.minorticks_off()
    axis.grid(True, which="both", alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    picture.tight_layout()
    picture.savefig(path, dpi=110)
    plt.close(picture)
