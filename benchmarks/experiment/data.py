"""The experiment's data: a warehouse that the product's jobs make from simulated payments."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from numpy.typing import NDArray

from lbsf.config.models import Config
from lbsf.schemas import EXAMPLES, SYNTHETIC_TRUTH
from lbsf.tables.log import snapshot_files
from lbsf.training.plan import Split

PROJECT = Path(__file__).resolve().parents[2]
JOBS = (
    ("generate_payments",),
    ("ingest_payments", "--source", "conf/sources/synthetic_payments.yaml"),
    ("ingest_labels", "--source", "conf/sources/synthetic_labels.yaml"),
    ("build_examples",),
)
ROW_GROUP = 256


class Data(NamedTuple):
    """Examples on disk.

    Attributes:
        root: storage.root.
        splits: of the examples table; `train` is reduced to the usual number of users.
        every_train: the whole training split, from which other numbers of users are drawn.
        reachable: (n,) true probabilities of the out-of-time users, in the files' order; they have the best reachable
            AUC.
    """

    root: Path
    splits: dict[str, Split]
    every_train: Split
    reachable: NDArray[np.float64]


def prepare(conf: str, overrides: list[str], config: Config, labels: int) -> Data:
    """Return the examples of a configuration; make them if they do not exist.

    Args:
        conf, overrides: file and values that the configuration was loaded from.
        config: the configuration.
        labels: usual number of training users with labels; all if there are fewer.

    Raises:
        SystemExit: storage.root has data that were made with other settings.
    """
    root = Path(config.storage.root)
    made = root / "experiment" / "made_from.json"
    wanted = {name: getattr(config, name).model_dump(mode="json") for name in ("synthetic", "fold", "examples")}
    if not made.exists() or json.loads(made.read_text(encoding="utf-8")) != wanted:
        if root.exists() and any(root.iterdir()):
            raise SystemExit(f"{root} was made with other settings: remove it, or take another storage.root")
        for job, *arguments in JOBS:
            sets = [part for override in overrides for part in ("--set", override)]
            command = [sys.executable, f"jobs/{job}.py", "--conf", conf, *sets, *arguments]
            subprocess.run(command, cwd=PROJECT, check=True)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(json.dumps(wanted), encoding="utf-8")
    return read(root, labels)


def read(root: Path, labels: int) -> Data:
    """Read the examples that were made below `root`, with the usual number of labels."""
    # Ranks read the files by file:// URLs, which need absolute paths.
    root = root.resolve()
    found: dict[str, list[tuple[str, int]]] = {}
    for file in snapshot_files(str(root / "tables" / EXAMPLES.name)):
        if file.rows:
            found.setdefault(str(file.partition["split"]), []).append((file.path, file.rows))
    splits = {
        name: Split(files=tuple(path for path, _ in sorted(of)), users=sum(rows for _, rows in of))
        for name, of in sorted(found.items())
    }
    users = [pq.read_table(path, columns=["user_id"], partitioning=None) for path in splits["out_of_time"].files]
    truth = pl.DataFrame(DeltaTable(str(root / "tables" / SYNTHETIC_TRUTH.name)).to_pyarrow_table())
    joined = pl.DataFrame(pa.concat_tables(users)).join(truth, on="user_id", how="left", maintain_order="left")
    data = Data(root, splits, splits["train"], joined["default_probability"].to_numpy())
    usual = fewer_labels(data, min(labels, data.every_train.users), seed=0)
    return data._replace(splits={**splits, "train": usual})


def fewer_labels(data: Data, labels: int, seed: int, times: int = 1) -> Split:
    """Draw a training split with the given number of users; with one seed, smaller draws are subsets of larger ones.

    Args:
        data: the examples to draw from.
        labels: number of users to draw.
        seed: of the draw.
        times: how often each user is repeated in the split.
    """
    repeated = f"x{times}" if times > 1 else ""
    path = data.root / "experiment" / f"train-{labels}{repeated}-seed{seed}.parquet"
    if not path.exists():
        every = pa.concat_tables([pq.read_table(file, partitioning=None) for file in data.every_train.files])
        chosen = np.sort(np.random.default_rng(seed).permutation(every.num_rows)[:labels])
        # Cells trained at the same time may write the same file, so each writes its own and renames it.
        written = path.with_suffix(f".{threading.get_ident()}.new")
        pq.write_table(every.take(np.tile(chosen, times)), written, row_group_size=min(ROW_GROUP, labels // 2))
        written.rename(path)
    return Split(files=(str(path),), users=pq.read_metadata(path).num_rows)
