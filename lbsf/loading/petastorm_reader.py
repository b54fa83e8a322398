"""Reads row groups of Parquet files with Petastorm, sharded by rank and packed in Petastorm's reader thread.

Petastorm's batch reader supports flat columns and lists of equal length only. A TransformSpec could pack lists of
other lengths, but Petastorm 0.13 first copies the row group row by row and then converts it to a pandas frame, which
takes twice as long as decoding it. The reader therefore uses a worker class of our own, which Petastorm allows:
Petastorm assigns row groups to shards, shuffles them and runs the worker in a thread that reads ahead; the worker
decodes a row group with Arrow and packs it.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.filesystem import FileSystem

from lbsf.errors import InputError
from lbsf.folds.packed import LIST_COLUMNS, Ints, PackedFolds
from lbsf.parquet import footer_source, open_parquet, read_metadata

# Petastorm's threads warn about its use of deprecated PyArrow calls at every row group.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\b")
warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"petastorm\b")

from petastorm.reader import Reader  # noqa: E402
from petastorm.workers_pool import EmptyResultError  # noqa: E402
from petastorm.workers_pool.thread_pool import ThreadPool  # noqa: E402
from petastorm.workers_pool.worker_base import WorkerBase  # noqa: E402

logging.getLogger("petastorm").setLevel(logging.ERROR)

_COLUMNS = ("as_of", "label", *LIST_COLUMNS)
_DAY_FOLDER = re.compile(r"/as_of=(\d{4}-\d{2}-\d{2})/")
# Row groups that the thread packs in advance.
_READ_AHEAD = 4
# Petastorm treats the seed 0 as no seed.
_SEED_FOR_0 = 2**32


def read_row_groups(
    files: Sequence[str],
    *,
    shard: int,
    shards: int,
    epochs: int | None = 1,
    seed: int | None = None,
    teacher: str | None = None,
) -> Iterator[PackedFolds]:
    """Read this shard's row groups of the examples table, one PackedFolds each.

    Args:
        files: local paths of Parquet files.
        shard: number of the shard, from 0: row group i belongs to shard i % shards.
        shards: number of shards.
        epochs: how often the shard is read; None: endlessly.
        seed: shuffles the order of row groups, which is the same in all epochs; None: the files' order.
        teacher: .npy file with `PackedFolds.teacher` of all users of the files, in the files' order.

    Raises:
        InputError: there are fewer row groups than shards, a row group is damaged, or the teacher's file has another
            number of users.
    """
    require_row_groups(files, shards)
    reader = Reader(
        # Not as URLs, which Petastorm cuts at # and ?.
        _Footers(),
        list(files),
        schema_fields=list(_COLUMNS),
        # One worker keeps the order of row groups, and so the training run, the same each time.
        reader_pool=ThreadPool(1, _READ_AHEAD),
        worker_class=_RowGroupWorker if teacher is None else _worker_with_teacher(_teacher_by_file(teacher, files)),
        is_batched_reader=True,
        shuffle_row_groups=seed is not None,
        seed=_SEED_FOR_0 if seed == 0 else seed,
        cur_shard=shard,
        shard_count=shards,
        num_epochs=epochs,
    )
    # Not used as a context manager: its exit prints a line to standard output each time.
    try:
        yield from reader
    finally:
        reader.stop()
        reader.join()


def require_row_groups(files: Sequence[str], ranks: int) -> None:
    """Check that there is a row group for every rank, as each rank trains on its own row groups.

    Raises:
        InputError: there are fewer row groups than ranks.
    """
    groups = count_row_groups(files)
    if groups < ranks:
        raise InputError(
            f"{groups} row groups cannot be shared among {ranks} ranks: "
            "build the examples with a smaller fold.row_group_users, or train with fewer ranks"
        )


def count_row_groups(files: Sequence[str]) -> int:
    """Row groups of all files together, from their footers."""
    return sum(read_metadata(path).num_row_groups for path in files)


def train_batches(
    files: Sequence[str],
    *,
    shard: int,
    shards: int,
    batch_users: int,
    buffer_row_groups: int,
    seed: int,
    teacher: str | None = None,
) -> Generator[PackedFolds, None, None]:
    """Yield shuffled batches of this shard, endlessly.

    Row groups are read in shuffled order. The users of `buffer_row_groups` of them at a time are shuffled and dealt to
    batches with about equal numbers of payments. Ranks that step together then hardly wait for each other, and
    the largest batch, which determines the memory needed, is little above the mean.

    Args:
        files, shard, shards, teacher: as for `read_row_groups`.
        batch_users: users per batch.
        buffer_row_groups: row groups whose users are shuffled together.
        seed: of the shuffling.
    """
    rng = np.random.default_rng([seed, shard])
    held: list[PackedFolds] = []
    arrived = 0
    for row_group in read_row_groups(files, shard=shard, shards=shards, epochs=None, seed=seed, teacher=teacher):
        held.append(row_group)
        arrived += 1
        if arrived < buffer_row_groups:
            continue
        users = [len(one) for one in held]
        part = np.repeat(np.arange(len(held)), users)
        position = np.concatenate([np.arange(count) for count in users])
        order = rng.permutation(len(part))
        whole = len(order) - len(order) % batch_users
        payments = np.concatenate([one.payments_of_users for one in held])
        for chosen in deal_evenly(order[:whole], payments, batch_users, rng):
            yield PackedFolds.gather(held, part[chosen], position[chosen])
        # Users that do not fill a batch are shuffled with the next row groups.
        left = order[whole:]
        held, arrived = ([PackedFolds.gather(held, part[left], position[left])] if len(left) else []), 0


def deal_evenly(users: Ints, payments: Ints, batch_users: int, rng: np.random.Generator) -> Ints:
    """Split users into random batches with about equal numbers of payments, by stratified sampling.

    Users are ranked by their payments and divided into `batch_users` strata; each batch gets one user of each stratum.

    Args:
        users: (batches * batch_users,) int64 positions, in random order.
        payments: (n,) int64, payments of the user at each position.
        batch_users: users per batch, and number of strata.
        rng: assigns the users of a stratum to batches.

    Returns:
        (batches, batch_users) int64: each of the users once.
    """
    ranked = users[np.argsort(payments[users], kind="stable")]
    dealt: Ints = rng.permuted(ranked.reshape(batch_users, -1), axis=1).T
    return dealt


def every_user_once(
    files: Sequence[str], *, shard: int, shards: int, batch_users: int, teacher: str | None = None
) -> Iterator[PackedFolds]:
    """Yield each user of this shard exactly once, in batches of at most `batch_users`, in the files' order.

    If there are fewer row groups than shards, the last shards are empty.

    Args:
        files, shard, shards, teacher: as for `read_row_groups`.
        batch_users: users per batch.
    """
    shards = min(shards, count_row_groups(files))
    if shard >= shards:
        return
    for row_group in read_row_groups(files, shard=shard, shards=shards, teacher=teacher):
        for start in range(0, len(row_group), batch_users):
            yield row_group.take(np.arange(start, min(start + batch_users, len(row_group))))


class _Footers(FileSystem):  # type: ignore[misc]
    """The local files as Petastorm sees them: it lists row groups from their footers, and reads nothing else."""

    def __init__(self) -> None:
        # Not the base class's, which only warns that PyArrow has newer file systems: Petastorm cannot use them.
        pass

    def isfile(self, path: str) -> bool:
        """Whether it is a file."""
        return Path(path).is_file()

    def isdir(self, path: str) -> bool:
        """Whether it is a folder."""
        return Path(path).is_dir()

    def open(self, path: str, mode: str = "rb") -> IO[bytes] | pa.BufferReader:
        """Opens what holds the file's footer."""
        source = footer_source(path)
        return Path(source).open("rb") if isinstance(source, str) else source


