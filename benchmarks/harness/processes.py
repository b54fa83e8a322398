"""Runs a command and monitors its process tree: memory, temporary files, limits."""

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
# Messages of the JVM, Python, DuckDB and Rust when they run out of memory.
_OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError", "Out of Memory Error", "memory allocation of", "malloc of size")


class Limits(NamedTuple):
    """The limits at which a process is ended.

    Attributes:
        seconds: wall time, including the start of the process.
        memory: resident bytes of the whole process tree.
        free_disk: bytes of the disk that must stay free.
    """

    seconds: float
    memory: int
    free_disk: int = 2 * 2**30


class Watched(NamedTuple):
    """How a process ended.

    Attributes:
        status: `ok`, `out of memory`, `time limit`, `disk full` or `failed`.
        peak_memory: maximum of the whole tree's resident memory in bytes; shared pages count once per process.
        peak_temp: maximum of the temporary files' size in bytes.
    """

    status: str
    peak_memory: int
    peak_temp: int


def watch(
    command: Sequence[str], *, temp: Path, log: Path, env: Mapping[str, str], cwd: Path, limits: Limits
) -> Watched:
    """Run a command until it ends or exceeds a limit, and measure it.

    Args:
        command: the program and its arguments.
        temp: folder of temporary files, whose size is measured.
        log: file for standard output and standard error.
        env: variables added to the environment.
        cwd: working directory.
        limits: at which the process is killed.
    """
    started = time.monotonic()
    peak_memory = peak_temp = 0
    next_disk_check = started
    status, code = "", None
    with log.open("wb") as output:
        process = psutil.Popen(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **env}, cwd=cwd)
    members = {process}
    try:
        while code is None and not status:
            members.update(_tree(process))
            memory = sum(_memory(member) for member in members)
            peak_memory = max(peak_memory, memory)
            if time.monotonic() > next_disk_check:
                peak_temp, next_disk_check = max(peak_temp, size_of(temp)), time.monotonic() + DISK_SECONDS
            status = _exceeded(limits, time.monotonic() - started, memory, temp)
            code = _ended(process)
    finally:
        # A JVM may outlive the Python process that started it, and would disturb the next run.
        for member in members:
            _kill(member)
        psutil.wait_procs(list(members))
    if not status and code:
        text = log.read_text(encoding="utf-8", errors="replace")
        full = code == -9 or any(words in text for words in _OUT_OF_MEMORY)
        status = "out of memory" if full else "failed"
    return Watched(status or "ok", peak_memory, peak_temp)


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).stat().st_size
            except FileNotFoundError:  # The file was deleted in the meantime.
                continue
    return total


def _exceeded(limits: Limits, seconds: float, memory: int, temp: Path) -> str:
    if memory > limits.memory:
        return "out of memory"
    if seconds > limits.seconds:
        return "time limit"
    return "disk full" if shutil.disk_usage(temp).free < limits.free_disk else ""


def _ended(process: psutil.Popen) -> int | None:
    """Wait SAMPLE_SECONDS for the process; return its exit code, or None if it still runs."""
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
