"""Looks at processes that may end at any moment."""

from __future__ import annotations

from pathlib import Path

import psutil


def command_line(process: psutil.Process) -> list[str]:
    """What it was started with; nothing of a process that has ended, a zombie too."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # psutil's ZombieProcess is one.
        return []


def program(process: psutil.Process) -> str:
    """The name of its program; empty of a process that has ended."""
    return Path("".join(command_line(process)[:1])).name
