"""The GPU benchmark in small, with the CPU in the GPU's place: every part gives its figures, the report shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as benchmark
from benchmarks.gpu import parts, report
from benchmarks.train.dataset import Dataset, dataset

# What `kernels` measures is a GPU's alone; `training` starts ranks, as test_two_ranks does.
IN_SMALL = ("agreement", "steps", "feed", "scoring")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return dataset(tmp_path_factory.mktemp("data"), 20, 512)


def test_every_part_gives_its_figures(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"GPU": torch.device("cpu"), "BATCHES": (16,), "STEP_USERS": 256, "AGREEMENT_USERS": 8}.items():
        monkeypatch.setattr(parts, name, value)
    found = {name: list(benchmark.PARTS[name](data, tmp_path)) for name in IN_SMALL}
    errors = {record["contender"]: record["logits_error"] for record in found["agreement"]}
    assert errors["gpu, float32"] < 1e-5 < errors["gpu, bfloat16"] < 0.1
    assert all(record["payments_per_second"] > 0 for part in ("steps", "feed") for record in found[part])
    assert all(record["users_per_second"] > 0 for record in found["scoring"])
    records = [{"run": "2026-01-01", "part": name, **one} for name in IN_SMALL for one in found[name]]
    assert all(f"`{record['contender']}`" in report.tables(records) for record in records)


def test_the_committed_results_are_the_page() -> None:
    records = report.read(Path("docs/benchmarks/gpu.jsonl"))
    assert {record["part"] for record in records} == set(benchmark.PARTS)
    assert report.tables(records) in Path("docs/benchmarks.md").read_text(encoding="utf-8")


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark.main([]) == 2
    assert "torch sees no GPU" in capsys.readouterr().err
