"""Results to docs/benchmarks.md and its pictures.

    python -m benchmarks.folding.report

Of each size, kind of data and contender the rounds of the latest run count; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TEXT = Path(__file__).with_name("report.md")
TITLE = "# Benchmarks\n"
MARKS = ("<!-- fold: made by benchmarks/folding/report.py -->\n", "<!-- end of fold -->\n")
ORDER = ("ours", "polars", "duckdb", "ours_through_spark", "textbook_spark", "ours_incremental", "rewrite_folds")
NIGHTLY = ("ours_incremental", "rewrite_folds")
COLOURS = {
    "ours": "#d1495b",
    "ours_through_spark": "#e8a0a9",
    "ours_incremental": "#8c1c2e",
    "rewrite_folds": "#999999",
    "polars": "#2e6f95",
    "duckdb": "#edae49",
    "textbook_spark": "#222222",
}
GIB = 2**30


class Cell(NamedTuple):
    """The rounds of one contender on one dataset."""

    size: int
    variant: str
    contender: str
    rounds: list[dict[str, Any]]

    @property
    def status(self) -> str:
        """`ok` where every round came to its end, else how the first other one ended."""
        return next((found["status"] for found in self.rounds if found["status"] != "ok"), "ok")

    def middle(self, figure: str) -> float:
        """Median over the rounds that came to their end, or over all where none did."""
        ended = [found for found in self.rounds if found["status"] == "ok"] or self.rounds
        return median(float(found.get(figure) or 0) for found in ended)

    @property
    def seconds(self) -> float | None:
        """Median; None where no round came to its end."""
        return self.middle("seconds") if any(found["status"] == "ok" for found in self.rounds) else None


def cells(records: Iterable[dict[str, Any]], benchmark: str) -> list[Cell]:
    """The latest run's rounds of each dataset and contender, by size and in the tables' order."""
    found: dict[tuple[int, str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        if record["benchmark"] == benchmark:
            found[record["size"], record["variant"], record["contender"]].append(record)
    latest = []
    for key, rounds in found.items():
        newest = max(record["run"] for record in rounds)
        latest.append(Cell(*key, [record for record in rounds if record["run"] == newest]))
    return sorted(latest, key=lambda cell: (cell.size, cell.variant, ORDER.index(cell.contender)))


def tables(records: Sequence[dict[str, Any]]) -> str:
    """All results as Markdown tables."""
    compared, skewed = cells(records, "contenders"), cells(records, "skew")
    parts = [_contender_table(size, [c for c in compared if c.size == size]) for size in _sizes(compared)]
    parts += [_skew_table(size, [c for c in skewed if c.size == size]) for size in _sizes(skewed)]
    return "\n".join(parts)


def _sizes(found: Sequence[Cell]) -> list[int]:
    return sorted({cell.size for cell in found})


def _contender_table(size: int, found: Sequence[Cell]) -> str:
    base = next((cell.seconds for cell in found if cell.contender == "ours"), None)
    of = found[0].rounds[0]
    lines = [
        f"### {_millions(size)} payments",
        "",
        f"{of['payments']:,} payments of {of['users']:,} users in {of['buckets']} buckets, "
        f"{len(found[0].rounds)} round(s).",
        "",
        "| contender | seconds | times ours | payments a second | cpu seconds | peak memory | temporary | written |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for cell in found:
        ratio = f"{cell.seconds / base:.2f}" if cell.seconds and base else ""
        rate = f"{of['payments'] / cell.seconds:,.0f}" if cell.seconds else ""
        sizes = " | ".join(f"{cell.middle(name) / GIB:.2f} GiB" for name in ("peak_memory", "peak_temp", "output"))
        cpu = f"{cell.middle('cpu_seconds'):.1f}" if cell.seconds else ""
        lines.append(f"| `{cell.contender}` | {_seconds(cell)} | {ratio} | {rate} | {cpu} | {sizes} |")
    return "\n".join([*lines, ""])


def _skew_table(size: int, found: Sequence[Cell]) -> str:
    base = next((cell.seconds for cell in found if cell.variant == "even"), None)
    lines = [
        f"### Skew, {_millions(size)} payments",
        "",
        "| data | payments | seconds | times even | peak memory |",
        "|---|---:|---:|---:|---:|",
    ]
    for cell in found:
        ratio = f"{cell.seconds / base:.2f}" if cell.seconds and base else ""
        peak = f"{cell.middle('peak_memory') / GIB:.2f} GiB"
        lines.append(f"| {cell.variant} | {cell.rounds[0]['payments']:,} | {_seconds(cell)} | {ratio} | {peak} |")
    return "\n".join([*lines, ""])


def _seconds(cell: Cell) -> str:
    times = [float(found["seconds"]) for found in cell.rounds if found["status"] == "ok"]
    if not times:
        return cell.status
    spread = f" ({min(times):.1f} to {max(times):.1f})" if len(times) > 1 else ""
    other = f", else {cell.status}" if cell.status != "ok" else ""
    return f"{median(times):.1f}{spread}{other}"


def _millions(payments: int) -> str:
    return f"{payments / 1e6:,.4g} million"


def write(records: Sequence[dict[str, Any]], docs: Path) -> None:
    """The fold's part of docs/benchmarks.md, and the pictures; other parts of the page stay."""
    compared = cells(records, "contenders")
    pictures = docs / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    full = [cell for cell in compared if cell.contender not in NIGHTLY]
    _plot(full, "seconds", "seconds", pictures / "bench_fold_seconds.png")
    _plot(full, "peak_memory", "peak memory in GiB", pictures / "bench_fold_memory.png")
    night = [cell for cell in compared if cell.contender in ("ours", *NIGHTLY)]
    _plot(night, "seconds", "seconds", pictures / "bench_fold_night.png")
    newest = max(records, key=lambda record: record["run"])
    text = TEXT.read_text(encoding="utf-8").format(tables=tables(records), **newest)
    page = docs / "benchmarks.md"
    before = page.read_text(encoding="utf-8") if page.exists() else f"{TITLE}\n{MARKS[0]}{MARKS[1]}"
    part = re.compile(f"{re.escape(MARKS[0])}.*?{re.escape(MARKS[1])}", re.DOTALL)
    if not part.search(before):
        before = f"{before}\n{MARKS[0]}{MARKS[1]}"
    page.write_text(part.sub(lambda _: f"{MARKS[0]}{text}{MARKS[1]}", before, count=1), encoding="utf-8")


def _plot(found: Sequence[Cell], figure: str, label: str, path: Path) -> None:
    """A figure against payments, a line a contender, both axes logarithmic."""
    picture, axis = plt.subplots(figsize=(7.5, 4.8))
    for contender in ORDER:
        own = [cell for cell in found if cell.contender == contender and cell.variant == "even"]
        ended = [(cell.rounds[0]["payments"], cell.middle(figure)) for cell in own if cell.seconds is not None]
        if ended:
            x, y = zip(*ended, strict=True)
            scale = GIB if figure != "seconds" else 1
            axis.plot(x, [v / scale for v in y], "o-", color=COLOURS[contender], label=contender, linewidth=1.8)
    axis.set(xscale="log", yscale="log", xlabel="payments", ylabel=label)
    axis.grid(True, which="both", alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    picture.tight_layout()
    picture.savefig(path, dpi=110)
    plt.close(picture)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("docs/benchmarks/fold.jsonl"), help="JSON lines")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the page and its images")
    arguments = parser.parse_args(argv)
    lines = arguments.results.read_text(encoding="utf-8").splitlines()
    write([json.loads(line) for line in lines], arguments.docs)


if __name__ == "__main__":
    main()