class _RowGroupWorker(WorkerBase):  # type: ignore[misc]
    """The worker that Petastorm runs in its thread: it reads a row group and publishes its PackedFolds."""

    # Path -> the teacher's probabilities of the file's users, in order.
    teacher: Mapping[str, npt.NDArray[np.float32]] | None = None

    def __init__(self, worker_id: int, publish: Callable[[Any], None], reader: Sequence[Any]):
        super().__init__(worker_id, publish, reader)
        _, _, _, _, self.row_groups, *_ = reader
        self.footers: dict[str, pq.FileMetaData] = {}

    @staticmethod
    def new_results_queue_reader() -> _Results:
        """Return the object with which the training thread reads the worker's results."""
        return _Results()

    def process(self, piece_index: int, worker_predicate: None, shuffle_row_drop_partition: tuple[int, int]) -> None:
        """Publish one row group. The last two arguments, which select rows in Petastorm, are not used here."""
        row_group = self.row_groups[piece_index]
        try:
            packed: PackedFolds | InputError = self._pack(row_group.path, row_group.row_group)
        except InputError as error:
            # Raised in the training thread; if raised here, Petastorm would print a traceback.
            packed = error
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            packed = InputError(f"{row_group.path}: row group {row_group.row_group} cannot be read: {reason}")
        self.publish_func(packed)

    def _pack(self, path: str, number: int) -> PackedFolds:
        packed = PackedFolds.from_arrow(self._rows(path, number))
        if self.teacher is None:
            return packed
        before = sum(self.footers[path].row_group(earlier).num_rows for earlier in range(number))
        return replace(packed, teacher=np.array(self.teacher[path][before : before + len(packed)]))

    def _rows(self, path: str, number: int) -> pa.Table:
        # Of a file with many row groups, reading the footer each time would take longer than reading the group.
        with open_parquet(path, metadata=self.footers.get(path)) as file:
            self.footers[path] = file.metadata
            rows = file.read_row_group(number, columns=list(_COLUMNS), use_threads=False)
        if "as_of" in rows.column_names:
            return rows
        # The folds table is partitioned by as_of, so its files lack the column; its value is in the folder's name.
        day = _DAY_FOLDER.search(path)
        if day is None:
            raise InputError(f"{path}: as_of is neither a column of the file nor part of its folder's name")
        return rows.append_column("as_of", pa.array([date.fromisoformat(day[1])] * len(rows), pa.date32()))


