"""Gradient boosting and a network together: whether each knows what the other does not.

The network was trained on the training users, so its vectors and logits tell those users' labels far better than
those of anybody new: trees that are fitted to them on the same users would learn to trust the network where it only
remembers. Vectors of training users that are fair need as many networks as folds of a cross-fit. So the trees see
the training users and aggregates alone, and what weighs the trees against the network is fitted on the validation
users, whose labels neither was fitted to. Both chose when to stop there, one number each.

Validation users are few and a vector is long: the weighing is a logistic regression with a penalty that is
cross-validated, not a second set of trees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from lbsf.baselines.boosting import BoostingModel, labels_of, log_odds, train_boosting
from lbsf.baselines.payments import Floats
from lbsf.errors import InputError
from lbsf.loading.packed import PackedFolds

# (n, k) float of n users: k = 1 for a logit, LBSF.features for its user vector.
Represent = Callable[[PackedFolds], Floats]

PENALTIES = tuple(10.0**power for power in np.arange(-4.0, 2.5, 0.5))
FOLDS = 5
LEAST_OF_A_CLASS = 2 * FOLDS


@dataclass(frozen=True)
class FusionModel:
    """Trees, and how they and a representation are weighed.

    Attributes:
        trees: on aggregates, of the training users.
        mean, scale: (1 + k,) what the inputs are brought to a common scale by.
        weights: (1 + k,) of the scaled trees' log odds and representation.
        intercept: added to their sum, which is the log odds of default.
    """

    trees: BoostingModel
    mean: Floats
    scale: Floats
    weights: Floats
    intercept: float

    def probabilities(self, folds: Sequence[PackedFolds], represent: Represent) -> Floats:
        """Probabilities of default of all users of all parts, (n,)."""
        inputs = (_inputs(self.trees, folds, represent) - self.mean) / self.scale
        return np.asarray(1 / (1 + np.exp(-(inputs @ self.weights + self.intercept))), np.float64)


def train_fusion(
    train: Sequence[PackedFolds], validation: Sequence[PackedFolds], represent: Represent, seed: int
) -> FusionModel:
    """Trees of the training users' aggregates, weighed against a trained network on the validation users.

    Args:
        train: labelled folds that the network was trained on, too.
        validation: labelled folds that nothing was fitted to.
        represent: what the network, in evaluation mode, makes of folds: its logit or its user vector.
        seed: of LightGBM's sampling and of the folds of the penalty's cross-validation.

    Raises:
        InputError: folds carry no labels, or the validation users have too few of a class.
    """
    label = labels_of(validation)
    fewest = int(min(label.sum(), len(label) - label.sum()))
    if fewest < LEAST_OF_A_CLASS:
        raise InputError(
            f"fusion is fitted on the validation users, of whom {fewest} are of one class: "
            f"take a larger validation split, with at least {LEAST_OF_A_CLASS}"
        )
    trees = train_boosting(train, validation, seed)
    inputs = _inputs(trees, validation, represent)
    spread = inputs.std(axis=0)
    # A vector of k features weighs, to the penalty, as much as the trees' one number.
    group = np.sqrt([1, *[inputs.shape[1] - 1] * (inputs.shape[1] - 1)])
    mean, scale = inputs.mean(axis=0), np.where(spread > 0, spread, 1.0) * group
    search = GridSearchCV(
        LogisticRegression(max_iter=5_000),
        {"C": PENALTIES},
        scoring="neg_log_loss",
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=seed),
    )
    best = search.fit((inputs - mean) / scale, label).best_estimator_
    return FusionModel(trees, mean, scale, np.asarray(best.coef_[0], np.float64), float(best.intercept_[0]))


def fusion_probabilities(
    train: Sequence[PackedFolds],
    validation: Sequence[PackedFolds],
    held_out: Sequence[PackedFolds],
    represent: Represent,
    seed: int,
) -> Floats:
    """Probabilities of default of the held-out users, (n,), by train_fusion of the others."""
    return train_fusion(train, validation, represent, seed).probabilities(held_out, represent)


def _inputs(trees: BoostingModel, folds: Sequence[PackedFolds], represent: Represent) -> Floats:
    """(n, 1 + k) float64: the trees' log odds, then the representation."""
    parts = [np.asarray(represent(part), np.float64).reshape(len(part), -1) for part in folds]
    return np.concatenate([log_odds(trees, folds)[:, None], np.concatenate(parts)], axis=1)
