"""Write the results of the GPU benchmark into docs/benchmarks.md.

python -m benchmarks.gpu.report
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness.page import markdown_table, write_part
from benchmarks.harness.results import GIB, Record, latest, read

TEXT = Path(__file__).with_name("report.md")
Column = Callable[[Record], str]


def _number(name: str, pattern: str = "{:,.0f}") -> Column:
    return lambda record: pattern.format(record[name]) if name in record else ""


def _share(name: str) -> Column:
    def show(record: Record) -> str:
        value = record[name]
        # Of a training, that of its fastest epoch.
        if isinstance(value, list):
            value = value[record["epoch_seconds"].index(record["seconds"])]
        return f"{100 * value:.1f} %"

    return show


def _contender(record: Record) -> str:
    return f"`{record['contender']}`"


def _memory(record: Record) -> str:
    return f"{record['gpu_memory'] / GIB:.2f} GiB" if record["gpu_memory"] else ""


def _waits(record: Record) -> str:
    return str(sum(record["waits"].values())) if record["gpu_memory"] else ""


TABLES: dict[str, tuple[str, dict[str, Column]]] = {
    "training": (
        "Training, from files to a saved model",
        {
            "contender": _contender,
            "seconds an epoch": _number("seconds", "{:.2f}"),
            "payments a second": _number("payments_per_second"),
            "waiting for data": _share("data_wait_share"),
            "test AUC": _number("test_auc", "{:.3f}"),
        },
    ),
    "steps": (
        "Training steps in memory",
        {
            "contender": _contender,
            "users a batch": _number("batch_users"),
            "ms a step": _number("milliseconds_a_step", "{:.1f}"),
            "payments a second": _number("payments_per_second"),
            "waits of the host a step": _waits,
            "GPU memory": _memory,
        },
    ),
    "profile": (
        "One step in the profiler",
        {
            "contender": _contender,
            "users a batch": _number("batch_users"),
            "kernels a step": _number("kernels"),
            "ms of the GPU a step": lambda record: f"{1000 * record['gpu_seconds_a_step']:.1f}",
        },
    ),
    "feed": (
        "Reading and stepping",
        {
            "contender": _contender,
            "users a batch": _number("batch_users"),
            "seconds an epoch": _number("seconds", "{:.2f}"),
            "payments a second": _number("payments_per_second"),
            "waiting for data": _share("data_wait_share"),
        },
    ),
    "scoring": (
        "Scoring without reasons",
        {"contender": _contender, "users a second": _number("users_per_second")},
    ),
    "agreement": (
        "Agreement with float64",
        {
            "contender": _contender,
            "error of the logits": _number("logits_error", "{:.1e}"),
            "error of the gradients": _number("gradients_error", "{:.1e}"),
        },
    ),
}


def tables(records: Sequence[Record]) -> str:
    """Return the newest results of every part as Markdown tables."""
    made = []
    for part, (title, columns) in TABLES.items():
        newest = latest((r for r in records if r["part"] == part), lambda record: (record["part"],))
        rows = [record for of in newest.values() for record in of]
        if rows:
            table = markdown_table(columns, ([show(row) for show in columns.values()] for row in rows))
            made.append("\n".join([f"### {title}", "", *table, ""]))
    return "\n".join(made)


def write(records: Sequence[Record], docs: Path) -> None:
    """Write the GPU's part of docs/benchmarks.md; other parts of the page are not changed."""
    newest = max(records, key=lambda record: record["run"])
    text = TEXT.read_text(encoding="utf-8").format(tables=tables(records), **newest)
    write_part(docs / "benchmarks.md", "gpu", "benchmarks/gpu/report.py", text)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of documents (default: %(default)s)")
    arguments = parser.parse_args(argv)
    write(read(arguments.docs / "benchmarks/gpu.jsonl"), arguments.docs)


if __name__ == "__main__":
    main()
