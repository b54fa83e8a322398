"""What made a model beside its data: the code, the machine, the packages, the rows of each split."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import lbsf
from lbsf.config.models import Config
from lbsf.damaged import reading
from lbsf.parquet import read_parquet

# What tells one example from another: whose, as of when, with what outcome, and how much was folded of what spec.
_IDENTITY = ("user_id", "as_of", "label", "fold_spec", "payments_kept", "merchants_kept", "cents")
_SECRET = re.compile(r"key|secret|password|token|credential|sas", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


def split_hash(files: Sequence[str]) -> str:
    """SHA-256 of the rows of a split, whatever files they stand in and in whatever order.

    Each row becomes 64 bits from every column of _IDENTITY (texts by pandas' fixed SipHash); the sorted rows
    are hashed. So equal hashes mean the same users with the same labels and folds of the same size, and
    examples that are built again from the same tables keep their hash. No id can be read from it.

    Args:
        files: Parquet files of the examples table.
    """
    parts = []
    for path in files:
        with reading(path):
            parts.append(read_parquet(path, _IDENTITY).to_pandas())
    rows = pd.concat(parts, ignore_index=True)
    rows["as_of"] = rows["as_of"].astype(str)
    columns = [pd.util.hash_array(rows[name].to_numpy(), categorize=True) for name in _IDENTITY]
    order = np.lexsort(columns)
    return hashlib.sha256(np.stack(columns, axis=1)[order].astype("<u8").tobytes()).hexdigest()


def code_state() -> dict[str, str]:
    """`git_commit` and `git_dirty` of the code that runs.

    git_dirty is `yes` where tracked files differ from the commit or new ones are not ignored. Both are
    `unknown` where there is no repository or no git, as on a cluster that runs the wheel.
    """
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    if not commit or changes is None:
        return {"git_commit": "unknown", "git_dirty": "unknown"}
    return {"git_commit": commit, "git_dirty": "yes" if changes else "no"}


def environment() -> dict[str, Any]:
    """Python, packages, processor and GPUs of the machine that asks; the other ranks' machines are not asked."""
    # Each look at `metadata` parses the package's file anew.
    described = [distribution.metadata for distribution in importlib.metadata.distributions()]
    packages = {str(of["Name"]): str(of["Version"]) for of in described if of["Name"]}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def public_configuration(config: Config) -> dict[str, Any]:
    """The whole configuration as plain values, without what may be secret.

    Left out are the values of Spark settings whose name speaks of a key, secret, password, token or
    credential, and user and password in any URI.
    """
    values = config.model_dump(mode="json")
    settings = values["spark"]["settings"]
    values["spark"]["settings"] = {k: "(left out)" if _SECRET.search(k) else v for k, v in settings.items()}
    return {section: {key: _public(value) for key, value in of.items()} for section, of in values.items()}


def _public(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _public(one) for key, one in value.items()}
    return _USER_INFO.sub("", value) if isinstance(value, str) else value


def _git(*arguments: str) -> str | None:
    """What git says of the repository that holds the code; None where it says nothing of it."""
    command = ["git", "-C", str(Path(lbsf.__file__).parent), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def _processor() -> str:
    """The processor's name; Linux tells it in /proc/cpuinfo alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
