"""Notebooks run from top to bottom over a small warehouse, and are kept without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from analyst_tables import EARLIER, scores
from nbclient import NotebookClient
from pyspark.sql import SparkSession

from lbsf.config import Config
from lbsf.schemas import SCORES
from lbsf.tables import Warehouse

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def executed(root: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """What the notebook for analysts prints, and how many charts it draws."""
    monkeypatch.setenv("LBSF_ROOT", root)
    document = nbformat.read(FOLDER / "02_analysts.ipynb", as_version=4)
    # Opened in a folder of its own: a notebook may not lean on where it was started.
    NotebookClient(document, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in document.cells if cell.cell_type == "code" for output in cell.outputs]
    charts = sum("image/png" in output.get("data", {}) for output in outputs)
    return "".join(output.get("text", "") for output in outputs), charts


def test_the_notebook_for_analysts_runs(
    analyst_warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    printed, charts = executed(analyst_warehouse.storage.root, tmp_path, monkeypatch)
    assert "5 users scored as of 2025-07-02" in printed
    assert charts == 5
    # u1 moved most.
    assert "2025-06-01  6.00%  band D" in printed
    assert "2025-07-02  30.00%  band E\n    risk rose, mostly by 4 new payments\n" in printed
    assert "odds x2.01  Shop loans raises the risk\n    odds x0.82  Shop grocer lowers the risk" in printed


def test_the_notebook_for_analysts_runs_with_one_night_of_scores_alone(
    spark: SparkSession, config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    warehouse = Warehouse(spark, config.storage)
    rows = [row for row in scores() if row[0] == EARLIER]
    warehouse.overwrite(SCORES, spark.createDataFrame(rows, SCORES.struct))
    printed, charts = executed(config.storage.root, tmp_path, monkeypatch)
    assert "band_migration_latest: no table band_migration yet" in printed
    assert charts == 3
    assert "2025-07-01  90.00%  band E\n    odds x7.39  bets raises the risk" in printed


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[notebook.name for notebook in NOTEBOOKS])
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)
