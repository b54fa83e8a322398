"""The experiment's data: a warehouse that the product's own jobs make of simulated payments."""

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
        splits: of the examples table; `train` is the usual number of users, whose labels are read.
        every_train: all of the training split, from which more or fewer are drawn.
        reachable: the true probabilities of the users out of time, in the files' order: the best that can be reached.
    """

    root: Path
    splits: dict[str, Split]
    every_train: Split
    reachable: NDArray[np.float64]


def prepare(conf: str, overrides: list[str], config: Config, labels: int) -> Data:
    """The examples of this configuration, made now where they are not there yet.

    Args:
        conf, overrides: what the configuration was loaded from.
        config: it.
        labels: usual number of training users with labels; all where they are fewer.
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
    """The examples that were made below `root`, with the usual number of labels."""
    # Ranks read the files by address, which a relative path is not.
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
    """A training split of so many users, drawn anew for each seed; smaller draws are part of larger ones.

    Args:
        data: what to draw from.
        labels: users to draw.
        seed: of the draw.
        times: how often each of them is in the split.
    """
    repeated = f"x{times}" if times > 1 else ""
    path = data.root / "experiment" / f"train-{labels}{repeated}-seed{seed}.parquet"
    if not path.exists():
        every = pa.concat_tables([pq.read_table(file, partitioning=None) for file in data.every_train.files])
        chosen = np.sort(np.random.default_rng(seed).permutation(every.num_rows)[:labels])
        # Cells that are trained at the same time may draw the same users at the same time.
        written = path.with_suffix(f".{threading.get_ident()}.new")
        pq.write_table(every.take(np.tile(chosen, times)), written, row_group_size=min(ROW_GROUP, labels // 2))
        written.rename(path)
    return Split(files=(str(path),), users=pq.read_metadata(path).num_rows)
