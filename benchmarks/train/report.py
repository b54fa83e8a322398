"""Write the results into docs/benchmarks.md, and draw its picture.

    python -m benchmarks.train.report

For each part, length of history and contender, the rounds of the latest run are used; figures are medians.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.harness.page import markdown_table, plot_lines, write_part
from benchmarks.harness.results import Record, Rounds, latest, read

TEXT = Path(__file__).with_name("report.md")
COLOURS = {"ours": "#d1495b", "transformer": "#2e6f95"}


class Cell(NamedTuple):
    """One contender at one length of history."""

    part: str
    per_user: int
    contender: str
    rounds: Rounds


def cells(records: Iterable[Record], part: str) -> list[Cell]:
    """Return the latest run's rounds of each length and contender, sorted by length, then in the order of the runs."""
    wanted = (record for record in records if record["part"] == part)
    found = latest(wanted, lambda record: (record["per_user"], record["contender"]))
    made = [Cell(part, *key, Rounds(rounds)) for key, rounds in found.items()]
    return sorted(made, key=lambda cell: cell.per_user)


def tables(records: Sequence[Record]) -> str:
    """Return all results as Markdown tables."""
    parts = []
    for part, table in TABLES.items():
        found = cells(records, part)
        if found:
            parts.append(table(found))
    return "\n".join(parts)


def _table(title: str, columns: dict[str, Callable[[Cell, Cell], str]], found: Sequence[Cell], of_data: str) -> str:
    """Make a table with one row per cell; a column is a function of the cell and the first one of the same length."""
    rounds = len(found[0].rounds.records)
    rows = []
    for cell in found:
        first = next(one for one in found if one.per_user == cell.per_user)
        rows.append([column(cell, first) for column in columns.values()])
    head = [f"### {title}", "", f"{of_data}; {rounds} round(s).", ""]
    return "\n".join([*head, *markdown_table(columns, rows), ""])


def _name(cell: Cell, first: Cell) -> str:
    return f"`{cell.contender}`"


def _seconds(cell: Cell, first: Cell) -> str:
    return cell.rounds.seconds("{:.2f}")


def _times_first(cell: Cell, first: Cell) -> str:
    own, base = cell.rounds.median("seconds"), first.rounds.median("seconds")
    return f"{own / base:.2f}" if own and base else ""


def _speed_of_first(cell: Cell, first: Cell) -> str:
    own, base = cell.rounds.median("payments_per_second"), first.rounds.median("payments_per_second")
    return f"{own / base:.2f}" if own and base else ""


def _figure(name: str, pattern: str = "{:,.0f}") -> Callable[[Cell, Cell], str]:
    def show(cell: Cell, first: Cell) -> str:
        value = cell.rounds.median(name)
        return "" if value is None else pattern.format(value)

    return show


def _wait(cell: Cell, first: Cell) -> str:
    """Return the share of the fastest epoch, whose seconds are reported, spent waiting for data."""
    shares = [
        found["data_wait_share"][found["epoch_seconds"].index(found["seconds"])]
        for found in cell.rounds.ended
        if "data_wait_share" in found
    ]
    return f"{100 * median(shares):.1f} %" if shares else ""


def _memory(cell: Cell, first: Cell) -> str:
    return cell.rounds.memory()


def _users(found: Sequence[Cell]) -> str:
    of = found[0].rounds.first
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
    return _table("Length of history", columns, found, f"{base.rounds.first['users']:,} users")


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


def write(records: Sequence[Record], docs: Path) -> None:
    """Write training's part of docs/benchmarks.md and its picture; other parts of the page are not changed."""
    _plot(cells(records, "history"), docs / "images/bench_train_history.png")
    newest = max(records, key=lambda record: record["run"])
    text = TEXT.read_text(encoding="utf-8").format(tables=tables(records), **newest)
    write_part(docs / "benchmarks.md", "train", "benchmarks/train/report.py", text)


def _plot(found: Sequence[Cell], path: Path) -> None:
    """Plot seconds against the length of history, one line per contender."""
    lines = {
        contender: [
            (cell.per_user, seconds)
            for cell in found
            if cell.contender == contender and (seconds := cell.rounds.median("seconds")) is not None
        ]
        for contender in COLOURS
    }
    lengths = sorted({cell.per_user for cell in found})
    plot_lines(path, lines, COLOURS, xlabel="payments a user, median", ylabel="seconds an epoch", xticks=lengths)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("docs/benchmarks/train.jsonl"), help="JSON lines")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the page and its images")
    arguments = parser.parse_args(argv)
    write(read(arguments.results), arguments.docs)


if __name__ == "__main__":
    main()
