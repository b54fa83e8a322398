"""Files other than data files that killed writers (Spark, delta-rs, this product's tasks) leave in a table's folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

_LOG = "_delta_log"
# Unfinished files: commits of Hadoop and delta-rs, and files of the object store below delta-rs.
_UNFINISHED = re.compile(r".+\.tmp(\.crc)?|.+#\d+")
# Folders and marker files of the committers that Spark uses for plain Parquet; Delta has its own.
_COMMITTER = re.compile(r"_temporary|\.spark-staging-.+|_(started|committed)_\d+")
# Hadoop's checksum of a file, and Delta's of a version.
_CHECKSUM, _VERSION_CHECKSUM = re.compile(r"\.(.+)\.crc"), re.compile(r"(\d{20})\.crc")


def litter(root: str, before: float) -> list[Path]:
    """Return leftover files, which no commit names and no reader reads, last modified before a Unix time (seconds)."""
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
    """Remove empty folders, such as those of removed partitions.

    Args:
        root: the table's folder; it and its log are kept.
        before: Unix time in seconds; folders modified then or later are kept, as a writer may just have created them.
        emptied: folders from which the caller removed files; they are removed whatever their age.
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
        # Its writer has finished meanwhile.
        return False
