"""The fold's benchmark in small: every contender holds what was drawn, limits are told apart, the report renders."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from benchmarks.fold import report
from benchmarks.fold.checksum import Checksum
from benchmarks.fold.contenders import CONTENDERS
from benchmarks.fold.dataset import Dataset, dataset, require_disk
from benchmarks.fold.payments import Shape, draw
from benchmarks.fold.runs import Bench, here
from benchmarks.harness.processes import Limits, Watched, watch

SIZE = 4_000
PLENTY = Limits(seconds=60, memory=2**40, free_disk=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return dataset(tmp_path_factory.mktemp("data") / "even", SIZE, Shape(), buckets=2)


@pytest.fixture
def bench(data: Dataset, tmp_path: Path, spark: SparkSession) -> Iterator[Bench]:
    bench = Bench(data, tmp_path, here)
    yield bench
    bench.close()


def test_all_contenders_hold_what_was_drawn_and_the_report_shows_them(bench: Bench, tmp_path: Path) -> None:
    common = {
        "benchmark": "contenders",
        "run": "2026-01-01T00:00:00+00:00",
        "machine": "a machine",
        "packages": "packages",
        "commit": "abc",
        "size": SIZE,
        "variant": "even",
        "payments": bench.data.payments,
        "users": bench.data.expected[bench.data.last_day].users,
        "buckets": bench.data.buckets,
    }
    records = [{**common, **bench.measure(name)} for name in CONTENDERS]
    assert {record["contender"]: record["status"] for record in records} == dict.fromkeys(CONTENDERS, "ok")
    skewed = [{**records[0], "contender": "ours", "benchmark": "skew", "variant": v} for v in ("even", "heavy user")]
    report.write([*records, *skewed], tmp_path / "docs")
    page = (tmp_path / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in CONTENDERS)
    assert "| heavy user |" in page
    assert len(list((tmp_path / "docs/images").glob("bench_fold_*.png"))) == 3
    report.write(records, tmp_path / "docs")
    assert (tmp_path / "docs/benchmarks.md").read_text(encoding="utf-8").count("## The fold") == 1


def test_other_folds_than_were_drawn_are_refused(bench: Bench) -> None:
    other = {day: checksum.plus(Checksum(hashes=1)) for day, checksum in bench.data.expected.items()}
    with pytest.raises(SystemExit, match="duckdb as of 2025-06-30 differs"):
        Bench(bench.data._replace(expected=other), bench.scratch, here).measure("duckdb")


def test_data_are_drawn_once(data: Dataset) -> None:
    assert data.payments == pytest.approx(SIZE, rel=0.3)
    assert 0 < data.night < data.payments / 50
    assert dataset(data.root, SIZE, Shape(), buckets=2) == data


def test_skewed_data_have_a_heavy_user_and_a_shared_merchant() -> None:
    even = draw(np.arange(50), Shape(), 0)
    assert np.bincount(even.user).max() < 1_000
    assert np.all(np.diff(even.seconds)[np.diff(even.user) == 0] >= 0)
    heavy = draw(np.arange(50), Shape(heavy_user_payments=5_000), 0)
    assert np.count_nonzero(heavy.user == 0) == 5_000
    shared = draw(np.arange(50), Shape(shared_merchant=True), 0)
    assert 20 <= len(np.unique(shared.user[shared.merchant == 0])) <= 30


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="use --scratch"):
        require_disk(tmp_path, 2**60, "payments")


@pytest.mark.parametrize(
    ("program", "limits", "status"),
    [
        ("pass", PLENTY, "ok"),
        ("1 / 0", PLENTY, "failed"),
        ("raise MemoryError", PLENTY, "out of memory"),
        ("import threading; threading.Event().wait()", PLENTY._replace(seconds=0.2), "time limit"),
        ("import threading; threading.Event().wait()", PLENTY._replace(memory=2**20), "out of memory"),
        ("import threading; threading.Event().wait()", PLENTY._replace(free_disk=2**60), "disk full"),
    ],
)
def test_how_a_process_ended_is_told(program: str, limits: Limits, status: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", program]
    watched = watch(command, temp=tmp_path, log=tmp_path / "log.txt", env={}, cwd=tmp_path, limits=limits)
    assert isinstance(watched, Watched)
    assert watched.status == status
