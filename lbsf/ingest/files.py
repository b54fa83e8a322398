"""The files of one delivery: which are read, which are left aside, and why.

These rules hold for every format but Delta (a Delta table knows its own files):

- A file that the path names exactly is read.
- In a folder or among the matches of a glob, a file is read if its name matches one of the mapping's `files` patterns.
  Without `files`, the name must have one of the format's endings (ENDINGS), compressed or not.
- Partition folders (`day=2025-07-01`) are read. Other subfolders are read where the mapping says `recursive: true`.
- Names that start with `_` or `.` are hidden, as in Spark, and empty files are not read.

All other files are left aside: they never stop a delivery, and the job's summary names them. Hadoop's file systems list
the files, as they do for Spark, so every URI that Spark reads can be listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lbsf.errors import InputError

ENDINGS = {"csv": (".csv", ".tsv"), "json": (".json", ".jsonl", ".ndjson"), "parquet": (".parquet",)}
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4", ".snappy", ".deflate")
# Threads help because calls to the JVM wait for the storage more than for Python.
THREADS = 8

_GLOB = re.compile(r"[{}\[\]*?\\]")
_NAMED = 3


@dataclass(frozen=True)
class SourceFile:
    """One file, or a folder that is left aside.

    Attributes:
        path: URI as Hadoop writes it (`file:/data/a b.csv`).
        size: size in bytes.
        modified_at: time of the last write, UTC.
        partition_root: folder above the first partition folder; None where the file lies in no partition folder.
        partitions: names of the partition columns, outermost first.
        left_aside: why the file is not read; None where it is.
    """

    path: str
    size: int
    modified_at: datetime
    partition_root: str | None = None
    partitions: tuple[str, ...] = ()
    left_aside: str | None = None

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Delivery:
    """The files at one location.

    Attributes:
        location: the requested file, folder, glob or table.
        taken: files to read, sorted by path.
        left_aside: files and folders that are not read, sorted by path.
    """

    location: str
    taken: tuple[SourceFile, ...] = ()
    left_aside: tuple[SourceFile, ...] = ()

    def left_aside_text(self) -> str:
        """Return how many files are left aside and the first names, for a summary line; empty where there are none."""
        if not self.left_aside:
            return ""
        names = [file.name for file in self.left_aside[:_NAMED]]
        return f"{len(self.left_aside)} ({', '.join(names)}{', …' if len(self.left_aside) > _NAMED else ''})"


def list_delivery(
    spark: SparkSession,
    location: str,
    format_name: str,
    *,
    patterns: Sequence[str] | None = None,
    recursive: bool = False,
    base: str | None = None,
) -> Delivery:
    """List the files at `location`.

    Args:
        spark: the session, whose Hadoop configuration reaches the storage.
        location: a file, a folder or a glob, as a path or a URI.
        format_name: csv, json or parquet.
        patterns: globs of the file names to read, in place of the format's endings.
        recursive: whether to read subfolders that are not partition folders.
        base: folder above `location` from which partition folders give columns; None: only those below `location` do.

    Raises:
        InputError: nothing is there, it cannot be listed, or none of its files is to be read.
    """
    lister = _Lister(spark, format_name, patterns, recursive)
    try:
        found = sorted(lister.files(location, base), key=lambda file: file.path)
    except (Py4JJavaError, PySparkException) as error:
        raise InputError(f"{location} cannot be listed: {java_message(error)}") from None
    taken = tuple(file for file in found if file.left_aside is None)
    aside = tuple(file for file in found if file.left_aside is not None)
    if not taken:
        if not aside:
            raise InputError(f"{location} holds no files")
        why = "; ".join(f"{file.name}: {file.left_aside}" for file in aside[:_NAMED])
        raise InputError(f"none of the {len(aside)} files or folders at {location} is taken ({why})")
    return Delivery(location, taken, aside)


def java_message(error: Exception) -> str:
    """Return the first line of an error's text; that of a Java exception includes its class."""
    java = getattr(error, "java_exception", None)
    text = str(java.toString() if java is not None else error)
    return text.strip().splitlines()[0]


def literal_glob(path: str) -> str:
    """Return `path` as a glob that matches only itself, because Spark treats every path as a glob."""
    return _GLOB.sub(lambda match: "\\" + match[0], path)


