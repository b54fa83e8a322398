"""Petastorm: row groups of Delta's files, sharded by rank, packed in its reader thread.

Petastorm's batch reader knows flat columns and equal-length lists only. A TransformSpec could pack a row group
of other lists, but Petastorm 0.13 first copies it row by row and then turns it into a pandas frame, which takes
twice as long as decoding it. So its reader is given a worker of our own, the part that Petastorm has exchangeable:
Petastorm deals row groups to shards, shuffles them, and runs the worker in a thread that reads ahead; the worker
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

# Petastorm's threads announce its use of deprecated PyArrow calls at every row group.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\b")
warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"petastorm\b")

from petastorm.reader import Reader  # noqa: E402
from petastorm.workers_pool import EmptyResultError  # noqa: E402
from petastorm.workers_pool.thread_pool import ThreadPool  # noqa: E402
from petastorm.workers_pool.worker_base import WorkerBase  # noqa: E402

logging.getLogger("petastorm").setLevel(logging.ERROR)

_COLUMNS = ("as_of", "label", *LIST_COLUMNS)
_DAY_FOLDER = re.compile(r"/as_of=(\d{4}-\d{2}-\d{2})/")
# Row groups that the thread packs ahead of the one that is wanted.
_READ_AHEAD = 4
_INSTEAD_OF_0 = 2**32


def read_row_groups(
    files: Sequence[str],
    *,
    shard: int,
    shards: int,
    epochs: int | None = 1,
    seed: int | None = None,
    teacher: str | None = None,
) -> Iterator[PackedFolds]:
    """Reads this shard's row groups of the examples table, one PackedFolds each.

    Args:
        files: local paths of Parquet files.
        shard: which shard, from 0: row group i belongs to shard i % shards.
        shards: number of shards.
        epochs: how often the shard is read; None: without end.
        seed: shuffles the order of row groups, which is the same in all epochs; None: the files' order.
        teacher: .npy file of what `PackedFolds.teacher` is of all users of the files, in their order.

    Raises:
        InputError: there are fewer row groups than shards, or a row group is damaged.
    """
    require_row_groups(files, shards)
    reader = Reader(
        # Not as URLs, which Petastorm cuts at # and ?.
        _Footers(),
        list(files),
        schema_fields=list(_COLUMNS),
        # One worker keeps the order of row groups, and so the training run, the same each time.
        reader_pool=ThreadPool(1, _READ_AHEAD),
        worker_class=_RowGroupWorker if teacher is None else _worker_beside(_by_file(teacher, files)),
        is_batched_reader=True,
        shuffle_row_groups=seed is not None,
        # Petastorm takes 0 for no seed at all.
        seed=_INSTEAD_OF_0 if seed == 0 else seed,
        cur_shard=shard,
        shard_count=shards,
        num_epochs=epochs,
    )
    # Stopped by hand: leaving the reader's own context prints a line to standard output each time.
    try:
        yield from reader
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
    """Endless shuffled batches of this shard.

    Row groups arrive in shuffled order; `buffer_row_groups` of them at a time are mixed user by user, and dealt so that
    batches hold about as many payments as each other: ranks that step together then wait little for one another, and
    the largest batch, which sets how much memory is needed, is little above the mean.
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
        place = np.concatenate([np.arange(count) for count in users])
        order = rng.permutation(len(part))
        whole = len(order) - len(order) % batch_users
        payments = np.concatenate([one.payments_of_users for one in held])
        for chosen in deal_evenly(order[:whole], payments, batch_users, rng):
            yield PackedFolds.gather(held, part[chosen], place[chosen])
        # What does not fill a batch is mixed with the row groups that come next.
        left = order[whole:]
        held, arrived = ([PackedFolds.gather(held, part[left], place[left])] if len(left) else []), 0


def deal_evenly(users: Ints, payments: Ints, batch_users: int, rng: np.random.Generator) -> Ints:
    """Random batches that each take one user of each stratum: those with the most payments, the next most, and so on.

    Args:
        users: (batches * batch_users,) int64 positions, in random order.
        payments: (n,) int64, payments of the user at each position.
        batch_users: users a batch, and so the number of strata.
        rng: deals each stratum out.

    Returns:
        (batches, batch_users): each of the users once.
    """
    ranked = users[np.argsort(payments[users], kind="stable")]
    dealt: Ints = rng.permuted(ranked.reshape(batch_users, -1), axis=1).T
    return dealt


def every_user_once(
    files: Sequence[str], *, shard: int, shards: int, batch_users: int, teacher: str | None = None
) -> Iterator[PackedFolds]:
    """Batches that hold each user of this shard exactly once, in the files' order.

    Where there are fewer row groups than shards, the last shards are empty.
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
    """What Petastorm runs in its thread: a row group's place in, its PackedFolds out."""

    # Of each file's users, in order, what a teacher says.
    teacher: Mapping[str, npt.NDArray[np.float32]] | None = None

    def __init__(self, worker_id: int, publish: Callable[[Any], None], reader: Sequence[Any]):
        super().__init__(worker_id, publish, reader)
        _, _, _, _, self.row_groups, *_ = reader
        self.footers: dict[str, pq.FileMetaData] = {}

    @staticmethod
    def new_results_queue_reader() -> _Results:
        """How the training thread gets what the worker published."""
        return _Results()

    def process(self, piece_index: int, worker_predicate: None, shuffle_row_drop_partition: tuple[int, int]) -> None:
        """Publishes one row group; the last two arguments ask for rows to be left out, which no reader here does."""
        row_group = self.row_groups[piece_index]
        try:
            packed: PackedFolds | InputError = self._pack(row_group.path, row_group.row_group)
        except InputError as error:
            # Raised where the row group is asked for; from here it would go to standard error with a traceback.
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
        # The folds table is partitioned by day: its files do not hold what their folder's name says.
        day = _DAY_FOLDER.search(path)
        if day is None:
            raise InputError(f"{path}: neither the file nor its folder says the folds' as_of")
        return rows.append_column("as_of", pa.array([date.fromisoformat(day[1])] * len(rows), pa.date32()))


def _worker_beside(teacher: Mapping[str, npt.NDArray[np.float32]]) -> type[_RowGroupWorker]:
    """A worker that knows a teacher: Petastorm makes its workers itself, and hands them nothing of ours."""
    return type("_RowGroupWorkerWithTeacher", (_RowGroupWorker,), {"teacher": teacher})


def _by_file(teacher: str, files: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
    """Each file's part of what a teacher says, left on disk until it is read."""
    said = np.load(teacher, mmap_mode="r", allow_pickle=False)
    ends = np.cumsum([read_metadata(path).num_rows for path in files])
    if len(said) != ends[-1]:
        raise InputError(f"{teacher}: it speaks of {len(said):,} users, the files hold {ends[-1]:,}")
    return dict(zip(files, np.split(said, ends[:-1]), strict=True))


class _Results:
    """Hands the worker's row groups on as they are."""

    batched_output = True

    def read_next(self, pool: ThreadPool, schema: object, ngram: None) -> PackedFolds:
        """The next row group, or the error that stands in its place."""
        while True:
            try:
                packed: PackedFolds = pool.get_results()
                return packed
            except EmptyResultError:
                # Petastorm asks whether its workers are idle, then whether all work was handed out; what is handed
                # out in between would be lost. By now all is handed out, so to ask again settles it.
                if pool.all_workers_done():
                    raise StopIteration from None
