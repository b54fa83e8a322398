"""What Delta's log says of a table's files, and commits of files that tasks wrote; all without Spark."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.transaction import AddAction, RemoveAction

from lbsf.errors import InputError
from lbsf.schemas import TableSchema


class DataFile(NamedTuple):
    """One Parquet file of a Delta table.

    Attributes:
        path: local path.
        rows: how many it holds.
        partition: value of each partition column, as text.
        low: smallest value of each column that has statistics, as the log states it.
        high: largest value.
    """

    path: str
    rows: int
    partition: dict[str, str | None]
    low: dict[str, Any]
    high: dict[str, Any]


class Changes(NamedTuple):
    """What a table's commits after one version, up to another, did to its rows.

    Attributes:
        added: files of the commits that only added rows.
        rewriting: versions of the commits that changed or removed rows.
    """

    added: list[DataFile]
    rewriting: list[int]


class NewFile(NamedTuple):
    """A Parquet file that a task wrote, not yet part of the table."""

    path: str  # relative to the table
    size: int
    rows: int
    partition: dict[str, str]
    constants: dict[str, Any]  # columns with one value throughout


def is_table(root: str) -> bool:
    """Whether a folder is a Delta table; Spark's own question takes seconds where it is the first."""
    return bool(DeltaTable.is_deltatable(root))


def newest_version(root: str) -> int:
    """The newest version of a table."""
    return int(DeltaTable(root, without_files=True).version())


def create_table(root: str, table: TableSchema, properties: Mapping[str, str]) -> None:
    """Makes an empty table as Spark would: its columns may be null for Delta."""
    fields = [{**field, "nullable": True} for field in table.struct.jsonValue()["fields"]]
    DeltaTable.create(
        root,
        Schema.from_json(json.dumps({"type": "struct", "fields": fields})),
        mode="error",
        partition_by=list(table.partition_by),
        configuration=dict(properties),
    )


def snapshot_files(root: str, version: int | None = None) -> list[DataFile]:
    """The files of a version, in a stable order."""
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
        )
        for number, path in enumerate(columns["path"])
    ]
    return sorted(files, key=lambda file: file.path)


def changes(root: str, after: int, until: int) -> Changes | None:
    """What the commits `after` + 1 to `until` did; None where the log or a file of theirs is gone.

    Commits that only lay files out anew (OPTIMIZE) change no rows.
    """
    found = Changes([], [])
    for version in range(after + 1, until + 1):
        commit = Path(root, "_delta_log", f"{version:020d}.json")
        if not commit.exists():
            return None
        actions = [json.loads(line) for line in commit.read_text(encoding="utf-8").splitlines()]
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
    root: str, new: Iterable[NewFile], old: Sequence[DataFile], *, at_version: int, made_from: dict[str, int]
) -> int:
    """Puts `new` files in the place of `old` ones, in one commit.

    Args:
        root: the table's folder.
        new: what tasks wrote.
        old: files of the snapshot `at_version`.
        at_version: the snapshot that was read before.
        made_from: Delta versions of the tables that the files were made from, kept with the commit.

    Returns:
        The new version.

    Raises:
        InputError: another writer of these files was faster; nothing is written.
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
        # Two commits with one application's mark, made side by side, conflict: so there is one writer at a time.
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
        raise InputError(
            f"{Path(root).name}: another job wrote the table meanwhile; run this again ({error})"
        ) from error
    return int(DeltaTable(root).version())


def _added(root: str, action: dict[str, Any]) -> DataFile:
    """A file as its commit's JSON states it."""
    stats = json.loads(action["stats"])
    return DataFile(
        f"{root}/{unquote(action['path'])}",
        int(stats["numRecords"]),
        action["partitionValues"],
        stats.get("minValues", {}),
        stats.get("maxValues", {}),
    )
