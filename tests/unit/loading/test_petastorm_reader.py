from __future__ import annotations

import threading
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from example_files import labelled_rows, write_examples
from hypothesis import given
from hypothesis import strategies as st
from petastorm.workers_pool.thread_pool import ThreadPool

from lbsf.errors import InputError
from lbsf.folds.packed import PackedFolds
from lbsf.loading import petastorm_reader
from lbsf.loading.petastorm_reader import deal_evenly, every_user_once, read_row_groups, train_batches


def marks(packed: PackedFolds) -> list[int]:
    """Who is in a batch: the amounts that single users out."""
    return [int(cents) - 10_000_000 for cents in packed.amount_cents if cents >= 10_000_000]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("examples")
    rows = labelled_rows(130, seed=0)
    return [
        # What a URL or a glob would read in its own way.
        write_examples(folder / "split=train #1?{x}[y] %41 ü.parquet", rows[:100], row_group_rows=20),
        write_examples(folder / "b.parquet", rows[100:], row_group_rows=20),
    ]


def test_what_is_read_equals_what_was_written(files: list[str]) -> None:
    rows = labelled_rows(130, seed=0)
    read = PackedFolds.concat(list(read_row_groups(files, shard=0, shards=1)))
    assert marks(read) == list(range(130))
    assert read.label is not None
    assert read.label.tolist() == [row["label"] for row in rows]
    for name in ("paid_at", "category", "merchant_len", "description_token_len"):
        assert getattr(read, name).tolist() == [value for row in rows for value in row[name]], name


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_every_user_is_read_once_whatever_the_number_of_shards(files: list[str], shards: int) -> None:
    read = [
        user
        for shard in range(shards)
        for packed in every_user_once(files, shard=shard, shards=shards, batch_users=16)
        for user in marks(packed)
    ]
    assert sorted(read) == list(range(130))


def test_more_shards_than_row_groups_leave_the_last_ones_empty(files: list[str]) -> None:
    read = [list(every_user_once(files, shard=shard, shards=9, batch_users=16)) for shard in range(9)]
    assert [bool(batches) for batches in read] == [True] * 7 + [False] * 2
    assert sum(len(packed) for batches in read for packed in batches) == 130


def test_training_with_more_ranks_than_row_groups_is_refused(files: list[str]) -> None:
    with pytest.raises(InputError, match="7 row groups cannot be shared among 9 ranks"):
        next(read_row_groups(files, shard=0, shards=9))


def _train(files: list[str], seed: int, shard: int = 0) -> list[list[int]]:
    batches = train_batches(files, shard=shard, shards=2, batch_users=16, buffer_row_groups=2, seed=seed)
    return [marks(packed) for packed in islice(batches, 12)]


def test_training_batches_are_full_shuffled_and_repeat_with_their_seed(files: list[str]) -> None:
    first = _train(files, seed=1)
    assert [len(batch) for batch in first] == [16] * 12
    assert first == _train(files, seed=1)
    assert first != _train(files, seed=2)
    assert _train(files, seed=0) == _train(files, seed=0)
    assert any(np.any(np.diff(batch) < 0) for batch in first)


def test_shards_share_no_user_and_each_user_comes_about_equally_often(files: list[str]) -> None:
    zero, one = (Counter(user for batch in _train(files, seed=3, shard=shard) for user in batch) for shard in (0, 1))
    assert not set(zero) & set(one)
    # 192 draws from a shard of 60 or 70 users, whole passes: nobody may be drawn far more than others.
    assert max(zero.values()) <= 5


def test_what_a_teacher_says_of_a_user_stays_with_him(files: list[str], tmp_path: Path) -> None:
    path = str(tmp_path / "teacher.npy")
    said = np.random.default_rng(1).random(130).astype(np.float32)
    np.save(path, said)
    batches = train_batches(files, shard=1, shards=2, batch_users=16, buffer_row_groups=3, seed=5, teacher=path)
    everyone = every_user_once(files, shard=0, shards=1, batch_users=7, teacher=path)
    for packed in [*islice(batches, 9), *everyone]:
        assert packed.teacher is not None and packed.teacher.dtype == np.float32
        assert packed.teacher.tolist() == said[marks(packed)].tolist()
    batches.close()


