"""The model as an MLflow pyfunc: folds in, the scores of `score_users` out. Loaded by module name, not pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Array

from lbsf.errors import InputError
from lbsf.folds.packed import LIST_COLUMNS, PackedFolds
from lbsf.models.artifact import load_model, require_digest, require_spec, require_thin_file
from lbsf.models.predict import predict_scores

SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.datetime, "as_of"),
            ColSpec(DataType.string, "fold_spec"),
            *[ColSpec(Array(DataType.long), name) for name in LIST_COLUMNS],
        ]
    ),
    outputs=Schema([ColSpec(DataType.double, "probability"), ColSpec(DataType.boolean, "thin_file")]),
)
# Key in the logged model's metadata of lbsf.models.artifact.files_digest of its data.
DIGEST = "sha256"
# Users per forward pass; limits memory, as scoring.batch_users does.
BATCH_USERS = 256


class FoldScorer:
    """The model inside the wrapper that `mlflow.pyfunc.load_model` returns."""

    def __init__(self, folder: Path):
        """Load a saved model. Raises InputError if it cannot score users."""
        self.model, self.card = load_model(folder)
        require_thin_file(self.card)

    def predict(self, folds: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the scores that `score_users` would store.

        Args:
            folds: rows of the folds table, with the columns of SIGNATURE; MLflow checks their types.
            params: part of MLflow's interface; ignored.

        Returns:
            `probability` (float64) and `thin_file` (bool), one row per fold, in the same order.

        Raises:
            InputError: a value is null, as_of is not a whole day, or the folds are damaged or have another spec than
                the model reads.
        """
        _require_values(folds)
        for spec in folds["fold_spec"].unique():
            require_spec(self.card, spec)
        batches = (_pack(folds.iloc[begin : begin + BATCH_USERS]) for begin in range(0, len(folds), BATCH_USERS))
        scores = predict_scores(self.model, self.card, batches)
        return pd.DataFrame(scores._asdict(), index=folds.index)


def _require_values(folds: pd.DataFrame) -> None:
    """Raise InputError if a value is null or as_of is not a whole day; it names the column and the number of rows."""
    for name in SIGNATURE.inputs.input_names():
        if odd := int(folds[name].isna().sum()):
            raise InputError(f"column {name} is null in {odd:,} of {len(folds):,} rows")
    as_of = pd.to_datetime(folds["as_of"])
    if odd := int((as_of != as_of.dt.normalize()).sum()):
        raise InputError(f"column as_of is not a whole day in {odd:,} of {len(folds):,} rows")


def _pack(folds: pd.DataFrame) -> PackedFolds:
    columns = {"as_of": pa.array(pd.to_datetime(folds["as_of"]).dt.date, pa.date32())}
    columns |= {
        name: pa.array(folds[name].map(lambda of: np.asarray(of, np.int64)), pa.list_(pa.int64()))
        for name in LIST_COLUMNS
    }
    return PackedFolds.from_arrow(pa.table(columns))


def _load_pyfunc(folder: str) -> FoldScorer:
    """Load the model; called by MLflow. Raises InputError if the files differ from those that were logged."""
    logged = next((parent for parent in Path(folder).parents if (parent / "MLmodel").is_file()), None)
    try:
        metadata = {} if logged is None else Model.load(logged).metadata or {}
    except MlflowException as error:
        raise InputError(f"{folder}: no readable MLmodel ({error.message})") from None
    require_digest(Path(folder), metadata.get(DIGEST), f"the model in {logged or folder}")
    return FoldScorer(Path(folder))
