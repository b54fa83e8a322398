"""Parquet files of the examples table, made without Spark, for tests of reading and training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fold_rows import FOLD, MODEL, Row, arrow, fold_row, payment

from lbsf.config import load_config
from lbsf.config.models import TrainingConfig
from lbsf.training.plan import Split, TrainingPlan


def labelled_rows(users: int, seed: int) -> list[Row]:
    """Users whose risk shows in what they buy: defaulters pay large amounts at category 3."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        label = int(rng.random() < 0.3)
        merchants = {
            f"m{m}": [
                payment(
                    float(rng.uniform(0.1, 179)),
                    int(rng.lognormal(8 + label, 0.5)),
                    category=3 if label and rng.random() < 0.5 else int(rng.integers(1, 10)),
                )
                for _ in range(rng.integers(1, 4))
            ]
            for m in range(rng.integers(1, 5))
        }
        # The amount that only this user has, so that a test can tell who was read.
        merchants["mark"] = [payment(1.0, 10_000_000 + user)]
        rows.append({**fold_row(f"u{user:05d}", merchants), "label": label})
    return rows


def write_examples(path: Path, rows: list[Row], row_group_rows: int) -> str:
    """One file, its rows cut into row groups."""
    table = arrow(rows).append_column("label", pa.array([row["label"] for row in rows], pa.int32()))
    pq.write_table(table, path, row_group_size=row_group_rows)
    return str(path)


def training_plan(folder: Path, users: int = 256, **training: object) -> TrainingPlan:
    """A small run over fresh files in `folder`."""
    base = load_config("conf/local.yaml").training
    settings = {
        "epochs": 2,
        "batch_users": 16,
        "shuffle_row_groups": 2,
        "learning_rate": 0.01,
        # So few steps have little to average.
        "average_steps": 4,
        "teacher_share": 0.0,
        **training,
    }
    splits = {}
    for seed, (name, share) in enumerate({"train": 1.0, "validation": 0.5, "out_of_time": 0.5}.items()):
        rows = labelled_rows(int(users * share), seed)
        path = write_examples(folder / f"{name}.parquet", rows, row_group_rows=20)
        splits[name] = Split(files=(path,), users=len(rows))
    return TrainingPlan(
        model=MODEL,
        fold=FOLD,
        training=TrainingConfig(**{**base.model_dump(), **settings}),
        splits=splits,
        output=str(folder / "output"),
    )
