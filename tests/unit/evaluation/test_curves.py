from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lbsf.evaluation.curves import performance_figures, segment_figure
from lbsf.evaluation.metrics import Floats, evaluate
from lbsf.evaluation.segments import segment_table

KINDS = {"roc", "ks", "precision_recall", "calibration", "gain", "lift", "scores"}


def scored() -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    label = (rng.random(500) < 0.1).astype(float)
    return label, np.round(1 / (1 + np.exp(3 - 2 * label - rng.normal(size=500))), 2)


def axes_of(figure: Figure) -> Axes:
    return figure.axes[0]


def test_gain_and_lift_equal_their_definitions() -> None:
    label, probability = scored()
    figures = performance_figures(label, probability, "title")
    assert set(figures) == KINDS
    users, found = axes_of(figures["gain"]).lines[0].get_data()
    assert (users[0], found[0]) == (0, 0)
    assert (users[-1], found[-1]) == (1, 1)
    for cut in (0.5, 0.2, 0.1):
        # All users at or above a probability are looked at together.
        chosen = probability >= probability[probability >= cut].min()
        place = int(np.argmin(np.abs(np.asarray(users) - chosen.mean())))
        assert users[place] == pytest.approx(chosen.mean())
        assert found[place] == pytest.approx(label[chosen].sum() / label.sum())
    shares, lift = axes_of(figures["lift"]).lines[0].get_data()
    assert lift[-1] == pytest.approx(1)
    np.testing.assert_allclose(np.asarray(lift) * np.asarray(shares), np.asarray(found)[1:])


def test_the_pictures_say_the_metrics() -> None:
    label, probability = scored()
    figures, metrics = performance_figures(label, probability, "title"), evaluate(label, probability)
    assert f"AUC {metrics['auc']:.3f}" in axes_of(figures["roc"]).get_title()
    assert f"KS {metrics['ks']:.3f}" in axes_of(figures["ks"]).get_title()


def test_each_class_is_drawn_whole() -> None:
    figures = performance_figures(*scored(), "title")
    bars = [patch.get_height() for patch in axes_of(figures["scores"]).patches]
    assert sum(bars) == pytest.approx(2)  # both classes' shares


def test_a_lift_without_any_skill_is_one() -> None:
    label, _ = scored()
    figures = performance_figures(label, np.full(500, 0.1), "title")
    assert "lift, 1.0 in the riskiest tenth" in axes_of(figures["lift"]).get_title()


@pytest.mark.parametrize("champion", [False, True])
def test_segments_are_named_with_their_users(champion: bool) -> None:
    label, probability = scored()
    bands = np.repeat(["000", "001-up"], 250)
    table = segment_table(label, probability, {"payments": bands})
    if champion:
        table["champion_auc"] = [0.6, 0.7]
    axes = axes_of(segment_figure(table, "title"))
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == [f"payments {b}  ({int(label[bands == b].sum())} of 250)" for b in ("000", "001-up")]
    assert [line.get_label() for line in axes.lines if line.get_label() in ("challenger", "champion")] == (
        ["challenger", "champion"] if champion else ["challenger"]
    )
