"""LightGBM on hand-made aggregates: the baseline that a sequence model has to beat, and its teacher."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from scipy.special import expit

from lbsf.baselines.aggregates import Vocabulary, aggregate_features
from lbsf.damaged import reading
from lbsf.errors import InputError
from lbsf.folds.packed import LIST_COLUMNS, PackedFolds
from lbsf.folds.views import View
from lbsf.parquet import open_parquet

Floats = npt.NDArray[np.float64]

WHOLE = View()
ROUNDS = 1_000
PATIENCE = 50
SETTINGS = {
    "objective": "binary",
    "metric": "auc",
    "min_data_in_leaf": 50,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "num_threads": 2,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}

# Stumps, whose sum is additive in the features, or deeper trees with interactions: with few labels the stumps are
# often better. Both are trained, and the one with the better validation AUC is kept.
SHAPES: tuple[dict[str, float], ...] = (
    {"num_leaves": 2, "learning_rate": 0.1},
    {"num_leaves": 15, "learning_rate": 0.03},
)


@dataclass(frozen=True)
class BoostingModel:
    """A trained baseline.

    Attributes:
        booster: LightGBM's trees of the better shape, with the best validation round.
        vocabulary: the buckets that have features of their own.
        features: the features' names, in order.
    """

    booster: lgb.Booster
    vocabulary: Vocabulary
    features: tuple[str, ...]


def train_boosting(train: Sequence[PackedFolds], validation: Sequence[PackedFolds], seed: int) -> BoostingModel:
    """Train on labelled folds with each of SHAPES, with early stopping on the validation AUC; return the better model.

    The same folds and seed give the same trees: LightGBM runs in its deterministic mode.

    Raises:
        InputError: the folds carry no labels.
    """
    vocabulary = Vocabulary.of(train)
    features, names = _features(train, vocabulary)
    training = lgb.Dataset(features, labels_of(train), feature_name=names)
    watched = lgb.Dataset(_features(validation, vocabulary)[0], labels_of(validation), reference=training)
    boosters = [
        lgb.train(
            {**SETTINGS, **shape, "seed": seed},
            training,
            num_boost_round=ROUNDS,
            valid_sets=[watched],
            callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
        )
        for shape in SHAPES
    ]
    best = max(boosters, key=lambda booster: float(booster.best_score["valid_0"]["auc"]))
    return BoostingModel(best, vocabulary, tuple(names))


def log_odds(model: BoostingModel, folds: Sequence[PackedFolds]) -> Floats:
    """Return the log-odds of default of all users of all parts, (n,)."""
    features, _ = _features(folds, model.vocabulary)
    rounds = model.booster.best_iteration
    return np.asarray(model.booster.predict(features, num_iteration=rounds, raw_score=True), np.float64)


def predict(model: BoostingModel, folds: Sequence[PackedFolds]) -> Floats:
    """Return the probabilities of default of all users of all parts, (n,)."""
    return np.asarray(expit(log_odds(model, folds)), np.float64)


def boosting_of(files: Mapping[str, Sequence[str]], seed: int, view: View = WHOLE) -> BoostingModel:
    """Train on the split `train`, with early stopping on the split `validation`.

    Args:
        files: split -> Parquet files of the examples table.
        seed: of LightGBM's sampling.
        view: the part of each fold that the features are computed from.
    """
    train, validation = (list(read_folds(files[split], view)) for split in ("train", "validation"))
    return train_boosting(train, validation, seed)


def probabilities_by_split(
    files: Mapping[str, Sequence[str]], seed: int, view: View = WHOLE
) -> dict[str, tuple[Floats, Floats]]:
    """Train as `boosting_of` does, and score every split.

    Returns:
        split -> labels (n,) and probabilities (n,), rows in the files' order. The trees were fitted to the users of
        `train`: use their probabilities as a teacher's, not to measure quality.
    """
    model = boosting_of(files, seed, view)
    found = {}
    for split, paths in files.items():
        parts = [(labels_of([folds]), predict(model, [folds])) for folds in read_folds(paths, view)]
        if parts:
            labels, probabilities = zip(*parts, strict=True)
            found[split] = np.concatenate(labels), np.concatenate(probabilities)
    return found


def read_folds(paths: Sequence[str], view: View = WHOLE) -> Iterator[PackedFolds]:
    """Read labelled folds from Parquet files of the examples table, in their order, reduced to the view."""
    for path in paths:
        with reading(path):
            for rows in open_parquet(path).iter_batches(columns=["as_of", *LIST_COLUMNS, "label"]):
                yield view.of(PackedFolds.from_arrow(rows))


def _features(folds: Sequence[PackedFolds], vocabulary: Vocabulary) -> tuple[npt.NDArray[np.float32], list[str]]:
    parts = [aggregate_features(part, vocabulary) for part in folds]
    return np.concatenate([features for features, _ in parts]), parts[0][1]


def labels_of(folds: Sequence[PackedFolds]) -> Floats:
    """Return the labels of all users of all parts, (n,).

    Raises:
        InputError: a part has no labels.
    """
    labels = [part.label for part in folds if part.label is not None]
    if len(labels) != len(folds) or not labels:
        raise InputError("the baseline needs folds with labels: build the examples first")
    return np.concatenate(labels).astype(np.float64)
