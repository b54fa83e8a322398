"""Describes the machine and the versions that a result was measured with."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def machine(*packages: str) -> dict[str, str]:
    """Return descriptions of the machine, the versions of these packages and the product's commit."""
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = re.findall(r"model name\s*: (.+)", information) or ["unknown processor"]
    return {
        "machine": f"{models[0]}, {len(os.sched_getaffinity(0))} cores, {memory_bytes() / 2**30:.0f} GiB of memory",
        "packages": ", ".join(f"{name} {version(name)}" for name in packages),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "lbsf", "jobs") else ""),
    }


def memory_bytes() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _git(*arguments: str) -> str:
    """Return the output of a git command; empty outside a repository, or without git."""
    try:
        done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
