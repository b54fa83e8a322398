"""An MLflow run, and what is logged to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlflow
import pandas as pd
from matplotlib.figure import Figure

from lbsf.tracking.store import store_failures


class Run:
    """An MLflow run, by its id: nothing that is logged here changes the run's status."""

    def __init__(self, run_id: str):
        self.run_id = run_id
        self._client = mlflow.MlflowClient()

    @store_failures()
    def params(self, values: Mapping[str, Any]) -> None:
        """Logs parameters."""
        mlflow.log_params(dict(values), run_id=self.run_id)

    @store_failures()
    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics, at one epoch or for the whole run."""
        mlflow.log_metrics(dict(values), step=step, run_id=self.run_id)

    @store_failures()
    def figure(self, figure: Figure, name: str) -> None:
        """Logs a picture under figures/NAME.png."""
        self._client.log_figure(self.run_id, figure, f"figures/{name}.png")

    @store_failures()
    def document(self, values: Mapping[str, Any], name: str) -> None:
        """Logs a mapping under a file name that ends in .json or .yaml."""
        self._client.log_dict(self.run_id, dict(values), name)

    @store_failures()
    def table(self, rows: pd.DataFrame, name: str) -> None:
        """Logs a table as tables/NAME.csv and tables/NAME.json (a list of rows), replacing older ones.

        Not mlflow.log_table, which would add the rows of a second validation to those of the first.
        """
        self._client.log_text(self.run_id, rows.to_csv(index=False), f"tables/{name}.csv")
        self._client.log_text(self.run_id, rows.to_json(orient="records", indent=2), f"tables/{name}.json")
