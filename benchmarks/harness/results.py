"""Results of repeated runs as JSON lines, and summaries of one contender's rounds."""

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
        path: the results file; created if it is missing.
        record: with `status` and `peak_memory` (bytes), and `seconds` if the run was successful.
        name: of the run, for the printed line.
    """
    append_line(path, record)
    seconds = "" if record.get("seconds") is None else f", {record['seconds']:.2f} s"
    print(f"{name}: {record['status']}{seconds}, {record.get('peak_memory', 0) / GIB:.1f} GiB", flush=True)


def append_line(path: Path, record: Record) -> None:
    """Append a record to a file of JSON lines, which is created if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record) + "\n")


def read(path: Path) -> list[Record]:
    """Return all records of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def latest(records: Iterable[Record], key: Callable[[Record], Key]) -> dict[Key, list[Record]]:
    """Return for each key the records of its newest run, in the order in which they were recorded.

    Args:
        records: with `run`, the start time of the command that made them.
        key: identifies what was measured; a newer run with the same key replaces an older one.
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
        """Return the first round, for values that are equal in all rounds."""
        return self.records[0]

    @property
    def ended(self) -> list[Record]:
        """Return the successful rounds."""
        return [record for record in self.records if record["status"] == "ok"]

    @property
    def status(self) -> str:
        """Return `ok` if all rounds were successful, else the status of the first one that was not."""
        return next((record["status"] for record in self.records if record["status"] != "ok"), "ok")

    def median(self, figure: str) -> float | None:
        """Return the median over the successful rounds; None if there are none."""
        return median(float(record[figure]) for record in self.ended) if self.ended else None

    def memory(self, figure: str = "peak_memory") -> str:
        """Return the median, in GiB, of a figure in bytes over the successful rounds, or over all if none was."""
        return f"{median(float(record.get(figure) or 0) for record in self.ended or self.records) / GIB:.2f} GiB"

    def seconds(self, pattern: str = "{:.1f}") -> str:
        """Return the median of the seconds with their range, and the status of unsuccessful rounds."""
        times = [float(record["seconds"]) for record in self.ended]
        if not times:
            return self.status
        spread = f" ({pattern.format(min(times))} to {pattern.format(max(times))})" if len(times) > 1 else ""
        other = f", else {self.status}" if self.status != "ok" else ""
        return f"{pattern.format(median(times))}{spread}{other}"
