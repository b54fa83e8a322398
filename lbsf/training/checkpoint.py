"""Checkpoints of a training run: one safetensors file, with everything but the tensors as JSON in its header.

Nothing is pickled. The state of random generators is not saved: they are seeded at each step from the seed, the step
and the rank, and the order of the users depends only on the seed and the epoch.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lbsf.errors import InputError
from lbsf.models.artifact import require_finite
from lbsf.training.plan import TrainingPlan
from lbsf.training.run_folder import RunFolder

FORMAT = "lbsf-checkpoint-3"
_PARTS = ("model", "optimizer", "averaged", "best")

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Attributes:
        epoch: number of finished epochs.
        step: steps done in the current epoch.
        ranks: number of ranks that did these steps.
        loss: mean loss over these steps and ranks.
        best_epoch: the epoch with the best validation score, from 0; -1: no epoch is finished.
        best_score: its validation AUC, or its negative validation loss in pretraining; None: no epoch is finished.
    """

    epoch: int = 0
    step: int = 0
    ranks: int = 0
    loss: float = 0.0
    best_epoch: int = -1
    best_score: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """The state from which a run resumes: progress, model, optimizer, averaged model and the best epoch's weights."""

    progress: Progress
    model: Tensors
    optimizer: Tensors
    averaged: Tensors
    best: Tensors


def save_checkpoint(folder: Path, checkpoint: Checkpoint, plan: TrainingPlan) -> None:
    """Replace the folder's checkpoint atomically: a reader finds either the old or the new one, never a part."""
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().contiguous()
        for part in _PARTS
        for name, tensor in getattr(checkpoint, part).items()
    }
    header = {
        "format": FORMAT,
        "progress": json.dumps(asdict(checkpoint.progress)),
        "plan": json.dumps(plan.determining()),
    }
    header["sha256"] = _digest(header, tensors)
    path = RunFolder(folder).checkpoint
    # A unique name, because the ranks of a killed run may still be ending.
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{path.name}.", delete=False) as file:
        try:
            file.write(save(tensors, header))
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink()
            raise
    # Without fsync of the folder, a crash of the machine could lose the new name.
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def load_checkpoint(folder: Path, plan: TrainingPlan) -> Checkpoint | None:
    """Read the folder's checkpoint to the CPU; return None if there is none.

    Raises:
        InputError: it cannot be read, is damaged, or belongs to another plan (another network, other data or settings).
    """
    path = RunFolder(folder).checkpoint
    if not path.exists():
        return None
    remedy = "train with --fresh, or move the file away"
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise InputError(f"{path}: no checkpoint of this version of the product: {remedy}")
            differences = list(_differences(json.loads(header["plan"]), plan.determining()))
            if differences:
                raise InputError(f"{path}: a checkpoint of another run ({'; '.join(differences[:3])}): {remedy}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
            recorded = header.pop("sha256")
            if _digest(header, tensors) != recorded:
                raise InputError(f"{path}: a damaged checkpoint, its SHA-256 is not the recorded one: {remedy}")
            require_finite(tensors, f"{path}: {remedy}")
            parts: dict[str, Tensors] = {part: {} for part in _PARTS}
            for key, tensor in tensors.items():
                part, _, name = key.partition(".")
                parts[part][name] = tensor
            return Checkpoint(progress=Progress(**json.loads(header["progress"])), **parts)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: no readable checkpoint ({' '.join(str(error).split())[:200]}): {remedy}") from None


def _digest(header: Mapping[str, str], tensors: Tensors) -> str:
    """Return the SHA-256 of a checkpoint: its header, and the name, dtype, shape and bytes of each tensor."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _differences(there: Any, here: Any, key: str = "") -> Iterator[str]:
    """Yield a phrase for each setting that differs."""
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted(there.keys() | here.keys()):
            yield from _differences(there.get(name), here.get(name), f"{key}.{name}".lstrip("."))
    elif isinstance(there, list) and isinstance(here, list) and there != here:
        yield f"{key} differ"
    elif there != here:
        yield f"{key} is {there} there, {here} here"
