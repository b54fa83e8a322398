"""How well scores tell defaulters from others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

Floats = npt.NDArray[np.float64]


def evaluate(label: Floats, probability: Floats) -> dict[str, float]:
    """The product's metrics of one set of scored users.

    Args:
        label: (n,) 0 or 1, both present.
        probability: (n,) of default.

    Returns:
        auc; ks, the largest distance between both classes' cumulative distributions; pr_auc (average
        precision); brier; calibration, mean probability over default rate; default_rate; users.
    """
    false_positive, true_positive, _ = roc_curve(label, probability)
    return {
        "auc": float(roc_auc_score(label, probability)),
        "ks": float(np.max(true_positive - false_positive)),
        "pr_auc": float(average_precision_score(label, probability)),
        "brier": float(brier_score_loss(label, probability)),
        "calibration": float(probability.mean() / label.mean()),
        "default_rate": float(label.mean()),
        "users": float(len(label)),
    }


def fit_calibration(label: Floats, logit: Floats) -> tuple[float, float]:
    """Platt scaling (Platt 1999): slope and intercept of a logistic regression of the label on the logit.

    A slope that is not positive would turn the ranking round; then the logits keep their slope of 1 and
    only their level is moved to the observed rate.
    """
    fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(logit[:, None], label)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope > 0:
        return slope, intercept
    rate = float(label.mean())
    return 1.0, float(np.log(rate / (1 - rate)) - logit.mean())
