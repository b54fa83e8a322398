"""The training benchmark in small: drawn rows can be read by all, the padded network is LBSF, the report renders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.train import readers, report
from benchmarks.train.contenders import CONTENDERS
from benchmarks.train.dataset import Dataset, dataset
from benchmarks.train.padded import PaddedLBSF, pad
from benchmarks.train.steps import folds_of, network_and_batches, require_equal, timed_steps

PER_USER, USERS = 20, 64


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return dataset(tmp_path_factory.mktemp("data"), PER_USER, USERS)


def test_drawn_examples_are_whole_and_hold_both_labels(data: Dataset) -> None:
    for split in ("train", "validation", "test"):
        packed = folds_of(data.files(split), data.users_of(split))
        packed.check()
        assert packed.label is not None
        assert set(packed.label.tolist()) == {0, 1}
        lengths = np.repeat(np.arange(len(packed)), packed.merchant_count)
        payments = np.bincount(lengths, packed.merchant_len)
        assert np.median(payments) == pytest.approx(PER_USER, rel=0.5)
        owner = np.repeat(np.arange(len(packed.merchant_len)), packed.merchant_len)
        assert np.all(np.diff(packed.paid_at)[np.diff(owner) == 0] >= 0)
        assert np.all(packed.paid_at < packed.as_of[lengths][owner])


def test_all_readers_read_the_same_payments(data: Dataset, tmp_path: Path) -> None:
    files = data.files("train")
    readers.write_rows(files, tmp_path / "rows")
    payments = folds_of(files, USERS).payments
    assert readers.rows(tmp_path / "rows") == payments
    assert readers.arrow(files) == readers.packed(files) == readers.EPOCHS * payments


def test_the_padded_network_is_told_from_another(data: Dataset) -> None:
    torch.set_num_threads(1)
    packed = folds_of(data.files("train"), USERS)
    network, batches = network_and_batches("padded", packed, 16)
    assert isinstance(network, PaddedLBSF)
    batch = batches[0][0].packed
    require_equal(network, batch)
    users, merchants, payments = pad(batch).shape
    assert users * merchants * payments > len(batch.paid_at)

    class Shifted(PaddedLBSF):
        def forward(self, batch: Any) -> torch.Tensor:
            return super().forward(batch) + 0.01

    with pytest.raises(AssertionError):
        require_equal(Shifted(network.model), batch)


@pytest.mark.parametrize("network", ["lbsf", "padded", "transformer"])
def test_steps_are_timed(network: str, data: Dataset) -> None:
    figures = timed_steps(network, folds_of(data.files("train"), USERS), 16)
    assert figures["seconds"] > 0
    assert figures["payments"] == folds_of(data.files("train"), USERS).payments


def test_the_report_shows_every_part_and_keeps_other_parts_of_the_page(tmp_path: Path) -> None:
    common = {"run": "2026-01-01", "machine": "a machine", "packages": "packages", "commit": "abc", "status": "ok"}
    figures = {
        "seconds": 2.0,
        "epoch_seconds": [3.0, 2.0],
        "data_wait_share": [0.5, 0.01],
        "cpu_seconds": 1.5,
        "payments_per_second": 1e6,
        "payments_per_cpu_second": 2e6,
        "test_auc": 0.7,
        "peak_memory": 2**30,
        "users": USERS,
    }
    records = [
        {**common, **figures, "part": part, "contender": name, "per_user": per_user}
        for part, contenders in CONTENDERS.items()
        for per_user in ((PER_USER, 2 * PER_USER) if part == "history" else (PER_USER,))
        for name in contenders
    ]
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n\nanother part\n", encoding="utf-8")
    report.write(records, tmp_path)
    report.write(records, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "another part" in text
    assert text.count("## Training") == 1
    for part, contenders in CONTENDERS.items():
        assert all(f"`{name}`" in report.tables([r for r in records if r["part"] == part]) for name in contenders)
    assert "1.0 %" in text
    assert (tmp_path / "images/bench_train_history.png").stat().st_size > 0
    failed = [{k: v for k, v in r.items() if k not in figures or k in ("peak_memory", "users")} for r in records]
    assert "time limit" in report.tables([{**record, "status": "time limit"} for record in failed])
