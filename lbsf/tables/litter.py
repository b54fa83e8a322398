"""What killed writers leave in a table's folder beside data files: Spark, delta-rs and our own tasks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

_LOG = "_delta_log"
# A file that was being written: Hadoop's and delta-rs's commits, and files of the object store beneath delta-rs.
_UNFINISHED = re.compile(r".+\.tmp(\.crc)?|.+#\d+")
# Folders and marks of the committers that Spark uses for plain Parquet; Delta has its own.
_COMMITTER = re.compile(r"_temporary|\.spark-staging-.+|_(started|committed)_\d+")
# Hadoop's checksum of a file, and Delta's of a version.
_CHECKSUM, _VERSION_CHECKSUM = re.compile(r"\.(.+)\.crc"), re.compile(r"(\d{20})\.crc")


def litter(root: str, before: float) -> list[Path]:
    """Files that no commit names and no reader reads, last changed before an instant (seconds since 1970)."""
    found = []
    for folder, _, names in os.walk(root):
        of_committer = any(_COMMITTER.fullmatch(part) for part in Path(folder).relative_to(root).parts)
        found += [
            Path(folder, name)
            for name in names
            if (of_committer or _is_litter(name, set(names), in_log=Path(folder).name == _LOG))
        ]
    return [path for path in found if _is_older(path, before)]


def remove_empty_folders(root: str, before: float, emptied: Iterable[Path] = ()) -> None:
    """Removes folders without files, such as those of partitions that left.

    Args:
        root: the table's folder, which stays, as its log does.
        before: folders changed at or after this instant (seconds since 1970) stay: a writer may just have made them.
        emptied: folders that the caller took files from, which may go at once.
    """
    emptied = set(emptied)
    for folder, _, _ in os.walk(root, topdown=False):
        path = Path(folder)
        if path == Path(root) or path.name == _LOG or any(path.iterdir()):
            continue
        if path in emptied or _is_older(path, before):
            path.rmdir()
            emptied.add(path.parent)


def _is_litter(name: str, beside: set[str], *, in_log: bool) -> bool:
    if _UNFINISHED.fullmatch(name) or _COMMITTER.fullmatch(name):
        return True
    if checksum := _CHECKSUM.fullmatch(name):
        return checksum[1] not in beside
    version = _VERSION_CHECKSUM.fullmatch(name) if in_log else None
    return version is not None and f"{version[1]}.json" not in beside


def _is_older(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:
        # Its writer has finished it meanwhile.
        return False
