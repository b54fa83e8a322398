"""Who may import what: the contracts of pyproject.toml, on this tree and on trees that break them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def lint(root: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    only = [argument for contract in contracts for argument in ("--contract", contract)]
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo", *only],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_tree_keeps_its_boundaries() -> None:
    result = lint(PROJECT)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("contract", "module", "statement"),
    [
        ("library", "lbsf/errors.py", "import jobs.common"),
        ("pure-data", "lbsf/folding/planted.py", "import torch"),
        ("pure-data", "lbsf/schemas/planted.py", "from torch import nn"),
        ("pure-data", "lbsf/folding/planted.py", "from lbsf.models import batch"),
        ("pure-models", "lbsf/models/planted.py", "from pyspark.sql import DataFrame"),
        ("pure-models", "lbsf/models/planted.py", "import lbsf.session"),  # imports pyspark in its turn
        ("pure-evaluation", "lbsf/folds/planted.py", "from pyspark.sql import DataFrame"),
        ("pure-evaluation", "lbsf/evaluation/planted.py", "import lbsf.tracking"),  # imports mlflow in its turn
        ("who-judges", "lbsf/monitoring/planted.py", "from lbsf.training import thin_files"),
        ("who-judges", "lbsf/tracking/planted.py", "import lbsf.training.plan"),
        ("petastorm", "lbsf/training/planted.py", "from petastorm import make_batch_reader"),
        ("petastorm", "jobs/planted.py", "import petastorm.reader"),
        ("horovod", "lbsf/training/planted.py", "import horovod.torch as hvd"),
        ("horovod", "jobs/planted.py", "def run():\n    import horovod.torch"),  # inside a function too
        ("mlflow", "jobs/planted.py", "import mlflow"),
        ("mlflow", "lbsf/scoring/planted.py", "from mlflow.tracking import MlflowClient"),
        ("delta", "jobs/planted.py", "from delta.tables import DeltaTable"),
        ("delta", "lbsf/examples/planted.py", "import deltalake"),
    ],
)
def test_an_import_across_a_boundary_is_refused(tmp_path: Path, contract: str, module: str, statement: str) -> None:
    for package in ("lbsf", "jobs"):
        shutil.copytree(PROJECT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{statement}\n")
    result = lint(tmp_path, contract)
    assert result.returncode == 1, result.stdout
    assert "0 kept, 1 broken" in result.stdout
