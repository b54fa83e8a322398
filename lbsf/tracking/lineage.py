"""Lineage of a model: the code, machine and packages that made it, and a hash of the rows of each split."""

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

# Columns that identify an example: the user, the day, the label, and the spec and size of the fold.
_IDENTITY = ("user_id", "as_of", "label", "fold_spec", "payments_kept", "merchants_kept", "cents")
_SECRET = re.compile(r"key|secret|password|token|credential|sas", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


def split_hash(files: Sequence[str]) -> str:
    """Return the SHA-256 of a split's rows, independent of their order and of how they are divided into files.

    Each column of _IDENTITY gives 64 bits per row (text through pandas' SipHash with a fixed key); the sorted rows are
    hashed. Equal hashes mean the same users with the same labels and folds of the same size. Examples that are built
    again from the same tables keep their hash. User ids cannot be recovered from it.

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
    """Return `git_commit` and `git_dirty` of the running code.

    git_dirty is `yes` if tracked files differ from the commit or there are new files that are not ignored. Both are
    `unknown` if there is no repository or no git, as on a cluster that runs the wheel.
    """
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    if not commit or changes is None:
        return {"git_commit": "unknown", "git_dirty": "unknown"}
    return {"git_commit": commit, "git_dirty": "yes" if changes else "no"}


def environment() -> dict[str, Any]:
    """Return Python, packages, processor and GPUs of this machine; not of the other ranks' machines."""
    # Each access to `metadata` parses the package's file again.
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
    """Return the whole configuration as plain values, without possible secrets.

    It leaves out the values of Spark settings whose name contains key, secret, password, token, credential or sas, and
    the user and password in any URI.
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
    """Run git in the repository of the code and return its output; None if git is missing or fails."""
    command = ["git", "-C", str(Path(lbsf.__file__).parent), *arguments]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def _processor() -> str:
    """Return the processor's name; on Linux only /proc/cpuinfo has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
