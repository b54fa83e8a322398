"""Reads a table's files from Delta's log and commits files that tasks wrote, all without Spark."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.transaction import AddAction, RemoveAction

from lbsf.damaged import damaged
from lbsf.errors import InputError
from lbsf.schemas import TableSchema
from lbsf.tables.faults import conflict, explain, is_conflict

# A Parquet file begins and ends with this magic number.
_MAGIC = b"PAR1"
_COMMIT = re.compile(r"\d{20}\.json")


class DataFile(NamedTuple):
    """One Parquet file of a Delta table.

    Attributes:
        path: local path.
        rows: number of rows.
        partition: value of each partition column, as text.
        low: smallest value of each column with statistics, from the log.
        high: largest value of each such column.
        size: in bytes, from the log.
    """

    path: str
    rows: int
    partition: dict[str, str | None]
    low: dict[str, Any]
    high: dict[str, Any]
    size: int = 0

    def problem(self) -> str | None:
        """Return what is wrong with the file's size, or its first and last bytes; None: nothing."""
        try:
            with Path(self.path).open("rb") as file:
                begin = file.read(len(_MAGIC))
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - len(_MAGIC), 0))
                end = file.read()
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if self.size and size != self.size:
            return f"is damaged ({size:,} of {self.size:,} bytes)"
        return None if begin == end == _MAGIC else "is damaged (no Parquet file)"


def require_readable(files: Iterable[DataFile]) -> None:
    """Raise InputError if `DataFile.problem` finds a file missing or damaged."""
    for file in files:
        if problem := file.problem():
            raise InputError(damaged(file.path, problem))


class Changes(NamedTuple):
    """The changes that a range of commits made to a table's rows.

    Attributes:
        added: files of the commits that only added rows.
        rewriting: versions of the commits that changed or removed rows.
    """

    added: list[DataFile]
    rewriting: list[int]


class NewFile(NamedTuple):
    """A Parquet file that a task wrote and that is not yet committed."""

    path: str  # relative to the table
    size: int
    rows: int
    partition: dict[str, str]
    constants: dict[str, Any]  # columns with one value throughout


def is_table(root: str) -> bool:
    """Return whether a folder is a Delta table. Spark's own check takes seconds on its first call.

    Raises:
        InputError: a commit that the newest version depends on is missing, empty or truncated.
    """
    if not DeltaTable.is_deltatable(root):
        return False
    _check_log(root)
    return True


def _check_log(root: str) -> None:
    """Raise InputError for a log whose newest version differs between readers.

    Spark and deltalake skip an empty commit, and deltalake skips a missing first one, without an error.
    """
    names = [path.name for path in Path(root, "_delta_log").iterdir()]
    checkpoints = [int(name[:20]) for name in names if ".checkpoint." in name and name[:20].isdigit()]
    first = max(checkpoints, default=-1) + 1
    newest = max((int(name[:20]) for name in names if _COMMIT.fullmatch(name)), default=-1)
    for version in range(first, newest + 1):
        commit = _commit(root, version)
        problem = _commit_problem(commit)
        if problem is None:
            continue
        remedy = "restore it from a copy"
        if version == newest:
            remedy += f", or remove it and its checksum {commit.stem}.crc, and run the job again that wrote it"
        raise InputError(f"table {Path(root).name}: commit {commit} {problem}; {remedy} (docs/operations.md)")


def _commit(root: str, version: int) -> Path:
    return Path(root, "_delta_log", f"{version:020d}.json")


def _actions(root: str, version: int) -> list[dict[str, Any]] | None:
    """Return the actions of a commit; None if it is missing or cannot be read."""
    commit = _commit(root, version)
    if _commit_problem(commit) is not None:
        return None
    return [json.loads(line) for line in commit.read_text(encoding="utf-8").splitlines()]


def _commit_problem(commit: Path) -> str | None:
    try:
        content = commit.read_bytes().rstrip()
    except FileNotFoundError:
        return "is missing"
    if not content:
        return "is empty"
    try:
        json.loads(content.rsplit(b"\n", 1)[-1])
    except ValueError:
        return "is cut off"
    return None


def newest_version(root: str) -> int:
    """Return the newest version of a table."""
    return int(DeltaTable(root, without_files=True).version())


def create_table(root: str, table: TableSchema, properties: Mapping[str, str]) -> None:
    """Create an empty table as Spark would: with nullable columns in Delta's schema.

    Raises:
        InputError: another writer created it meanwhile, or the storage cannot be written.
    """
    fields = [{**field, "nullable": True} for field in table.struct.jsonValue()["fields"]]
    try:
        DeltaTable.create(
            root,
            Schema.from_json(json.dumps({"type": "struct", "fields": fields})),
            mode="error",
            partition_by=list(table.partition_by),
            configuration=dict(properties),
        )
    except Exception as error:
        raise _refusal(root, error) from error


