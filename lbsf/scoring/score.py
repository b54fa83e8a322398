"""Folds to raw scores in Spark tasks: each Python worker holds the network once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
)

from lbsf.folds.packed import LIST_COLUMNS, SECONDS_PER_DAY, PackedFolds
from lbsf.models.artifact import CARD, WEIGHTS, ModelCard, load_model, require_thin_file
from lbsf.models.lbsf import LBSF
from lbsf.schemas.scores import REASON, REASON_FIELDS
from lbsf.scoring.explain import BatchScores, score_batch
from lbsf.scoring.fields import NO_FIELD
from lbsf.scoring.words import reason_texts

READ_COLUMNS = ("user_id", "as_of", "merchant_id", "merchant_name", *LIST_COLUMNS, "payments_version")

RAW_SCORES = StructType(
    [
        StructField("user_id", StringType(), False),
        StructField("probability", DoubleType(), False),
        StructField("reasons", ArrayType(REASON, containsNull=False), False),
        StructField("thin_file", BooleanType(), False),
        StructField("new_payments", IntegerType(), True),
        StructField("by_new_payments", DoubleType(), True),
        StructField("payments_version", LongType(), False),
    ]
)


class ModelFiles(NamedTuple):
    """The two files of lbsf.models.artifact, as bytes: what a task needs to rebuild the network."""

    weights: bytes
    card: bytes

    @staticmethod
    def read(folder: Path) -> ModelFiles:
        """Reads the files of a saved model. Raises InputError, as load_model does, where it cannot score anybody."""
        # Found out here: a task's error would come with the traceback of every try.
        _, card = load_model(folder)
        require_thin_file(card)
        return ModelFiles((folder / WEIGHTS).read_bytes(), (folder / CARD).read_bytes())


def score_folds(
    folds: DataFrame, model: ModelFiles, batch_users: int, reasons: int, since: date | None = None
) -> DataFrame:
    """Scores every row of `folds`.

    A user's score depends on no other user. The model's bytes travel with the task (Spark broadcasts
    a closure of more than a mebibyte by itself), so no worker needs to reach the model's storage.

    Args:
        folds: rows of the folds table, of one as_of and of the spec that the model reads.
        model: the model's files.
        batch_users: users that pass through the network at once.
        reasons: most reasons per user.
        since: day from which on payments are new; None: not asked for.

    Returns:
        One row a fold, RAW_SCORES: probability as lbsf.models.predict decides it; new_payments and by_new_payments
        null without `since`. Costly: persist it where it is used twice.
    """
    seconds = None if since is None else (since - date(1970, 1, 1)).days * SECONDS_PER_DAY

    def score_partition(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        network, card = _rebuild(model)
        for rows in batches:
            for start in range(0, rows.num_rows, batch_users):
                yield _score_rows(network, card, rows.slice(start, batch_users), reasons, seconds)

    return folds.select(*READ_COLUMNS).mapInArrow(score_partition, RAW_SCORES)


@lru_cache(maxsize=1)
def _rebuild(model: ModelFiles) -> tuple[LBSF, ModelCard]:
    """The network, rebuilt once in each Python worker."""
    import torch

    # Spark runs one task a core; more threads would only fight each other.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, WEIGHTS).write_bytes(model.weights)
        Path(folder, CARD).write_bytes(model.card)
        return load_model(Path(folder))


def _score_rows(
    network: LBSF, card: ModelCard, rows: pa.RecordBatch, reasons: int, since: int | None
) -> pa.RecordBatch:
    """Rows of the folds table to rows of RAW_SCORES."""
    packed = PackedFolds.from_arrow(rows)
    scores = score_batch(network, card, packed, reasons, since)
    offsets = np.concatenate([[0], np.cumsum(scores.reason_count)]).astype(np.int32)
    nothing = pa.nulls(len(packed))
    return pa.RecordBatch.from_arrays(
        [
            rows.column("user_id"),
            pa.array(scores.probability),
            pa.ListArray.from_arrays(pa.array(offsets), _reasons(scores, packed, rows)),
            pa.array(scores.thin_file),
            (nothing if since is None else pa.array(scores.new_payments)).cast(pa.int32()),
            (nothing if since is None else pa.array(scores.by_new_payments)).cast(pa.float64()),
            rows.column("payments_version"),
        ],
        names=RAW_SCORES.names,
    )


def _reasons(scores: BatchScores, packed: PackedFolds, rows: pa.RecordBatch) -> pa.StructArray:
    """All reasons of a batch, as REASON."""
    merchant = pa.array(scores.reason_merchant)
    ids = rows.column("merchant_id").flatten().take(merchant)
    names = rows.column("merchant_name").flatten().take(merchant)
    shown = [name or one for name, one in zip(names.to_pylist(), ids.to_pylist(), strict=True)]
    fields = [None if field == NO_FIELD else REASON_FIELDS[field] for field in scores.reason_field.tolist()]
    texts = reason_texts(packed, scores.reason_merchant, shown, scores.contribution, scores.reason_field)
    return pa.StructArray.from_arrays(
        [
            ids,
            names,
            pa.array(np.where(scores.contribution > 0, "raises", "lowers"), pa.string()),
            pa.array(scores.contribution),
            pa.array(fields, pa.string()),
            pa.array(texts, pa.string()),
        ],
        names=REASON.names,
    )
