"""Faults made on purpose: damaged files, a full disk, a read-only one, a run that dies between two commits."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lbsf.schemas import TableSchema
from lbsf.tables import Warehouse

DAMAGES = ("missing", "empty", "cut", "garbled")


def damage(path: str | Path, how: str) -> Path:
    """Damages a Parquet file in one of DAMAGES; only `garbled` leaves its size and its ends as they were."""
    file = Path(path)
    content = file.read_bytes()
    # Hadoop's checksum would tell before the reader does.
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
    if how == "missing":
        file.unlink()
    elif how == "garbled":
        file.write_bytes(content[:4] + bytes(255 - byte for byte in content[4:-8]) + content[-8:])
    else:
        file.write_bytes({"empty": b"", "cut": content[: len(content) // 2]}[how])
    return file


@contextmanager
def small_disk(folder: Path, mebibytes: int = 16) -> Iterator[Path]:
    """A file system of its own at `folder`; the test is skipped where this user may not mount one."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> Path:
    """Leaves no space on a small disk; the file that takes it."""
    file = disk / "filler"
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(4096))
        except OSError:
            return file


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Within it, nothing can be written to a small disk."""
    subprocess.run(["mount", "--bind", disk, disk], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


class DiedError(BaseException):
    """Stands for a kill: nothing of the product catches it."""


def die_before(monkeypatch: pytest.MonkeyPatch, table: TableSchema) -> None:
    """From now on a run ends where it would write `table`; `monkeypatch.undo` ends that."""

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def write(warehouse: Warehouse, of: TableSchema, *arguments: Any, **named: Any) -> Any:
            if of.name == table.name:
                raise DiedError
            return real(warehouse, of, *arguments, **named)

        return write

    for name in ("insert_new", "replace_part", "overwrite"):
        monkeypatch.setattr(Warehouse, name, dying(getattr(Warehouse, name)))
