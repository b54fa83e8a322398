"""Pictures of how well scores tell defaulters from others."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, precision_recall_curve, roc_curve

from lbsf.training.metrics import Floats

mpl.use("Agg")


def performance_figures(label: Floats, probability: Floats, title: str) -> dict[str, Figure]:
    """ROC, KS, precision-recall and calibration curves.

    Args:
        label: (n,) 0 or 1, both present.
        probability: (n,) of default.
        title: stands over each picture.
    """
    false_positive, true_positive, threshold = roc_curve(label, probability)
    precision, recall, _ = precision_recall_curve(label, probability)
    figures = {}

    figure, axes = _square(f"{title}: ROC, AUC {auc(false_positive, true_positive):.3f}")
    axes.plot(false_positive, true_positive)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="share of the others above the threshold", ylabel="share of defaulters above the threshold")
    figures["roc"] = figure

    distance = true_positive - false_positive
    peak = int(np.argmax(distance))
    figure, axes = _square(f"{title}: KS {distance[peak]:.3f} at probability {min(threshold[peak], 1.0):.3f}")
    axes.plot(threshold[1:], true_positive[1:], label="defaulters")
    axes.plot(threshold[1:], false_positive[1:], label="others")
    axes.vlines(threshold[peak], false_positive[peak], true_positive[peak], color="grey", linestyle="--")
    axes.set(xlabel="probability threshold", ylabel="share above the threshold", xscale="log")
    axes.legend()
    figures["ks"] = figure

    figure, axes = _square(f"{title}: precision and recall")
    axes.plot(recall, precision)
    axes.axhline(label.mean(), color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="recall: share of defaulters found", ylabel="precision: share of defaulters among the found")
    figures["precision_recall"] = figure

    observed, predicted = calibration_curve(label, probability, n_bins=10, strategy="quantile")
    limit = 1.05 * max(observed.max(), predicted.max())
    figure, axes = _square(f"{title}: calibration by tenths of users")
    axes.plot(predicted, observed, marker="o")
    axes.plot([0, limit], [0, limit], color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="mean probability", ylabel="default rate", xlim=(0, limit), ylim=(0, limit))
    figures["calibration"] = figure
    return figures


def _square(title: str) -> tuple[Figure, mpl.axes.Axes]:
    figure = Figure(figsize=(5.5, 5.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    return figure, axes
