"""Checks of the example files before training, and the class weight computed from them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from lbsf.errors import InputError
from lbsf.parquet import read_metadata, read_parquet
from lbsf.training.plan import TrainingPlan

# A Parquet file ends with its footer, the footer's length (4 bytes) and the magic number (4 bytes).
_TAIL = 8


def data_digest(plan: TrainingPlan) -> str:
    """Return the SHA-256 of every file's size and footer, as this rank sees them, and of the teacher's files.

    A footer contains the number of rows and, for each column of each row group, its position, size and statistics.
    Changed data is therefore detected without reading the data.

    Raises:
        InputError: a file is missing or not a Parquet file, or a split has more or fewer users than planned.
    """
    seen = hashlib.sha256()
    for name, split in sorted(plan.splits.items()):
        users = 0
        for path in split.files:
            try:
                users += read_metadata(path).num_rows
                seen.update(_footer(Path(path)))
            except (OSError, ValueError) as error:
                raise InputError(f"split {name}: {path} cannot be read: {' '.join(str(error).split())}") from None
        if users != split.users:
            raise InputError(
                f"split {name}: its files hold {users:,} users, {split.users:,} were planned: "
                "the files changed during the run; train again"
            )
        if split.teacher is not None:
            try:
                seen.update(Path(split.teacher).read_bytes())
            except OSError as error:
                raise InputError(f"split {name}: {split.teacher} cannot be read: {error.strerror}") from None
    return seen.hexdigest()


def _footer(path: Path) -> bytes:
    """Return a Parquet file's size (8 bytes) and its content from the beginning of the footer."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(size - _TAIL)
        length = int.from_bytes(file.read(4), "little")
        file.seek(size - _TAIL - length)
        return size.to_bytes(8, "little") + file.read()


def positive_weight(plan: TrainingPlan) -> float | None:
    """Return the weight of a defaulter in the loss; None: 1, as for everyone else.

    Raises:
        InputError: the setting is `balanced`, and all training labels are of one class.
    """
    weight = plan.training.positive_weight
    if weight != "balanced":
        return weight
    files = plan.splits["train"].files
    labels = np.concatenate([read_parquet(path, ["label"])["label"] for path in files])
    positives = int(labels.sum())
    if positives in (0, len(labels)):
        raise InputError("training.positive_weight: balanced needs training labels of both classes")
    return (len(labels) - positives) / positives
