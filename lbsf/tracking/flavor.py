"""The model as an MLflow pyfunc: folds in, probabilities out. Loaded by module name, never unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from lbsf.folds.packed import LIST_COLUMNS, PackedFolds
from lbsf.models.artifact import load_model, require_spec
from lbsf.models.batch import FoldBatch

SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.datetime, "as_of"),
            ColSpec(DataType.string, "fold_spec"),
            *[ColSpec(Array(DataType.long), name) for name in LIST_COLUMNS],
        ]
    ),
    outputs=Schema([ColSpec(DataType.double, "probability")]),
)


class FoldScorer:
    """What `mlflow.pyfunc.load_model` returns, behind MLflow's own wrapper."""

    def __init__(self, folder: Path):
        self.model, self.card = load_model(folder)

    def predict(self, folds: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Calibrated probabilities of default.

        Args:
            folds: rows of the folds table, with the columns of SIGNATURE.
            params: MLflow's; none are known.

        Returns:
            One column `probability`, a row per fold, in their order.

        Raises:
            InputError: the folds are of another spec than the model reads.
        """
        for spec in folds["fold_spec"].unique():
            require_spec(self.card, spec)
        columns = {"as_of": pa.array(pd.to_datetime(folds["as_of"]).dt.date, pa.date32())}
        columns |= {name: pa.array(folds[name].map(list), pa.list_(pa.int64())) for name in LIST_COLUMNS}
        with torch.inference_mode():
            logits = self.model(FoldBatch.from_packed(PackedFolds.from_arrow(pa.table(columns))))
        return pd.DataFrame({"probability": self.card.probability(logits).numpy()}, index=folds.index)


def _load_pyfunc(folder: str) -> FoldScorer:
    """MLflow's hook for a loader module."""
    return FoldScorer(Path(folder))
