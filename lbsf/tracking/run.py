"""Logs to an MLflow run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlflow
import pandas as pd
from matplotlib.figure import Figure

from lbsf.tracking.store import store_failures


class Run:
    """An MLflow run, by its id. Logging does not change the run's status."""

    def __init__(self, run_id: str):
        self.run_id = run_id
        self._client = mlflow.MlflowClient()

    @store_failures()
    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters."""
        mlflow.log_params(dict(values), run_id=self.run_id)

    @store_failures()
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics of one epoch (`step`), or of the whole run (None)."""
        mlflow.log_metrics(dict(values), step=step, run_id=self.run_id)

    @store_failures()
    def figure(self, figure: Figure, name: str) -> None:
        """Log a figure as figures/NAME.png."""
        self._client.log_figure(self.run_id, figure, f"figures/{name}.png")

    @store_failures()
    def document(self, values: Mapping[str, Any], name: str) -> None:
        """Log a mapping as a file whose name ends in .json or .yaml."""
        self._client.log_dict(self.run_id, dict(values), name)

    @store_failures()
    def table(self, rows: pd.DataFrame, name: str) -> None:
        """Log a table as tables/NAME.csv and tables/NAME.json (a list of rows), replacing older ones.

        mlflow.log_table would append the rows of a second validation to those of the first.
        """
        self._client.log_text(self.run_id, rows.to_csv(index=False), f"tables/{name}.csv")
        self._client.log_text(self.run_id, rows.to_json(orient="records", indent=2), f"tables/{name}.json")
