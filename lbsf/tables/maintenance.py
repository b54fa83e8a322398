"""Table maintenance: merges small files and removes files that are no longer referenced."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from delta.tables import DeltaTable as SparkDeltaTable
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyspark.sql import functions as F

from lbsf.config.models import MaintenanceConfig
from lbsf.errors import InputError
from lbsf.schemas import EXAMPLES, FOLDS, PAYMENTS, SCORES, TableSchema
from lbsf.tables.faults import CONFLICTS, conflict
from lbsf.tables.litter import litter, remove_empty_folders
from lbsf.tables.warehouse import Warehouse, local_path

# Not compacted: Petastorm shards these tables by row groups of nearly equal size, which a merge would not keep. They
# are written whole, with one file per partition and task.
LAID_OUT_BY_ROW_GROUP = (FOLDS, EXAMPLES)


class Maintained(NamedTuple):
    """The result of a table's maintenance; in a dry run, what would have been done.

    Attributes:
        files_compacted: number of small files that were merged.
        files_removed: number of unreferenced files, including those that killed writers left.
        bytes_removed: total size of the removed files.
        versions_kept: the newest version, and the referenced versions that can still be read.
        versions_lost: referenced versions that cannot be read: their log has expired, or the table is another one.
    """

    files_compacted: int
    files_removed: int
    bytes_removed: int
    versions_kept: tuple[int, ...]
    versions_lost: tuple[int, ...]


def referenced_versions(warehouse: Warehouse, by_models: Mapping[str, Collection[int]]) -> dict[str, set[int]]:
    """Return the referenced Delta versions by table.

    These are the versions that models were trained on and the versions those were made from, the folds scored within
    storage.history_days, and the payments from which these folds and the newest folds and examples were made.

    Args:
        warehouse: the tables.
        by_models: Delta versions, by table, that the registered models were trained on.
    """
    found = defaultdict(set, {name: set(versions) for name, versions in by_models.items()})
    since = datetime.now(UTC) - timedelta(days=warehouse.storage.history_days)
    if warehouse.exists(SCORES):
        scored = warehouse.read(SCORES).where(F.col("scored_at") >= F.lit(since)).select("folds_version").distinct()
        found[FOLDS.name] |= {int(row["folds_version"]) for row in scored.collect()}
    if warehouse.exists(EXAMPLES):
        for version in {*found[EXAMPLES.name], warehouse.version(EXAMPLES)}:
            for name, made_from in warehouse.made_from(EXAMPLES, version).items():
                found[name].add(made_from)
    if warehouse.exists(FOLDS):
        newest = warehouse.version(FOLDS)
        first = _first_readable(_root(warehouse, FOLDS))
        for version in {newest, *(v for v in found[FOLDS.name] if first <= v < newest)}:
            found[PAYMENTS.name] |= _payments_of_folds(warehouse, version, since)
    return dict(found)


def maintain(
    warehouse: Warehouse, table: TableSchema, referenced: Collection[int], config: MaintenanceConfig, *, dry_run: bool
) -> Maintained:
    """Merge a table's small files, then remove the files of unreferenced versions.

    Args:
        warehouse: the tables.
        table: an existing table.
        referenced: the table's versions returned by `referenced_versions`.
        config: the number of files from which a partition is merged, and the retention of unreferenced files.
        dry_run: True: change nothing, and return what would be done.

    Raises:
        InputError: the table is not accessible as files, its log cannot be read, or another job wrote it meanwhile.
    """
    root = _root(warehouse, table)
    compacted = 0 if table in LAID_OUT_BY_ROW_GROUP else _compact(warehouse, table, config.compact_files, dry_run)
    newest, first = warehouse.version(table), _first_readable(root)
    kept = {newest, *(version for version in referenced if first <= version <= newest)}
    before = time.time() - 3600 * config.retention_hours
    files = sorted({*_unreferenced(root, kept, config.retention_hours), *litter(root, before)})
    size = sum(file.stat().st_size for file in files)
    if not dry_run:
        for file in files:
            file.unlink(missing_ok=True)
            # Hadoop writes such a checksum on a plain file system.
            file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
        remove_empty_folders(root, before, {file.parent for file in files})
    return Maintained(compacted, len(files), size, tuple(sorted(kept)), tuple(sorted(set(referenced) - kept)))


def _root(warehouse: Warehouse, table: TableSchema) -> str:
    root = local_path(warehouse.location(table))
    if "://" in root:
        raise InputError(f"table {table.name} at {root}: files are removed by path; mount the storage and run it there")
    return root


def _compact(warehouse: Warehouse, table: TableSchema, least_files: int, dry_run: bool) -> int:
    """Merge the files of each partition with at least `least_files` files; return the number of files merged."""
    parts = Counter(tuple(f.partition.items()) for f in warehouse.data_files(table, warehouse.version(table)))
    crowded = {part: files for part, files in parts.items() if files >= least_files}
    if dry_run or not crowded:
        return sum(crowded.values())
    optimize = SparkDeltaTable.forPath(warehouse.spark, warehouse.location(table)).optimize()
    if table.partition_by:
        optimize = optimize.where(" OR ".join(_is(part) for part in crowded))
    try:
        metrics = optimize.executeCompaction().select("metrics.numFilesRemoved").first()
    except CONFLICTS as error:
        raise InputError(conflict(table.name)) from error
    return int(metrics[0]) if metrics is not None else 0


def _is(part: tuple[tuple[str, str | None], ...]) -> str:
    """Return an SQL condition that is true in one partition."""
    tests = [f"{name} IS NULL" if value is None else f"{name} = {value!r}" for name, value in part]
    return f"({' AND '.join(tests)})"


def _payments_of_folds(warehouse: Warehouse, version: int, since: datetime) -> set[int]:
    """Return the versions of payments from which the files of a version of folds written since `since` were made."""
    actions = DeltaTable(_root(warehouse, FOLDS), version=version).get_add_actions(flatten=True)
    if "max.payments_version" in actions.column_names:
        written, stated = actions["modification_time"].to_pylist(), actions["max.payments_version"].to_pylist()
        recent = {made_from for made_from, at in zip(stated, written, strict=True) if at >= since.timestamp() * 1000}
        if None not in recent:
            return recent
    # The writer left out the statistics.
    rows = warehouse.read(FOLDS, version).select("payments_version").distinct().collect()
    return {int(row["payments_version"]) for row in rows}


def _unreferenced(root: str, kept: Collection[int], retention_hours: int) -> list[Path]:
    """Return the files in the table's folder that are older than the retention and belong to no kept version.

    Files of the change data feed are kept as long as their commit: an incremental fold may start from old folds.
    """
    try:
        # A dry run, because a real vacuum writes two commits and also removes the change data feed's files.
        listed = DeltaTable(root).vacuum(
            retention_hours, dry_run=True, enforce_retention_duration=False, full=True, keep_versions=sorted(kept)
        )
    except DeltaError as error:
        raise InputError(f"table {Path(root).name}: its log cannot be read, so nothing was removed ({error})") from None
    paths = {Path(root, name) for name in listed} - _change_files(root)
    # The list also has files that were removed long ago, and Hadoop's hidden checksums of files that are kept.
    return sorted(p for p in paths if p.is_relative_to(root) and not p.name.startswith(".") and p.is_file())


def _change_files(root: str) -> set[Path]:
    """Return the change data feed's files of every commit in the log."""
    found = set()
    for commit in _commits(root).values():
        with commit.open(encoding="utf-8") as lines:
            found |= {
                Path(root, unquote(json.loads(line)["cdc"]["path"])) for line in lines if line.startswith('{"cdc"')
            }
    return found


def _first_readable(root: str) -> int:
    """Return the oldest version that the log can rebuild: from the first commit, or from a checkpoint, without gaps."""
    commits = _commits(root)
    first = max(commits)
    while first - 1 in commits:
        first -= 1
    checkpoints = {int(path.name[:20]) for path in Path(root, "_delta_log").glob("*.checkpoint*.parquet")}
    return min((version for version in checkpoints if version >= first - 1), default=first) if first else 0


def _commits(root: str) -> dict[int, Path]:
    log = Path(root, "_delta_log")
    return {int(path.stem): path for path in log.glob("*.json") if path.stem.isdigit()}
