"""Figures of a model's discrimination and calibration."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, precision_recall_curve, roc_curve

from lbsf.evaluation.metrics import Floats

mpl.use("Agg")


def performance_figures(label: Floats, probability: Floats, title: str) -> dict[str, Figure]:
    """Draw ROC, KS, precision-recall and calibration curves, cumulative gain, lift, and the scores of both classes.

    Args:
        label: (n,) 0 or 1, both present.
        probability: (n,) of default.
        title: of each figure.
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
    return figures | _gain_and_lift(label, probability, title) | {"scores": _scores_by_class(label, probability, title)}


def segment_figure(table: pd.DataFrame, title: str) -> Figure:
    """Draw the AUC of each segment with its 95 % limits, and its number of users.

    Args:
        table: as returned by lbsf.evaluation.segments.segment_table, optionally with champion_auc.
        title: of the figure.
    """
    figure = Figure(figsize=(6.5, 1.4 + 0.24 * len(table)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(f"{title}: AUC by segment, 95 % limits", fontsize=10)
    place = np.arange(len(table))[::-1]
    axes.hlines(place, table["auc_low"], table["auc_high"], color="C0", linewidth=1.5)
    axes.plot(table["auc"], place, "o", color="C0", markersize=4, label="challenger")
    if "champion_auc" in table:
        axes.plot(table["champion_auc"], place, "|", color="C1", markersize=9, label="champion")
        axes.legend(fontsize=8)
    names = [f"{row.segment} {row.band}  ({row.defaults:,} of {row.users:,})" for row in table.itertuples()]
    axes.set_yticks(place, names, fontsize=8)
    axes.axvline(0.5, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="AUC (defaults of users in brackets)", xlim=(0, 1))
    axes.grid(alpha=0.3, axis="x")
    return figure


def _gain_and_lift(label: Floats, probability: Floats, title: str) -> dict[str, Figure]:
    """Draw cumulative gain (share of defaulters among the riskiest users) and lift (gain over that of chance)."""
    # Users with equal probabilities are counted together, as their order is arbitrary.
    values, group = np.unique(-probability, return_inverse=True)
    users = np.cumsum(np.bincount(group, minlength=len(values))) / len(label)
    found = np.cumsum(np.bincount(group, label, minlength=len(values))) / label.sum()
    figures = {}
    figure, axes = _square(f"{title}: cumulative gain")
    axes.plot([0, *users], [0, *found])
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="share of users, riskiest first", ylabel="share of defaulters among them")
    figures["gain"] = figure
    figure, axes = _square(f"{title}: lift, {_at(users, found, 0.1) / 0.1:.1f} in the riskiest tenth")
    axes.plot(users, found / users)
    axes.axhline(1, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="share of users, riskiest first", ylabel="default rate among them over that of all")
    figures["lift"] = figure
    return figures


def _at(users: Floats, found: Floats, share: float) -> float:
    """Return the share of all defaulters who are among the riskiest `share` of users."""
    return float(np.interp(share, np.concatenate([[0.0], users]), np.concatenate([[0.0], found])))


def _scores_by_class(label: Floats, probability: Floats, title: str) -> Figure:
    figure, axes = _square(f"{title}: probabilities by outcome")
    least = max(float(probability.min()), 1e-6)
    edges = np.geomspace(least, max(float(probability.max()), 1.1 * least), 41)
    for outcome, name in ((0, "others"), (1, "defaulters")):
        scores = np.clip(probability[label == outcome], edges[0], edges[-1])
        axes.hist(scores, edges.tolist(), weights=np.full(len(scores), 1 / len(scores)), alpha=0.55, label=name)
    axes.set(xlabel="probability of default", ylabel="share of the class", xscale="log")
    axes.legend()
    return figure


def _square(title: str) -> tuple[Figure, mpl.axes.Axes]:
    figure = Figure(figsize=(5.5, 5.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    return figure, axes
