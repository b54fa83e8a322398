"""How well scores tell defaulters from others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit
from scipy.special import logit as log_odds
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

Floats = npt.NDArray[np.float64]

# Within these, probabilities have finite log odds.
PROBABILITY_LIMITS = (1e-9, 1 - 1e-9)


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


def calibration_measures(label: Floats, probability: Floats) -> dict[str, float]:
    """How far probabilities can be taken at their word, on users that they were not calibrated on.

    Args:
        label: (n,) 0 or 1, both present.
        probability: (n,) of default.

    Returns:
        level: mean probability over default rate, 1 at best;
        intercept: calibration in the large, what must be added to all log odds to meet the default rate, 0 at best;
        slope: of the label's log odds on the probability's, 1 at best, below 1 where probabilities are
        too extreme (Cox 1958);
        ece: mean |default rate - mean probability| over tenths of users by probability, weighted by users;
        hosmer_lemeshow, hosmer_lemeshow_p: the chi-squared statistic over the same tenths and its p-value,
        with as many degrees of freedom as there are tenths, as no parameter was fitted on these users. With
        many users it rejects any model, so it is shown and no rule stands on it.
    """
    odds = log_odds(np.clip(probability, *PROBABILITY_LIMITS))
    observed, expected, users = _tenths(label, probability)
    chance = np.clip(expected / users, *PROBABILITY_LIMITS)
    statistic = float(np.sum((observed - expected) ** 2 / (users * chance * (1 - chance))))
    return {
        "level": float(probability.mean() / label.mean()),
        # The mean of expit rises from 0 to 1 within these limits.
        "intercept": float(brentq(lambda shift: expit(odds + shift).mean() - label.mean(), -50.0, 50.0)),
        "slope": float(LogisticRegression(C=np.inf, max_iter=1000).fit(odds[:, None], label).coef_[0, 0]),
        "ece": float(np.sum(np.abs(observed - expected)) / len(label)),
        "hosmer_lemeshow": statistic,
        "hosmer_lemeshow_p": float(chi2.sf(statistic, len(users))),
    }


def _tenths(label: Floats, probability: Floats) -> tuple[Floats, Floats, Floats]:
    """Defaults, expected defaults and users of each tenth by probability; equal probabilities stay together."""
    edges = np.unique(np.quantile(probability, np.arange(1, 10) / 10))
    tenth = np.searchsorted(edges, probability, side="right")
    users = np.bincount(tenth)
    there = users > 0
    observed, expected = np.bincount(tenth, label)[there], np.bincount(tenth, probability)[there]
    return observed.astype(np.float64), expected.astype(np.float64), users[there].astype(np.float64)
