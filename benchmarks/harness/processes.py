"""One process and its children, watched: memory, temporary files, limits."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

SAMPLE_SECONDS = 0.1
DISK_SECONDS = 1.0
# What a process says of itself when memory ended: the JVM, Python, DuckDB, Rust.
_OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError", "Out of Memory Error", "memory allocation of", "malloc of size")


class Limits(NamedTuple):
    """What ends a process.

    Attributes:
        seconds: wall time, start of the process included.
        memory: bytes of the whole tree.
        free_disk: bytes that must stay free.
    """

    seconds: float
    memory: int
    free_disk: int = 2 * 2**30


class Watched(NamedTuple):
    """How a process ended.

    Attributes:
        status: `ok`, `out of memory`, `time limit`, `disk full` or `failed`.
        peak_memory: most bytes of resident memory of the whole tree, shared pages counted once a process.
        peak_temp: most bytes of temporary files.
    """

    status: str
    peak_memory: int
    peak_temp: int


def watch(
    command: Sequence[str], *, temp: Path, log: Path, env: Mapping[str, str], cwd: Path, limits: Limits
) -> Watched:
    """Runs a command to its end, or to a limit."""
    started = time.monotonic()
    peak_memory = peak_temp = 0
    next_look = started
    status, code = "", None
    with log.open("wb") as output:
        process = psutil.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **env}, cwd=cwd)
    members = {process}
    try:
        while code is None and not status:
            members.update(_tree(process))
            memory = sum(_memory(member) for member in members)
            peak_memory = max(peak_memory, memory)
            if time.monotonic() > next_look:
                peak_temp, next_look = max(peak_temp, size_of(temp)), time.monotonic() + DISK_SECONDS
            status = _exceeded(limits, time.monotonic() - started, memory, temp)
            code = _ended(process)
    finally:
        # A JVM may outlive the Python that started it, and would disturb the next run.
        for member in members:
            _kill(member)
        psutil.wait_procs(list(members))
    if not status and code:
        said = log.read_text(encoding="utf-8", errors="replace")
        full = code == -9 or any(words in said for words in _OUT_OF_MEMORY)
        status = "out of memory" if full else "failed"
    return Watched(status or "ok", peak_memory, peak_temp)


def size_of(folder: Path) -> int:
    """Bytes of all files of a folder."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).stat().st_size
            except FileNotFoundError:  # Temporary files come and go.
                continue
    return total


def _exceeded(limits: Limits, seconds: float, memory: int, temp: Path) -> str:
    if memory > limits.memory:
        return "out of memory"
    if seconds > limits.seconds:
        return "time limit"
    return "disk full" if shutil.disk_usage(temp).free < limits.free_disk else ""


def _ended(process: psutil.Popen) -> int | None:
    """The exit code, or None after a while in which the process went on."""
    try:
        return int(process.wait(timeout=SAMPLE_SECONDS))
    except psutil.TimeoutExpired:
        return None


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
