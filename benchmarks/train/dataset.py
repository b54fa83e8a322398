"""Random examples as files of the examples table, kept for the next run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from benchmarks.train.rows import Shape, draw, write
from lbsf.config import load_config

FILES = 4
HELD_OUT_SHARE = 4


class Dataset(NamedTuple):
    """The location of random examples.

    Attributes:
        root: folder with one folder per split.
        per_user: median payments per user.
        users: users of the training split; the other splits have a quarter as many each.
    """

    root: Path
    per_user: int
    users: int

    def files(self, split: str) -> tuple[str, ...]:
        """Return a split's Parquet files, in order."""
        return tuple(str(path) for path in sorted((self.root / split).glob("*.parquet")))

    def users_of(self, split: str) -> int:
        """Return the number of users in a split."""
        return self.users if split == "train" else self.users // HELD_OUT_SHARE


def dataset(scratch: Path, per_user: int, users: int) -> Dataset:
    """Return the examples; generate them if they do not exist."""
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