def test_a_teacher_of_other_users_is_refused(files: list[str], tmp_path: Path) -> None:
    np.save(tmp_path / "teacher.npy", np.zeros(129, np.float32))
    with pytest.raises(InputError, match=r"teacher.npy: it has 129 users, the files have 130"):
        next(read_row_groups(files, shard=0, shards=1, teacher=str(tmp_path / "teacher.npy")))


def test_a_buffer_mixes_users_of_several_row_groups(files: list[str]) -> None:
    groups = {user // 20 if user < 100 else 5 + (user - 100) // 20 for user in _train(files, seed=1)[0]}
    assert len(groups) == 2


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 5), st.integers(0, 2**32))
def test_every_batch_has_a_user_of_every_stratum(batches: int, batch_users: int, left: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    payments = rng.integers(0, 50, size=batches * batch_users + left)
    users = rng.permutation(len(payments))[: batches * batch_users]
    dealt = deal_evenly(users, payments, batch_users, rng)
    assert dealt.shape == (batches, batch_users)
    assert sorted(dealt.flatten()) == sorted(users)
    strata = np.sort(payments[users]).reshape(batch_users, batches)
    in_batch = np.sort(payments[dealt], axis=1)
    assert (in_batch >= strata[:, 0]).all()
    assert (in_batch <= strata[:, -1]).all()


def test_users_of_a_stratum_meet_other_users_each_time() -> None:
    rng = np.random.default_rng(1)
    users, payments = np.arange(64), np.arange(64)
    assert not np.array_equal(deal_evenly(users, payments, 8, rng), deal_evenly(users, payments, 8, rng))


def test_a_file_with_lengths_that_disagree_is_refused(tmp_path: Path) -> None:
    rows = labelled_rows(5, seed=0)
    rows[2]["merchant_len"] = [length + 1 for length in rows[2]["merchant_len"]]
    path = write_examples(tmp_path / "damaged.parquet", rows, row_group_rows=5)
    with pytest.raises(InputError, match="folds are damaged: paid_at"):
        list(read_row_groups([path], shard=0, shards=1))


def test_a_file_with_damaged_pages_is_named(tmp_path: Path) -> None:
    path = Path(write_examples(tmp_path / "damaged.parquet", labelled_rows(40, seed=0), row_group_rows=20))
    second = pq.read_metadata(path).row_group(1)
    start, end = second.column(0).dictionary_page_offset, path.stat().st_size // 2
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * max(4_000, end - start))
    reader = read_row_groups([str(path)], shard=0, shards=1)
    assert len(next(reader)) == 20
    with pytest.raises(InputError, match=r"damaged\.parquet: row group 1 cannot be read: "):
        next(reader)


def test_row_groups_that_are_handed_out_late_are_read(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Petastorm may find its worker idle and, a moment later, all row groups handed out: here it always does."""

    class HandedOutMeanwhile(ThreadPool):
        def start(self, worker_class: Any, worker_args: Any = None, ventilator: Any = None) -> None:
            super().start(worker_class, worker_args)
            self._ventilator = ventilator

        def all_workers_done(self) -> bool:
            done = bool(super().all_workers_done())
            if self._ventilator._ventilation_thread is None:
                self._ventilator.start()
                # Two row groups, few enough not to wait for room.
                self._ventilator._ventilation_thread.join()
            return done

    monkeypatch.setattr(petastorm_reader, "ThreadPool", HandedOutMeanwhile)
    read = list(read_row_groups(files[1:], shard=0, shards=1))
    assert [len(packed) for packed in read] == [20, 10]


def test_closing_early_ends_the_reading_threads(files: list[str]) -> None:
    before = set(threading.enumerate())
    batches = train_batches(files, shard=0, shards=1, batch_users=16, buffer_row_groups=2, seed=1)
    next(batches)
    assert set(threading.enumerate()) > before
    batches.close()
    assert set(threading.enumerate()) <= before
