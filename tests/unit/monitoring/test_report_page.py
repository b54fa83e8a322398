"""The page: its numbers, its safety from what stands in the data, and that it needs no network."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from report_page import Page

from lbsf.monitoring import Night, Quality, quality_of, render_report
from lbsf.monitoring.night import BINS_A_DECADE, DECADES, Band, Merchant

NIGHT = Night(
    as_of=date(2025, 7, 1),
    users=12_345,
    mean_probability=0.03456,
    thin_files=1_234,
    models=("lbsf version 3",),
    folds_versions=(7,),
    bands=(Band("A", 0.01, 12_000, 12_000 / 12_345, 0.005), Band("B", 1.0, 345, 345 / 12_345, 0.2)),
    histogram=tuple(range(DECADES * BINS_A_DECADE)),
    merchants=(Merchant("Quick & <b>Cash</b>", 321, 1.75), Merchant("Bets", 12, 1.1)),
    payments_by_day={date(2025, 6, 29): 1_000, date(2025, 6, 30): 2_345},
    quarantined={"amount is null": 42, "paid_at is in the future": 7},
)
QUALITY = Quality(
    model="lbsf version 3",
    split="out-of-time",
    metrics={"auc": 0.7412, "ks": 0.3561, "pr_auc": 0.1634, "brier": 0.0398},
    baseline={"auc": 0.7266, "ks": 0.3342, "pr_auc": 0.1507, "brier": 0.0401},
    best_auc=0.8123,
)
VERSIONS = {"scores": 4, "payments": 11}


def render(night: Night = NIGHT, quality: Quality | None = QUALITY) -> str:
    return render_report(night, quality, VERSIONS, 180, datetime(2025, 7, 1, 3, 4, tzinfo=UTC))


def test_every_figure_stands_on_the_page() -> None:
    page = Page(render())
    assert page.unclosed == []
    assert page.texts["users"] == "12,345" and page.texts["thin-files"] == "1,234"
    assert page.texts["mean-probability"] == "3.46 %" and page.texts["auc"] == "0.741"
    assert page.tables["bands"][1:] == [
        ["A", "1 %", "12,000", "97.2 %", "0.50 %"],
        ["B", "100 %", "345", "2.8 %", "20.00 %"],
    ]
    assert page.tables["merchants"][1:] == [["Quick & <b>Cash</b>", "321", "× 1.75"], ["Bets", "12", "× 1.10"]]
    assert page.tables["quality"] == [
        ["out-of-time", "LBSF", "LightGBM"],
        ["AUC", "0.7412", "0.7266"],
        ["KS", "0.3561", "0.3342"],
        ["PR-AUC", "0.1634", "0.1507"],
        ["Brier score", "0.0398", "0.0401"],
    ]
    assert page.texts["best-auc"] == "0.8123"
    assert page.texts["payments"] == "3,345"
    assert page.tables["days"] == [["2025-06-29", "1,000"], ["2025-06-30", "2,345"]]
    assert page.tables["quarantined"][1:] == [["amount is null", "42"], ["paid_at is in the future", "7"]]
    assert page.tables["versions"][1:] == [["scores", "4"], ["payments", "11"], ["folds, as scored", "7"]]


def test_the_bars_carry_their_numbers() -> None:
    svg = render().split('id="quality"')[0].split("Model quality")[1]
    for name, value in (("LBSF", "0.7412"), ("LightGBM", "0.7266"), ("best reachable", "0.8123")):
        assert f">{name}</text>" in svg and f">{value}</text>" in svg


def test_the_page_needs_no_network_and_runs_no_script() -> None:
    text = render()
    # XML namespaces are names, not addresses.
    addresses = [value for name, value in Page(text).attributes if "://" in value and not name.startswith("xmlns")]
    assert addresses == []
    assert not re.search(r"<(script|link|img|iframe)|@import|url\((?!#)", text)
    assert "Quick &amp; &lt;b&gt;Cash&lt;/b&gt;" in text


def test_the_same_figures_give_the_same_page() -> None:
    assert render() == render()


def test_a_night_with_little_to_show() -> None:
    bare = replace(
        NIGHT,
        bands=(Band("A", 0.01, 0, 0.0, None), Band("B", 1.0, 1, 1.0, 0.5)),
        users=1,
        histogram=tuple([0] * DECADES * BINS_A_DECADE),
        merchants=(),
        payments_by_day={},
        quarantined={},
    )
    page = Page(render(bare, None))
    assert page.tables["bands"][1] == ["A", "1 %", "0", "0.0 %", "–"]
    assert "quality" not in page.tables and "merchants" not in page.tables and page.texts["payments"] == "0"


def test_a_night_scored_by_another_model_says_so() -> None:
    assert "This night was scored with" not in render()
    assert "This night was scored with lbsf version 2." in render(replace(NIGHT, models=("lbsf version 2",)))


@pytest.mark.parametrize("split", ["out_of_time", "test", "validation"])
def test_quality_prefers_the_out_of_time_test(split: str) -> None:
    order = ["out_of_time", "test", "validation"]
    metrics = {f"{s}.{m}": 0.1 * i for i, s in enumerate(order[order.index(split) :], 1) for m in QUALITY.metrics}
    found = quality_of("lbsf version 3", metrics, None)
    assert found is not None and found.split == split.replace("_", "-")
    assert set(found.metrics.values()) == {0.1} and found.baseline is None and found.best_auc is None


def test_no_metrics_give_no_quality() -> None:
    assert quality_of("lbsf version 3", {"train.loss": 0.1, "test.auc": 0.7}, 0.8) is None
