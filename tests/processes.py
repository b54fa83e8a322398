"""Read properties of processes that may end at any moment."""

from __future__ import annotations

from pathlib import Path

import psutil


def command_line(process: psutil.Process) -> list[str]:
    """Return the command line; empty if the process has ended or is a zombie."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # ZombieProcess is a subclass.
        return []


def program(process: psutil.Process) -> str:
    """Return the name of the program; empty if the process has ended."""
    return Path("".join(command_line(process)[:1])).name