def _worker_with_teacher(teacher: Mapping[str, npt.NDArray[np.float32]]) -> type[_RowGroupWorker]:
    """Make a worker class that holds the teacher, as Petastorm creates its workers without arguments of ours."""
    return type("_RowGroupWorkerWithTeacher", (_RowGroupWorker,), {"teacher": teacher})


def _teacher_by_file(teacher: str, files: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
    """Split the teacher's probabilities by file; they are memory-mapped, so nothing is read yet."""
    probabilities = np.load(teacher, mmap_mode="r", allow_pickle=False)
    ends = np.cumsum([read_metadata(path).num_rows for path in files])
    if len(probabilities) != ends[-1]:
        raise InputError(f"{teacher}: it has {len(probabilities):,} users, the files have {ends[-1]:,}")
    return dict(zip(files, np.split(probabilities, ends[:-1]), strict=True))


class _Results:
    """Passes the worker's results on unchanged."""

    batched_output = True

    def read_next(self, pool: ThreadPool, schema: object, ngram: None) -> PackedFolds:
        """Return the next row group; Petastorm raises the error that was published in its place."""
        while True:
            try:
                packed: PackedFolds = pool.get_results()
                return packed
            except EmptyResultError:
                # Petastorm checks first whether its workers are idle, then whether all work was handed out. Work handed
                # out between the two checks would be lost. By now all work is handed out, so a second check decides.
                if pool.all_workers_done():
                    raise StopIteration from None
