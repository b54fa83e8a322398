"""Storage errors as one-line messages: which file of which table, what is wrong with it, and how to fix it.

Spark, PyArrow and Delta each report a full disk, a missing file or a concurrent writer in their own way, often as a
long traceback. The user can fix all of these, so a job reports them in one line.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

import pyarrow as pa
from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    DeltaConcurrentModificationException,
    MetadataChangedException,
    ProtocolChangedException,
)
from deltalake.exceptions import CommitFailedError, DeltaError
from py4j.protocol import Py4JJavaError, Py4JNetworkError
from pyspark.errors import PySparkException

from lbsf.damaged import UNREADABLE, damaged
from lbsf.parquet import read_metadata

# Exceptions of concurrent writers. In Python they share no base class.
CONFLICTS = (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    DeltaConcurrentModificationException,
    MetadataChangedException,
    ProtocolChangedException,
)
_OF_STORAGE = (Py4JJavaError, PySparkException, OSError, pa.ArrowException, DeltaError)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|File too large")
_NO_ACCESS = re.compile(r"Read-only file system|Permission denied|Operation not permitted")
# Delta does not say why it could not create the log's folder.
_NO_LOG_FOLDER = re.compile(r"\[DELTA_CANNOT_CREATE_LOG_PATH\] Cannot create (?:file:)?(?P<path>\S+)")
# Messages of Spark and Hadoop about a missing or unreadable file.
_UNREADABLE = re.compile(
    r"does not exist|FileNotFound|is not a Parquet file|reading file|ChecksumException|Could not read footer"
)


def conflict(table: str) -> str:
    """Return the message for a write that conflicts with another job's write."""
    return f"table {table}: another job wrote the table meanwhile; run this again"


def explain(error: BaseException, root: str) -> str | None:
    """Return the message for a storage error.

    Args:
        error: the exception raised.
        root: `storage.root` as a local path.

    Returns:
        What is wrong, where, and how to fix it; None if it is not a storage error.
    """
    for text in _texts(error):
        if _NO_SPACE.search(text):
            return _no_space(root)
        if found := _NO_LOG_FOLDER.search(text):
            return _no_access(found["path"], "its folder cannot be made")
        if found := _NO_ACCESS.search(text):
            return _no_access(_path_near(text, found) or root, found[0])
    return _damaged_file(error, root)


def _damaged_file(error: BaseException, root: str) -> str | None:
    """Return the message for a table's file that is missing or unreadable; None if the error is about no such file."""
    names = {f"{root}/tables", quote(f"{root}/tables"), f"{root}/tables".removeprefix("/dbfs")}
    path = re.compile(rf"(?:{'|'.join(map(re.escape, names))})/(?P<table>\w+)/(?P<file>[^\s'\"]+\.parquet)")
    for text in _texts(error):
        found = path.search(text)
        if found and _UNREADABLE.search(text):
            table = Path(root, "tables", found["table"])
            # Spark percent-encodes characters that a URI does not allow.
            for file in (table / found["file"], table / unquote(found["file"])):
                if file.exists():
                    return damaged(str(file), f"cannot be read ({_reason(text)})")
            return damaged(str(table / found["file"]), "is missing")
    # Spark does not name a file whose footer it cannot read, so the tables' files are tried one by one.
    reason = next((_reason(text) for text in _texts(error) if "org.apache.parquet" in text), None)
    unreadable = None if reason is None else _first_unreadable(Path(root, "tables"))
    return None if unreadable is None else damaged(str(unreadable), f"cannot be read ({reason})")


def _first_unreadable(tables: Path) -> Path | None:
    """Return the first Parquet file whose footer cannot be read."""
    for file in sorted(tables.rglob("*.parquet")):
        try:
            read_metadata(file)
        except UNREADABLE:
            return file
    return None


def is_conflict(error: BaseException) -> bool:
    """Return whether a deltalake error means that another writer committed first."""
    return isinstance(error, CommitFailedError) or "already exists at that location" in str(error)


def _texts(error: BaseException) -> Iterator[str]:
    """Yield the text of each storage error in the chain of causes, with the JVM's stack trace."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, _OF_STORAGE):
            with suppress(Py4JNetworkError, OSError):  # The JVM holds the text and may have ended.
                yield f"{current}\n{getattr(current, '_stackTrace', None) or ''}"
        current = current.__cause__ or current.__context__


def _no_space(root: str) -> str:
    folders = (("storage.root", root), ("temporary files", tempfile.gettempdir()))
    free = ", ".join(f"{what} {path}: {_free_mib(path):,} MiB free" for what, path in folders)
    return f"no space left on the disk ({free}); free some, then run this again"


def _free_mib(path: str) -> int:
    folder = Path(path)
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free // 2**20


def _no_access(path: str, problem: str) -> str:
    return f"{path}: {problem}; the user who runs the jobs must be able to read and write there"


def _path_near(text: str, cue: re.Match[str]) -> str | None:
    """Return the path right after the cue (`[Errno 13] Permission denied: 'path'`), else the last one before it."""
    behind = re.match(r"[^\n'\"]{0,40}: ['\"](/[^'\"]+)['\"]", text[cue.end() :])
    if behind:
        return behind[1]
    before = re.findall(r"(?<![\w.])/[^\s'\"():#]+", text[max(0, cue.start() - 400) : cue.start()])
    return before[-1] if before else None


def _reason(text: str) -> str:
    """Return the message of the innermost cause."""
    causes = [line for line in text.splitlines() if line.startswith("Caused by: ")]
    last = (causes or text.splitlines())[-1].removeprefix("Caused by: ")
    return " ".join(re.sub(r"^[\w.$]+: ", "", last).split())[:200]
