"""Results to docs/benchmarks.md and its picture.

    python -m benchmarks.training.report

Of each part, length of history and contender the rounds of the latest run count; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TEXT = Path(__file__).with_name("report.md")
TITLE = "# Benchmarks\n"
MARKS = ("<!-- train: made by benchmarks/training/report.py -->\n", "<!-- end of train -->\n")
COLOURS = {"ours": "#d1495b", "transformer": "#2e6f95"}
GIB = 2**30


class Cell(NamedTuple):
    """The rounds of one contender at one length of history."""

    part: str
    per_user: int
    contender: str
    rounds: list[dict[str, Any]]

    @property
    def ended(self) -> list[dict[str, Any]]:
        """The rounds that came to their end."""
        return [found for found in self.rounds if found["status"] == "ok"]

    def middle(self, figure: str) -> float | None:
        """Median over the rounds that came to their end; None where none did."""
        return median(float(found[figure]) for found in self.ended) if self.ended else None


def cells(records: Iterable[dict[str, Any]], part: str) -> list[Cell]:
    """The latest run's rounds of each length and contender, by length and in the order in which they ran."""
    found: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        if record["part"] == part:
            found[record["per_user"], record["contender"]].append(record)
    latest = []
    for (per_user, contender), rounds in found.items():
        newest = max(record["run"] for record in rounds)
        latest.append(Cell(part, per_user, contender, [record for record in rounds if record["run"] == newest]))
    return sorted(latest, key=lambda cell: cell.per_user)


def tables(records: Sequence[dict[str, Any]]) -> str:
    """All results as Markdown tables."""
    parts = []
    for part, table in TABLES.items():
        found = cells(records, part)
        if found:
            parts.append(table(found))
    return "\n".join(parts)


def _table(title: str, columns: dict[str, Callable[[Cell, Cell], str]], found: Sequence[Cell], of_data: str) -> str:
    """A line a cell; each column is made of the cell and of the first one with the same history."""
    rounds = len(found[0].rounds)
    lines = [f"### {title}", "", f"{of_data}; {rounds} round(s).", "", f"| {' | '.join(columns)} |"]
    lines.append("|---" + "|---:" * (len(columns) - 1) + "|")
    for cell in found:
        first = next(one for one in found if one.per_user == cell.per_user)
        lines.append(f"| {' | '.join(column(cell, first) for column in columns.values())} |")
    return "\n".join([*lines, ""])


def _name(cell: Cell, first: Cell) -> str:
    return f"`{cell.contender}`"


def _seconds(cell: Cell, first: Cell) -> str:
    times = [float(found["seconds"]) for found in cell.ended]
    if not times:
        return str(cell.rounds[0]["status"])
    spread = f" ({min(times):.2f} to {max(times):.2f})" if len(times) > 1 else ""
    return f"{median(times):.2f}{spread}"


def _times_first(cell: Cell, first: Cell) -> str:
    own, base = cell.middle("seconds"), first.middle("seconds")
    return f"{own / base:.2f}" if own and base else ""


def _speed_of_first(cell: Cell, first: Cell) -> str:
    own, base = cell.middle("payments_per_second"), first.middle("payments_per_second")
    return f"{own / base:.2f}" if own and base else ""


def _figure(name: str, pattern: str = "{:,.0f}") -> Callable[[Cell, Cell], str]:
    def show(cell: Cell, first: Cell) -> str:
        value = cell.middle(name)
        return "" if value is None else pattern.format(value)

    return show


def _wait(cell: Cell, first: Cell) -> str:
    """Of the fastest epoch, whose seconds count."""
    shares = [
        found["data_wait_share"][found["epoch_seconds"].index(found["seconds"])]
        for found in cell.ended
        if "data_wait_share" in found
    ]
    return f"{100 * median(shares):.1f} %" if shares else ""


def _memory(cell: Cell, first: Cell) -> str:
    return f"{median(float(found['peak_memory']) for found in cell.rounds) / GIB:.2f} GiB"


def _users(found: Sequence[Cell]) -> str:
    of = found[0].rounds[0]
    return f"{of['users']:,} users, {of['per_user']:,} payments a user in the median"


def _lifestream(found: Sequence[Cell]) -> str:
    columns = {
        "contender": _name,
        "seconds an epoch": _seconds,
        "times ours": _times_first,
        "test AUC": _figure("test_auc", "{:.3f}"),
        "waiting for data": _wait,
        "peak memory": _memory,
    }
    return _table("Against pytorch-lifestream", columns, found, _users(found))


