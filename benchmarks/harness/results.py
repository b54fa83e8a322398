"""Results of repeated runs as JSON lines, and the rounds of one contender together."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

Record = dict[str, Any]
Key = TypeVar("Key", bound=Hashable)

GIB = 2**30


def append(path: Path, record: Record, name: str) -> None:
    """Append a record to a file of JSON lines, and print how the run ended.

    Args:
        path: the results file; made where it is missing.
        record: with `status` and `peak_memory` (bytes); `seconds` where the run ended well.
        name: of the run, for the line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")
    seconds = "" if record.get("seconds") is None else f", {record['seconds']:.2f} s"
    print(f"{name}: {record['status']}{seconds}, {record.get('peak_memory', 0) / GIB:.1f} GiB", flush=True)


def read(path: Path) -> list[Record]:
    """Return all records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def latest(records: Iterable[Record], key: Callable[[Record], Key]) -> dict[Key, list[Record]]:
    """Return the records of each key that belong to its newest run, in the order in which they were recorded.

    Args:
        records: with `run`, the instant of the command that made them.
        key: what is measured: the same key in two runs is measured again.
    """
    found: dict[Key, list[Record]] = defaultdict(list)
    for record in records:
        found[key(record)].append(record)
    return {one: [r for r in of if r["run"] == max(o["run"] for o in of)] for one, of in found.items()}


class Rounds(NamedTuple):
    """The rounds of one contender on one dataset, each with its `status`."""

    records: list[Record]

    @property
    def first(self) -> Record:
        """The first round, for what is the same in all."""
        return self.records[0]

    @property
    def ended(self) -> list[Record]:
        """The rounds that came to their end."""
        return [record for record in self.records if record["status"] == "ok"]

    @property
    def status(self) -> str:
        """`ok` where every round came to its end, else how the first other one ended."""
        return next((record["status"] for record in self.records if record["status"] != "ok"), "ok")

    def median(self, figure: str) -> float | None:
        """Return the median over the rounds that came to their end; None where none did."""
        return median(float(record[figure]) for record in self.ended) if self.ended else None

    def memory(self, figure: str = "peak_memory") -> str:
        """Return the median of a figure in bytes, in GiB, over all rounds where none came to its end."""
        return f"{median(float(record.get(figure) or 0) for record in self.ended or self.records) / GIB:.2f} GiB"

    def seconds(self, pattern: str = "{:.1f}") -> str:
        """Return the median of the seconds with its range, and how rounds ended that did not end well."""
        times = [float(record["seconds"]) for record in self.ended]
        if not times:
            return self.status
        spread = f" ({pattern.format(min(times))} to {pattern.format(max(times))})" if len(times) > 1 else ""
        other = f", else {self.status}" if self.status != "ok" else ""
        return f"{pattern.format(median(times))}{spread}{other}"
