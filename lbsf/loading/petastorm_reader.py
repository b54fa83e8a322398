"""Petastorm: row groups of Delta's files, sharded by rank, packed in its reader thread.

Petastorm's batch reader knows flat columns and equal-length lists only. So its TransformSpec packs a
whole row group in the worker, each column to one run of bytes, and the run is cut again on the other side.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from lbsf.errors import InputError
from lbsf.loading.packed import LIST_COLUMNS, SECONDS_PER_DAY, PackedFolds

# Petastorm's threads announce its use of deprecated PyArrow calls at every row group.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\b")
warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"petastorm\b")

from petastorm import TransformSpec, make_batch_reader  # noqa: E402

logging.getLogger("petastorm").setLevel(logging.ERROR)

_PACKED = ("as_of", "label", "merchant_count", *LIST_COLUMNS)


def read_row_groups(
    files: Sequence[str], *, shard: int, shards: int, epochs: int | None = 1, seed: int | None = None
) -> Iterator[PackedFolds]:
    """Reads this shard's row groups of the examples table, one PackedFolds each.

    Args:
        files: local paths of Parquet files.
        shard: which shard, from 0: row group i belongs to shard i % shards.
        shards: number of shards.
        epochs: how often the shard is read; None: without end.
        seed: shuffles the order of row groups, anew each epoch; None: the files' order.

    Raises:
        InputError: there are fewer row groups than shards.
    """
    require_row_groups(files, shards)
    reader = make_batch_reader(
        [f"file://{path}" for path in files],
        schema_fields=["as_of", "label", *LIST_COLUMNS],
        # One worker keeps the order of row groups, and so the training run, the same each time.
        reader_pool_type="thread",
        workers_count=1,
        results_queue_size=4,
        shuffle_row_groups=seed is not None,
        seed=seed,
        cur_shard=shard,
        shard_count=shards,
        num_epochs=epochs,
        transform_spec=TransformSpec(
            _pack,
            edit_fields=[(name, np.bytes_, (), False) for name in _PACKED],
            selected_fields=list(_PACKED),
        ),
    )
    # Stopped by hand: leaving the reader's own context prints a line to standard output each time.
    try:
        for row_group in reader:
            yield _unpack(row_group)
    finally:
        reader.stop()
        reader.join()


def require_row_groups(files: Sequence[str], ranks: int) -> None:
    """Raises InputError where there are fewer row groups than ranks: each rank trains on its own."""
    groups = count_row_groups(files)
    if groups < ranks:
        raise InputError(
            f"{groups} row groups cannot be shared among {ranks} ranks: "
            "build the examples with a smaller fold.row_group_users, or train with fewer ranks"
        )


def count_row_groups(files: Sequence[str]) -> int:
    """Row groups of all files together, from their footers."""
    return sum(pq.read_metadata(path).num_row_groups for path in files)


def train_batches(
    files: Sequence[str], *, shard: int, shards: int, batch_users: int, buffer_row_groups: int, seed: int
) -> Generator[PackedFolds, None, None]:
    """Endless shuffled batches of this shard.

    Row groups arrive in shuffled order; `buffer_row_groups` of them at a time are mixed user by user.
    """
    rng = np.random.default_rng([seed, shard])
    held: list[PackedFolds] = []
    arrived = 0
    for row_group in read_row_groups(files, shard=shard, shards=shards, epochs=None, seed=seed):
        held.append(row_group)
        arrived += 1
        if arrived < buffer_row_groups:
            continue
        mixed = PackedFolds.concat(held)
        order = rng.permutation(len(mixed))
        whole = len(order) - len(order) % batch_users
        for start in range(0, whole, batch_users):
            yield mixed.take(order[start : start + batch_users])
        # What does not fill a batch is mixed with the row groups that come next.
        held, arrived = ([mixed.take(order[whole:])] if whole < len(order) else []), 0


def every_user_once(files: Sequence[str], *, shard: int, shards: int, batch_users: int) -> Iterator[PackedFolds]:
    """Batches that hold each user of this shard exactly once, in the files' order.

    Where there are fewer row groups than shards, the last shards are empty.
    """
    shards = min(shards, count_row_groups(files))
    if shard >= shards:
        return
    for row_group in read_row_groups(files, shard=shard, shards=shards):
        for start in range(0, len(row_group), batch_users):
            yield row_group.take(np.arange(start, min(start + batch_users, len(row_group))))


def _pack(rows: pd.DataFrame) -> pd.DataFrame:
    """One row group as one row of bytes."""
    packed = {
        "as_of": rows["as_of"].to_numpy().astype("datetime64[D]").astype(np.int64) * SECONDS_PER_DAY,
        "label": rows["label"].to_numpy(np.int64),
        "merchant_count": rows["merchant_len"].map(len).to_numpy(np.int64),
        **{name: np.concatenate(rows[name].to_list()).astype(np.int64) for name in LIST_COLUMNS},
    }
    return pd.DataFrame({name: [values.tobytes()] for name, values in packed.items()})


def _unpack(row_group: Any) -> PackedFolds:
    columns = {name: np.frombuffer(getattr(row_group, name)[0], np.int64) for name in _PACKED}
    packed = PackedFolds(**columns)
    packed.check()
    return packed
