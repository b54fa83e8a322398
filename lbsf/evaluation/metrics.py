"""Metrics of discrimination and calibration, and Platt scaling."""

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

# Probabilities are clipped to these limits to keep their log-odds finite.
PROBABILITY_LIMITS = (1e-9, 1 - 1e-9)


def evaluate(label: Floats, probability: Floats) -> dict[str, float]:
    """Compute the metrics of one set of scored users.

    Args:
        label: (n,) 0 or 1, both present.
        probability: (n,) of default.

    Returns:
        auc; ks, the Kolmogorov-Smirnov distance between the score distributions of both classes; pr_auc (average
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
    """Fit Platt scaling (Platt 1999): the slope and intercept of a logistic regression of the label on the logit.

    A slope of 0 or less would lose or reverse the ranking. The slope is then 1, and the intercept moves the mean
    logit to that of the default rate.

    Args:
        label: (n,) 0 or 1, both present.
        logit: (n,).
    """
    fitted = LogisticRegression(C=np.inf, max_iter=1000).fit(logit[:, None], label)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope > 0:
        return slope, intercept
    rate = float(label.mean())
    return 1.0, float(np.log(rate / (1 - rate)) - logit.mean())


def calibration_measures(label: Floats, probability: Floats) -> dict[str, float]:
    """Measure calibration on users that the probabilities were not calibrated on.

    Args:
        label: (n,) 0 or 1, both present.
        probability: (n,) of default.

    Returns:
        level: mean probability over default rate; ideally 1;
        intercept: calibration in the large, the constant to add to all log-odds to match the default rate; ideally 0;
        slope: of a logistic regression of the label on the log-odds; ideally 1, below 1 if the probabilities are
        too extreme (Cox 1958);
        ece: expected calibration error, mean |default rate - mean probability| over deciles, weighted by users;
        hosmer_lemeshow, hosmer_lemeshow_p: the chi-squared statistic over the same deciles and its p-value.
        It has one degree of freedom per decile, as no parameter was fitted on these users. With
        many users it rejects any model, so it is reported but no rule uses it.
    """
    odds = log_odds(np.clip(probability, *PROBABILITY_LIMITS))
    observed, expected, users = _deciles(label, probability)
    mean = np.clip(expected / users, *PROBABILITY_LIMITS)
    statistic = float(np.sum((observed - expected) ** 2 / (users * mean * (1 - mean))))
    return {
        "level": float(probability.mean() / label.mean()),
        # The mean of expit rises from 0 to 1 within these limits.
        "intercept": float(brentq(lambda shift: expit(odds + shift).mean() - label.mean(), -50.0, 50.0)),
        "slope": float(LogisticRegression(C=np.inf, max_iter=1000).fit(odds[:, None], label).coef_[0, 0]),
        "ece": float(np.sum(np.abs(observed - expected)) / len(label)),
        "hosmer_lemeshow": statistic,
        "hosmer_lemeshow_p": float(chi2.sf(statistic, len(users))),
    }


def _deciles(label: Floats, probability: Floats) -> tuple[Floats, Floats, Floats]:
    """Return defaults, expected defaults and users of each decile by probability; equal probabilities stay together."""
    edges = np.unique(np.quantile(probability, np.arange(1, 10) / 10))
    decile = np.searchsorted(edges, probability, side="right")
    users = np.bincount(decile)
    filled = users > 0
    observed, expected = np.bincount(decile, label)[filled], np.bincount(decile, probability)[filled]
    return observed.astype(np.float64), expected.astype(np.float64), users[filled].astype(np.float64)