class _Lister:
    def __init__(self, spark: SparkSession, format_name: str, patterns: Sequence[str] | None, recursive: bool):
        jvm: Any = spark._jvm
        self._path = jvm.org.apache.hadoop.fs.Path
        self._configuration = spark._jsparkSession.sessionState().newHadoopConf()
        self._endings = ENDINGS[format_name]
        # Parquet files are compressed internally, so their names have no second ending.
        self._unpacked = _uncompressed if format_name != "parquet" else str
        self._patterns = patterns
        self._recursive = recursive

    def files(self, location: str, base: str | None) -> Iterator[SourceFile]:
        path = self._path(location)
        self._files = path.getFileSystem(self._configuration)
        is_glob = _GLOB.search(location) is not None
        if is_glob:
            matches = list(self._files.globStatus(path) or ())
        else:
            # globStatus refuses a colon in a folder's name (HADOOP-14217).
            matches = [self._files.getFileStatus(path)] if self._files.exists(path) else []
        if not matches:
            raise InputError(f"there is nothing at {location}")
        above = None if base is None else self._files.makeQualified(self._path(base)).toString()
        with ThreadPoolExecutor(THREADS) as threads:
            folders: list[tuple[Any, str]] = []
            for match in matches:
                if match.isDirectory():
                    folders.append((match.getPath(), above or match.getPath().toString()))
                else:
                    parent = match.getPath().getParent().toString()
                    yield self._file(match, above or parent, exact=not is_glob)
            # One level of folders at a time, because storage answers slowly but takes many requests at once.
            while folders:
                entries = threads.map(lambda folder: self._entries(*folder), folders)
                folders = []
                for files, below in entries:
                    yield from files
                    folders += below

    def _entries(self, folder: Any, base: str) -> tuple[list[SourceFile], list[tuple[Any, str]]]:
        """Return a folder's files, and the folders below it that are to be read."""
        files, below = [], []
        for status in self._files.listStatus(folder):
            if not status.isDirectory():
                file = self._file(status, base, exact=False)
                # Markers and checksums of other programs are not worth reporting.
                if not (_is_hidden(file.name) and not self._fits(file.name)):
                    files.append(file)
                continue
            path = status.getPath()
            name = path.getName()
            if _is_hidden(name):
                continue
            if self._recursive or _partition_column(name):
                below.append((path, base))
            else:
                why = "a subfolder; `recursive: true` in the mapping reads it"
                files.append(SourceFile(path.toString(), 0, _instant(status), left_aside=why))
        return files, below

    def _file(self, status: Any, base: str, *, exact: bool) -> SourceFile:
        path, size = status.getPath().toString(), status.getLen()
        root, columns = _partitions(path, base)
        aside = None
        if _is_hidden(path.rpartition("/")[2]):
            aside = "its name starts with _ or ., which hides it"
        elif not exact and not self._fits(path.rpartition("/")[2]):
            unlike = "matches none of `files`" if self._patterns else f"does not end with {' or '.join(self._endings)}"
            aside = f"its name {unlike}; `files` in the mapping says which names are taken"
        elif size == 0:
            aside = "it is empty"
        return SourceFile(path, size, _instant(status), root, columns, aside)

    def _fits(self, name: str) -> bool:
        if self._patterns:
            return any(fnmatchcase(name, pattern) for pattern in self._patterns)
        return self._unpacked(name).lower().endswith(self._endings)


def _uncompressed(name: str) -> str:
    # Hadoop recognises these endings only in lower case.
    return next((name.removesuffix(ending) for ending in COMPRESSED if name.endswith(ending)), name)


def _is_hidden(name: str) -> bool:
    return (name.startswith("_") and "=" not in name) or name.startswith(".") or name.endswith("._COPYING_")


def _partition_column(folder: str) -> str | None:
    column, equals, value = folder.partition("=")
    return column if column and equals and value else None


def _partitions(path: str, base: str) -> tuple[str | None, tuple[str, ...]]:
    """Return the folder above the first partition folder between `base` and the file, and the partition columns."""
    folders = path.removeprefix(f"{base.rstrip('/')}/").split("/")[:-1]
    columns = [_partition_column(folder) for folder in folders]
    first = next((place for place, column in enumerate(columns) if column), None)
    if first is None:
        return None, ()
    root = "/".join([base.rstrip("/"), *folders[:first]])
    return root, tuple(column for column in columns[first:] if column)


def _instant(status: Any) -> datetime:
    return datetime.fromtimestamp(status.getModificationTime() / 1000, UTC)