def _padding(found: Sequence[Cell]) -> str:
    columns = {
        "contender": _name,
        "seconds an epoch": _seconds,
        "times ours": _times_first,
        "cpu seconds": _figure("cpu_seconds", "{:.2f}"),
        "payments a second": _figure("payments_per_second"),
        "peak memory": _memory,
    }
    return _table("Packed against padded", columns, found, _users(found))


def _loading(found: Sequence[Cell]) -> str:
    columns = {
        "contender": _name,
        "payments a second": _figure("payments_per_second"),
        "speed, ours = 1": _speed_of_first,
        "payments a cpu second": _figure("payments_per_cpu_second"),
    }
    return _table("Reading", columns, found, _users(found))


def _history(found: Sequence[Cell]) -> str:
    base = found[0]

    def growth(cell: Cell, first: Cell) -> str:
        shortest = next(one for one in found if one.contender == cell.contender)
        return _times_first(cell, shortest)

    columns = {
        "payments a user": lambda cell, first: f"{cell.per_user:,}",
        "contender": _name,
        "seconds an epoch": _seconds,
        "times ours": _times_first,
        f"times its own at {base.per_user:,}": growth,
        "cpu seconds": _figure("cpu_seconds", "{:.2f}"),
        "peak memory": _memory,
    }
    return _table("Length of history", columns, found, f"{base.rounds[0]['users']:,} users")


def _ranks(found: Sequence[Cell]) -> str:
    columns = {
        "contender": _name,
        "seconds an epoch": _seconds,
        "speed, one rank = 1": _speed_of_first,
        "payments a second": _figure("payments_per_second"),
        "waiting for data": _wait,
        "test AUC": _figure("test_auc", "{:.3f}"),
    }
    return _table("Two ranks", columns, found, _users(found))


TABLES: dict[str, Callable[[Sequence[Cell]], str]] = {
    "lifestream": _lifestream,
    "padding": _padding,
    "loading": _loading,
    "history": _history,
    "ranks": _ranks,
}


def write(records: Sequence[dict[str, Any]], docs: Path) -> None:
    """Training's part of docs/benchmarks.md, and the picture; other parts of the page stay."""
    pictures = docs / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    _plot(cells(records, "history"), pictures / "bench_train_history.png")
    newest = max(records, key=lambda record: record["run"])
    text = TEXT.read_text(encoding="utf-8").format(tables=tables(records), **newest)
    page = docs / "benchmarks.md"
    before = page.read_text(encoding="utf-8") if page.exists() else f"{TITLE}\n{MARKS[0]}{MARKS[1]}"
    part = re.compile(f"{re.escape(MARKS[0])}.*?{re.escape(MARKS[1])}", re.DOTALL)
    if not part.search(before):
        before = f"{before}\n{MARKS[0]}{MARKS[1]}"
    page.write_text(part.sub(lambda _: f"{MARKS[0]}{text}{MARKS[1]}", before, count=1), encoding="utf-8")


def _plot(found: Sequence[Cell], path: Path) -> None:
    """Seconds against the length of history, a line a contender, both axes logarithmic."""
    picture, axis = plt.subplots(figsize=(7.5, 4.8))
    for contender, colour in COLOURS.items():
        points = [(cell.per_user, cell.middle("seconds")) for cell in found if cell.contender == contender]
        ended = [(per_user, seconds) for per_user, seconds in points if seconds is not None]
        if ended:
            x, y = zip(*ended, strict=True)
            axis.plot(x, y, "o-", color=colour, label=contender, linewidth=1.8)
    axis.set(xscale="log", yscale="log", xlabel="payments a user, median", ylabel="seconds an epoch")
    lengths = sorted({cell.per_user for cell in found})
    axis.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axis.minorticks_off()
    axis.grid(True, which="both", alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    picture.tight_layout()
    picture.savefig(path, dpi=110)
    plt.close(picture)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("docs/benchmarks/train.jsonl"), help="JSON lines")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the page and its images")
    arguments = parser.parse_args(argv)
    lines = arguments.results.read_text(encoding="utf-8").splitlines()
    write([json.loads(line) for line in lines], arguments.docs)


if __name__ == "__main__":
    main()
