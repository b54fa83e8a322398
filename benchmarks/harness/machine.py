"""Where a result was measured."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def machine(*packages: str) -> dict[str, str]:
    """Return the machine, the versions of these packages and the product's commit, in words."""
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = re.findall(r"model name\s*: (.+)", information) or ["unknown processor"]
    return {
        "machine": f"{models[0]}, {len(os.sched_getaffinity(0))} cores, {memory_bytes() / 2**30:.0f} GiB of memory",
        "packages": ", ".join(f"{name} {version(name)}" for name in packages),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "lbsf", "jobs") else ""),
    }


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _git(*arguments: str) -> str:
    """What git prints; nothing where this is no repository."""
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
