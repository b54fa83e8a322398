"""Drawn examples as files of the examples table, kept for the next run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from benchmarks.train.rows import Shape, draw, write
from lbsf.config import load_config

FILES = 4
HELD_OUT_SHARE = 4


class Dataset(NamedTuple):
    """Where drawn examples lie.

    Attributes:
        root: folder with one folder a split.
        per_user: median payments a user.
        users: of the training split; the others have a quarter as many each.
    """

    root: Path
    per_user: int
    users: int

    def files(self, split: str) -> tuple[str, ...]:
        """A split's Parquet files, in order."""
        return tuple(str(path) for path in sorted((self.root / split).glob("*.parquet")))

    def users_of(self, split: str) -> int:
        """How many users a split has."""
        return self.users if split == "train" else self.users // HELD_OUT_SHARE


def dataset(scratch: Path, per_user: int, users: int) -> Dataset:
    """Draws the examples, where that was not done before."""
    root = scratch / f"examples-{per_user}-{users}"
    made = Dataset(root, per_user, users)
    if root.exists():
        return made
    fold = load_config("conf/base.yaml").fold
    partial = root.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for seed, split in enumerate(("train", "validation", "test")):
        rows = draw(Shape(made.users_of(split), per_user, seed), fold)
        step = -(-rows.num_rows // FILES)
        for number in range(FILES):
            part = rows.slice(number * step, step)
            write(part, partial / split / f"part-{number}.parquet", min(fold.row_group_users, step))
    partial.rename(root)
    return made
