"""Write the results into docs/benchmarks.md, and draw its pictures.

    python -m benchmarks.fold.report

For each size, kind of data and contender, the rounds of the latest run are used; figures are medians.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness.page import markdown_table, plot_lines, write_part
from benchmarks.harness.results import GIB, Record, Rounds, latest, read

TEXT = Path(__file__).with_name("report.md")
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


class Cell(NamedTuple):
    """One contender on one dataset."""

    size: int
    variant: str
    contender: str
    rounds: Rounds


def cells(records: Iterable[Record], benchmark: str) -> list[Cell]:
    """Return the latest run's rounds of each dataset and contender, sorted by size, kind of data and ORDER."""
    wanted = (record for record in records if record["benchmark"] == benchmark)
    found = latest(wanted, lambda record: (record["size"], record["variant"], record["contender"]))
    made = [Cell(*key, Rounds(rounds)) for key, rounds in found.items()]
    return sorted(made, key=lambda cell: (cell.size, cell.variant, ORDER.index(cell.contender)))


def tables(records: Sequence[Record]) -> str:
    """Return all results as Markdown tables."""
    compared, skewed = cells(records, "contenders"), cells(records, "skew")
    parts = [_contender_table(size, [c for c in compared if c.size == size]) for size in _sizes(compared)]
    parts += [_skew_table(size, [c for c in skewed if c.size == size]) for size in _sizes(skewed)]
    return "\n".join(parts)


def _sizes(found: Sequence[Cell]) -> list[int]:
    return sorted({cell.size for cell in found})


def _contender_table(size: int, found: Sequence[Cell]) -> str:
    base = next((cell.rounds.median("seconds") for cell in found if cell.contender == "ours"), None)
    of = found[0].rounds.first
    head = [
        f"### {_millions(size)} payments",
        "",
        f"{of['payments']:,} payments of {of['users']:,} users in {of['buckets']} buckets, "
        f"{len(found[0].rounds.records)} round(s).",
        "",
    ]
    header = "contender", "seconds", "times ours", "payments a second", "cpu seconds"
    rows = []
    for cell in found:
        seconds, cpu_seconds = cell.rounds.median("seconds"), cell.rounds.median("cpu_seconds")
        ratio = f"{seconds / base:.2f}" if seconds and base else ""
        rate = f"{of['payments'] / seconds:,.0f}" if seconds else ""
        cpu = "" if cpu_seconds is None else f"{cpu_seconds:.1f}"
        sizes = [cell.rounds.memory(name) for name in ("peak_memory", "peak_temp", "output")]
        rows.append([f"`{cell.contender}`", cell.rounds.seconds(), ratio, rate, cpu, *sizes])
    return "\n".join([*head, *markdown_table([*header, "peak memory", "temporary", "written"], rows), ""])


def _skew_table(size: int, found: Sequence[Cell]) -> str:
    base = next((cell.rounds.median("seconds") for cell in found if cell.variant == "even"), None)
    rows = []
    for cell in found:
        seconds, of = cell.rounds.median("seconds"), cell.rounds
        ratio = f"{seconds / base:.2f}" if seconds and base else ""
        rows.append([cell.variant, f"{of.first['payments']:,}", of.seconds(), ratio, of.memory()])
    table = markdown_table(["data", "payments", "seconds", "times even", "peak memory"], rows)
    return "\n".join([f"### Skew, {_millions(size)} payments", "", *table, ""])


def _millions(payments: int) -> str:
    return f"{payments / 1e6:,.4g} million"


def write(records: Sequence[Record], docs: Path) -> None:
    """Write the fold's part of docs/benchmarks.md and its pictures; other parts of the page are not changed."""
    compared = cells(records, "contenders")
    full = [cell for cell in compared if cell.contender not in NIGHTLY]
    night = [cell for cell in compared if cell.contender in ("ours", *NIGHTLY)]
    _plot(full, "seconds", "seconds", docs / "images/bench_fold_seconds.png")
    _plot(full, "peak_memory", "peak memory in GiB", docs / "images/bench_fold_memory.png")
    _plot(night, "seconds", "seconds", docs / "images/bench_fold_night.png")
    newest = max(records, key=lambda record: record["run"])
    text = TEXT.read_text(encoding="utf-8").format(tables=tables(records), **newest)
    write_part(docs / "benchmarks.md", "fold", "benchmarks/fold/report.py", text)


def _plot(found: Sequence[Cell], figure: str, label: str, path: Path) -> None:
    """Plot a figure against the number of payments, one line per contender."""
    scale = 1 if figure == "seconds" else GIB
    lines = {
        contender: [
            (cell.rounds.first["payments"], value / scale)
            for cell in found
            if cell.contender == contender and cell.variant == "even" and (value := cell.rounds.median(figure))
        ]
        for contender in ORDER
    }
    plot_lines(path, lines, COLOURS, xlabel="payments", ylabel=label)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("docs/benchmarks/fold.jsonl"), help="JSON lines")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the page and its images")
    arguments = parser.parse_args(argv)
    write(read(arguments.results), arguments.docs)


if __name__ == "__main__":
    main()
