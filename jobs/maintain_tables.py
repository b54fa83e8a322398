"""Keep the tables small and fast: merge small files, remove files that nothing refers to any more.

These stay readable: every version that a registered model was trained on or a score was made from, the versions
that those came from, and whatever left the newest version less than maintenance.retention_hours ago. Running it
again changes nothing. With --dry-run it only prints what it would do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs.common import Job, Summary, run_main
from lbsf.schemas import ALL_TABLES
from lbsf.tables import Maintained, maintain, referenced_versions

TABLES = {table.name: table for table in ALL_TABLES}


def run(job: Job, *, table: Sequence[str] | None = None, dry_run: bool = False) -> Summary:
    """Maintain some tables, or all that exist; print one line each, and the summary line.

    Args:
        job: configuration, session, tables and models.
        table: names of tables; None: all that exist.
        dry_run: change nothing.

    Raises:
        InputError: a table cannot be maintained, or the table versions that a model was trained on are unknown.
    """
    with job.step("maintain_tables") as summary:
        warehouse = job.warehouse
        chosen = [TABLES[name] for name in table or TABLES if table or warehouse.exists(TABLES[name])]
        referenced = referenced_versions(warehouse, job.tracker.table_versions())
        done = []
        for each in chosen:
            versions = referenced.get(each.name, set())
            done.append(maintain(warehouse, each, versions, job.config.maintenance, dry_run=dry_run))
            print(_line(each.name, done[-1]), flush=True)
        summary.details = {
            "dry run, would be" if dry_run else "tables": len(chosen),
            "files compacted": sum(one.files_compacted for one in done),
            "files removed": sum(one.files_removed for one in done),
            "bytes removed": sum(one.bytes_removed for one in done),
            "versions kept": sum(len(one.versions_kept) for one in done),
        }
    return summary


def _line(name: str, done: Maintained) -> str:
    line = (
        f"  {name}: {done.files_compacted:,} files compacted, {done.files_removed:,} removed "
        f"({done.bytes_removed:,} bytes), versions kept {_ranges(done.versions_kept)}"
    )
    if done.versions_lost:
        line += f"; versions {_ranges(done.versions_lost)} are referred to but cannot be read: their log has expired"
    return line


def _ranges(versions: Sequence[int]) -> str:
    """Return ascending versions in short form.

    >>> _ranges([0, 3, 4, 5])
    '0 3-5'
    """
    ranges: list[list[int]] = []
    for version in versions:
        if ranges and ranges[-1][-1] == version - 1:
            ranges[-1] = [ranges[-1][0], version]
        else:
            ranges.append([version])
    return " ".join("-".join(str(end) for end in ends) for ends in ranges)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table", nargs="+", choices=sorted(TABLES), metavar="NAME", help="only these tables (default: all that exist)"
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing, say what would be done")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
