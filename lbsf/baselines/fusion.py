"""Gradient boosting combined with a network (stacking): whether each predicts something that the other does not.

The network was fitted to the labels of the training users, so its outputs overfit there: trees that read them on
the same users would trust them too much. Unbiased outputs would need cross-fitting, one network for each fold. The
trees are therefore trained on aggregates only, and the combination is fitted on the validation users, to whose
labels neither model was fitted. Both used them only to choose when to stop, one number each.

Validation users are few and the network's vector is long. The combination is therefore a logistic regression with a
cross-validated penalty, not a second set of trees.
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
    """The fitted combination of trees and a network: log-odds = ((inputs - mean) / scale) @ weights + intercept.

    Attributes:
        mean, scale: (1 + k,) standardise the inputs.
        weights: (1 + k,) of the trees' log-odds and of the network's k outputs.
        intercept: of the log-odds of default.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    intercept: float

    def probabilities(self, trees: Floats, network: Floats) -> Floats:
        """Return the probabilities of default, (n,).

        Args:
            trees: (n,) log-odds of the trees.
            network: (n, k) outputs of the network for the same users.
        """
        inputs = (_inputs(trees, network) - self.mean) / self.scale
        return np.asarray(expit(inputs @ self.weights + self.intercept), np.float64)


def weigh(trees: Floats, network: Floats, label: Floats, seed: int) -> Fusion:
    """Fit the combination of trees and a network on the validation users.

    Args:
        trees: (n,) the trees' log-odds of default for users that they were not trained on.
        network: (n, k) the network's outputs for the same users, in evaluation mode: k = 1 for its logit,
            LBSF.features for its user vector.
        label: (n,) 0 or 1.
        seed: of the folds of the penalty's cross-validation.

    Raises:
        InputError: there are too few users of a class.
    """
    fewest = int(min(label.sum(), len(label) - label.sum()))
    if fewest < LEAST_OF_A_CLASS:
        raise InputError(
            f"fusion is fitted on the validation users, of whom {fewest} are of one class: "
            f"take a larger validation split, with at least {LEAST_OF_A_CLASS}"
        )
    inputs = _inputs(trees, network)
    spread = inputs.std(axis=0)
    # Scaled so that the penalty treats the network's k outputs together like the trees' single one.
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
    """Concatenate the trees' log-odds and the network's outputs: (n, 1 + k) float64."""
    return np.concatenate([trees[:, None], network], axis=1)