def snapshot_files(root: str, version: int | None = None) -> list[DataFile]:
    """Return the files of a version (None: the newest), sorted by path."""
    actions = DeltaTable(root, version=version).get_add_actions(flatten=True)
    columns = {name: actions.column(name).to_pylist() for name in actions.column_names}
    partition, low, high = (
        {name.removeprefix(kind): of for name, of in columns.items() if name.startswith(kind)}
        for kind in ("partition.", "min.", "max.")
    )
    files = [
        DataFile(
            f"{root}/{path}",
            int(columns["num_records"][number]),
            {name: None if of[number] is None else str(of[number]) for name, of in partition.items()},
            {name: of[number] for name, of in low.items()},
            {name: of[number] for name, of in high.items()},
            int(columns["size_bytes"][number]),
        )
        for number, path in enumerate(columns["path"])
    ]
    return sorted(files, key=lambda file: file.path)


def changes(root: str, after: int, until: int) -> Changes | None:
    """Return the changes of the commits `after` + 1 to `until`; None if a commit or one of its files is missing.

    Commits that only rewrite files (OPTIMIZE) change no rows.
    """
    found = Changes([], [])
    for version in range(after + 1, until + 1):
        actions = _actions(root, version)
        if actions is None:
            return None
        if any(action.get("remove", {}).get("dataChange") for action in actions):
            found.rewriting.append(version)
            continue
        for action in actions:
            if action.get("add", {}).get("dataChange"):
                found.added.append(_added(root, action["add"]))
    if not all(Path(file.path).exists() for file in found.added):
        return None
    return found


def replace_files(
    root: str, new: Sequence[NewFile], old: Sequence[DataFile], *, at_version: int, made_from: dict[str, int]
) -> int:
    """Replace `old` files by `new` ones in one commit. If it fails, remove the new files.

    Args:
        root: the table's folder.
        new: files that tasks wrote.
        old: files of the snapshot `at_version`.
        at_version: the version that the caller read.
        made_from: Delta versions of the tables that the files were made from, recorded in the commit.

    Returns:
        The new version.

    Raises:
        InputError: another writer of these files committed first, or the storage cannot be written.
    """
    table = DeltaTable(root, version=at_version)
    actions: list[Any] = [
        AddAction(
            file.path,
            file.size,
            file.partition,
            int(Path(root, file.path).stat().st_mtime * 1000),
            True,
            json.dumps({"numRecords": file.rows, "minValues": file.constants, "maxValues": file.constants}),
        )
        for file in new
    ]
    now = int(time.time() * 1000)
    actions += [RemoveAction(str(Path(f.path).relative_to(root)), True, now, None, f.partition) for f in old]
    properties = CommitProperties(
        custom_metadata={"userMetadata": json.dumps({"made_from": made_from})},
        # Concurrent commits with the same application id conflict, so there is one writer at a time.
        app_transactions=[Transaction("lbsf", at_version)],
    )
    try:
        table.create_write_transaction(
            actions,
            mode="append",
            schema=table.schema(),
            partition_by=table.metadata().partition_columns,
            commit_properties=properties,
        )
    except Exception as error:
        # A later action, such as Delta's checkpoint, may fail although the commit succeeded.
        if not _holds(root, new):
            for file in new:
                Path(root, file.path).unlink(missing_ok=True)
            raise _refusal(root, error) from error
    return int(DeltaTable(root).version())


def _holds(root: str, files: Sequence[NewFile]) -> bool:
    stored = set(DeltaTable(root).get_add_actions(flatten=True)["path"].to_pylist())
    return bool(files) and all(file.path in stored for file in files)


def part_changed(root: str, part: Mapping[str, str], after: int, until: int) -> bool:
    """Return whether the commits `after` + 1 to `until` changed files of a partition; True if a commit is missing.

    Args:
        root: the table's folder.
        part: values, as text, of some of the partition columns.
        after: a version.
        until: a later version.
    """
    for version in range(after + 1, until + 1):
        actions = _actions(root, version)
        if actions is None:
            return True
        touched = (action.get("add") or action.get("remove") or {} for action in actions)
        if any(part.items() <= values.items() for one in touched if (values := one.get("partitionValues"))):
            return True
    return False


def _added(root: str, action: dict[str, Any]) -> DataFile:
    """Return the file that an add action describes."""
    stats = json.loads(action["stats"])
    return DataFile(
        f"{root}/{unquote(action['path'])}",
        int(stats["numRecords"]),
        action["partitionValues"],
        stats.get("minValues", {}),
        stats.get("maxValues", {}),
        int(action["size"]),
    )


def _refusal(root: str, error: Exception) -> Exception:
    """Return an InputError with a clear message for a storage error or a conflict, else the error itself."""
    line = explain(error, str(Path(root).parents[1]))
    if line is None and is_conflict(error):
        line = conflict(Path(root).name)
    return error if line is None else InputError(line)
