"""Notebooks run from top to bottom over a small warehouse, and are kept without outputs."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from jobs.common import Job
from lbsf.schemas import SCORES

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NIGHT, EARLIER = date(2025, 7, 1), date(2025, 6, 30)


def write_scores(job: Job) -> None:
    reasons = [
        {"merchant_id": "m1", "merchant_name": "Quick Cash", "direction": "raises", "contribution": 0.7},
        {"merchant_id": "m2", "merchant_name": "", "direction": "lowers", "contribution": -0.2},
    ]
    for night, users in ((EARLIER, 3), (NIGHT, 25)):
        rows = [
            (night, f"u{user:02d}", (user + 1) / 100, "D", 4.0 * user, user == 24, reasons, "lbsf", "1", 0,
             datetime(2025, 7, 1, 2, tzinfo=UTC))
            for user in range(users)
        ]  # fmt: skip
        job.warehouse.replace_day(SCORES, job.spark.createDataFrame(rows, SCORES.struct), night)


def test_the_notebook_on_scores_runs(job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_scores(job)
    monkeypatch.setenv("LBSF_ROOT", str(job.root))
    document = nbformat.read(FOLDER / "01_scores.ipynb", as_version=4)
    # Opened in a folder of its own: a notebook may not lean on where it was started.
    NotebookClient(document, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(
        output.get("text", "") for cell in document.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert "25 users scored as of 2025-07-01, table version 1" in printed
    # u24 is riskier, and thin.
    assert "probability 24.00%, band D, above 92.0 % of all users" in printed
    assert "Quick Cash" in printed and "odds x2.01" in printed and "odds x0.82" in printed


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[notebook.name for notebook in NOTEBOOKS])
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    assert cells
    assert [(cell.outputs, cell.execution_count) for cell in cells] == [([], None)] * len(cells)
