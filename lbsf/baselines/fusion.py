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

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from lbsf.baselines.payments import Floats
from lbsf.errors import InputError

PENALTIES = tuple(10.0**power for power in np.arange(-4.0, 2.5, 0.5))
FOLDS = 5
LEAST_OF_A_CLASS = 2 * FOLDS


@dataclass(frozen=True)
class Fusion:
    """How trees and a network are weighed.

    Attributes:
        mean, scale: (1 + k,) what the inputs are brought to a common scale by.
        weights: (1 + k,) of the scaled trees' log odds and representation.
        intercept: added to their sum, which is the log odds of default.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    intercept: float

    def probabilities(self, trees: Floats, network: Floats) -> Floats:
        """Probabilities of default of users of whom trees say (n,) log odds and a network (n, k), (n,)."""
        inputs = (_inputs(trees, network) - self.mean) / self.scale
        return np.asarray(expit(inputs @ self.weights + self.intercept), np.float64)


def weigh(trees: Floats, network: Floats, label: Floats, seed: int) -> Fusion:
    """Weighs trees against a network on the validation users.

    Args:
        trees: (n,) their log odds of default of users that they were not grown on.
        network: (n, k) what the network, in evaluation mode, makes of the same users: k = 1 for its logit,
            LBSF.features for its user vector.
        label: (n,) of the users.
        seed: of the folds of the penalty's cross-validation.

    Raises:
        InputError: the users have too few of a class.
    """
    fewest = int(min(label.sum(), len(label) - label.sum()))
    if fewest < LEAST_OF_A_CLASS:
        raise InputError(
            f"fusion is fitted on the validation users, of whom {fewest} are of one class: "
            f"take a larger validation split, with at least {LEAST_OF_A_CLASS}"
        )
    inputs = _inputs(trees, network)
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
    return Fusion(mean, scale, np.asarray(best.coef_[0], np.float64), float(best.intercept_[0]))


def _inputs(trees: Floats, network: Floats) -> Floats:
    """(n, 1 + k) float64: the trees' log odds, then the representation."""
    return np.concatenate([trees[:, None], network], axis=1)
