"""The page: its numbers, its safety from what stands in the data, and that it needs no network."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from report_page import Page

from lbsf.evaluation.reference import CODES, NUMBERS
from lbsf.monitoring.findings import at_least, at_most, shown, within
from lbsf.monitoring.history import Watched
from lbsf.monitoring.migration import Migration
from lbsf.monitoring.report import render_report
from lbsf.monitoring.summary import (
    BINS_A_DECADE,
    DECADES,
    Band,
    FieldReasons,
    Loss,
    Merchant,
    Night,
    Quality,
    quality_of,
)

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NIGHT = Night(
    as_of=date(2025, 7, 1),
    users=12_345,
    mean_probability=0.03456,
    thin_files=1_234,
    models=("lbsf version 3",),
    folds_versions=(7,),
    bands=(
        Band("A", 0.01, 10_766, 10_766 / 12_345, 0.005),
        Band("B", 1.0, 345, 345 / 12_345, 0.2),
        Band("thin", None, 1_234, 1_234 / 12_345, 0.041),
    ),
    histogram=tuple(range(DECADES * BINS_A_DECADE)),
    raising=(Merchant("Quick & <b>Cash</b>", 321, 1.75), Merchant("Bets", 12, 1.1)),
    lowering=(Merchant("Savings", 77, 0.8),),
    fields=(FieldReasons("amount", 300, 200), FieldReasons(None, 20, 10)),
    loss=Loss(17, 0.0123, 0.0045, 0.0067),
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
MEASURED = (
    at_most("score_psi", 0.31, 0.25, 11_111),
    at_most("input_psi", 0.4, 0.25, 90_000, "channel"),
    at_most("input_psi", 0.02, 0.25, 90_000, "hour"),
    within("payments_day_change", -1.0, (-0.6, 0.6), 0.0, 2_000, judged=True),
    at_most("late_share", 0.012, 0.2, 5_000),
    at_most("quarantined_share", 0.004, 0.05, 5_020),
    shown("quarantined_share", 0.003, 15, "amount is null"),
    shown("matured_users", 900, 900),
    shown("matured_defaults", 110, 900),
    at_least("matured_auc", 0.7345, 0.6, 900, judged=True),
    shown("matured_auc_low", 0.69, 900),
    shown("matured_auc_high", 0.77, 900),
    at_least("matured_ks", 0.33, 0.15, 900, judged=True),
    within("matured_calibration", 0.912, (0.5, 2.0), 1.0, 900, judged=True),
    *(
        shown("matured_mean_probability", p, n, b)
        for b, p, n in (("A", 0.006, 700), ("B", 0.21, 150), ("old", 0.3, 50))
    ),
    *(shown("matured_default_rate", p, n, b) for b, p, n in (("A", 0.005, 700), ("B", 0.25, 150), ("old", 0.4, 50))),
)
MOVES = {
    ("A", "A"): 9_000, ("A", "B"): 95, ("B", "B"): 200, ("B", "A"): 50, ("thin", "A"): 10, ("thin", "thin"): 1_200,
    ("none", "A"): 1_000, ("B", "none"): 20,
}  # fmt: skip
WATCHED = Watched(
    MEASURED,
    {
        (one.measure, one.segment): {date(2025, 6, day): one.value * day / 30 for day in range(3, 31)}
        for one in MEASURED
        if one.measure in ("score_psi", "input_psi", "matured_auc", "matured_ks", "matured_calibration")
        and one.value is not None
    },
    (Migration("night", date(2025, 6, 30), MOVES), Migration("month", date(2025, 6, 1), MOVES)),
)
VERSIONS = {"scores": 4, "payments": 11}


def render(night: Night = NIGHT, quality: Quality | None = QUALITY, watched: Watched | None = WATCHED) -> str:
    return render_report(night, quality, watched, VERSIONS, 180, datetime(2025, 7, 1, 3, 4, tzinfo=UTC))


def test_every_figure_stands_on_the_page() -> None:
    page = Page(render())
    assert page.unclosed == []
    assert page.texts["users"] == "12,345" and page.texts["thin-files"] == "1,234"
    assert page.texts["mean-probability"] == "3.46 %" and page.texts["auc"] == "0.741"
    assert page.tables["bands"][1:] == [
        ["A", "1 %", "10,766", "87.2 %", "0.50 %"],
        ["B", "100 %", "345", "2.8 %", "20.00 %"],
        ["thin file", "–", "1,234", "10.0 %", "4.10 %"],
    ]
    assert page.tables["lowering"][1:] == [["Savings", "77", "× 0.80"]]
    assert page.tables["fields"][1:] == [["amount", "300", "200"], ["no field alone", "20", "10"]]
    assert page.tables["loss"][1:] == [["payments", "1.23 %"], ["merchants", "0.45 %"], ["spending", "0.67 %"]]
    assert page.texts["users-cut"] == "17"
    assert page.tables["raising"][1:] == [["Quick & <b>Cash</b>", "321", "× 1.75"], ["Bets", "12", "× 1.10"]]
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


def test_breaches_stand_on_top_with_what_to_look_at() -> None:
    text = render()
    page = Page(text)
    assert page.texts["breach-count"] == "3"
    assert f"of {len(MEASURED)} values beyond their threshold" in text
    rows = page.tables["breaches"][1:]
    assert rows[::2] == [
        ["PSI of the scores", "0.310", "0.250"],
        ["PSI of an input: channel", "0.400", "0.250"],
        ["payments of the last day, change", "-100 %", "-60 %"],
    ]
    assert rows[1][0].startswith("Look at input_psi of the night") and len(rows) == 6
    assert text.index('id="breaches"') < text.index("<main>")


def test_what_was_watched_stands_on_the_page() -> None:
    page = Page(render())
    assert page.tables["moves-night"] == [
        ["from", "users", "A", "B", "thin", "left"],
        ["A", "9,095", "99", "1.0", "", ""],
        ["B", "270", "19", "74", "", "7.4"],
        ["thin", "1,210", "0.8", "", "99", ""],
        ["new", "1,000", "100", "", "", ""],
    ]
    names = {"none": ("new", "left")}
    counts = {(names.get(a, (a,))[0], names.get(b, (b, b))[1]): f"{n:,}" for (a, b), n in MOVES.items()}
    assert {(a, b): n for a, b, n in page.tables["counts-month"][1:]} == counts
    assert page.tables["drift"][1:] == [
        ["the scores", "0.310", "0.250"],
        ["channel", "0.400", "0.250"],
        ["hour", "0.020", "0.250"],
    ]
    assert page.tables["outcomes"][1:] == [
        ["A", "700", "0.60 %", "0.50 %"],
        ["B", "150", "21.00 %", "25.00 %"],
        ["old", "50", "30.00 %", "40.00 %"],
    ]
    shown = {name: page.texts[f"matured-{name}"] for name in ("labels", "defaults", "auc", "ks", "calibration")}
    assert shown == {"labels": "900", "defaults": "110", "auc": "0.735", "ks": "0.330", "calibration": "0.912"}
    assert page.tables["deliveries"][1:] == [
        ["late payments", "1.2 %", "5,000"],
        ["quarantined rows", "0.4 %", "5,020"],
        ["amount is null", "0.3 %", ""],
    ]
    assert len(page.tables["measures"]) == 1 + len(MEASURED)


def test_a_quiet_night_and_one_that_nobody_watched_say_so() -> None:
    quiet = Watched(tuple(one for one in MEASURED if not one.breached), {}, ())
    page = Page(render(watched=quiet))
    assert page.texts["breach-count"] == "0" and "breaches" not in page.tables
    assert "Nothing lies beyond its threshold." in render(watched=quiet)
    text = render(watched=None)
    page = Page(text)
    assert page.texts["breach-count"] == "–"
    assert "This night has not been monitored: run monitor_scores" in text
    assert not {"drift", "outcomes", "moves-night", "measures", "deliveries"} & set(page.tables)
    # The first watched night: nothing to compare with, no label yet.
    first = Watched(
        (shown("score_psi", None, 0), shown("late_share", None, 0), shown("quarantined_share", None, 0)), {}, ()
    )
    assert "No label with a score has matured lately." in render(watched=first)


def test_pictures_over_time_need_two_nights() -> None:
    one = {key: dict(list(values.items())[:1]) for key, values in WATCHED.history.items()}
    pictures = [render(watched=replace(WATCHED, history=history)).count("<svg") for history in (one, WATCHED.history)]
    assert pictures == [3, 6]
    assert ">threshold 0.25</text>" in render()


def test_the_bars_carry_their_numbers() -> None:
    svg = render().split('id="quality"')[0].split("Model quality")[1]
    for name, value in (("LBSF", "0.7412"), ("LightGBM", "0.7266"), ("best reachable", "0.8123")):
        assert f">{name}</text>" in svg and f">{value}</text>" in svg


def test_the_page_needs_no_network_and_runs_no_script() -> None:
    text = render()
    # XML namespaces are names, not addresses.
    addresses = [value for name, value in Page(text).attributes if "://" in value and not name.startswith("xmlns")]
    assert addresses == []
    # The browser would refuse to load anything, whatever stands in the data.
    assert "default-src 'none'" in html.unescape(text)
    assert not re.search(r"<(script|link|img|iframe)|@import|url\((?!#)", text)
    assert "Quick &amp; &lt;b&gt;Cash&lt;/b&gt;" in text


def test_the_same_figures_give_the_same_page() -> None:
    assert render() == render()


def test_a_night_with_little_to_show() -> None:
    bare = replace(
        NIGHT,
        bands=(Band("A", 0.01, 0, 0.0, None), Band("B", 1.0, 1, 1.0, 0.5), Band("thin", None, 0, 0.0, None)),
        users=1,
        histogram=tuple([0] * DECADES * BINS_A_DECADE),
        raising=(),
        lowering=(),
        fields=(),
        loss=None,
        payments_by_day={},
        quarantined={},
    )
    page = Page(render(bare, None, None))
    assert page.tables["bands"][1] == ["A", "1 %", "0", "0.0 %", "–"]
    assert not {"quality", "loss", "fields"} & set(page.tables)
    assert "raising" not in page.tables and page.texts["payments"] == "0"


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


def crowded() -> str:
    """The page of a large bank whose everything is long."""
    bands = ("A", "B", "C", "D", "E", "thin")
    moves = {(before, after): 12_345_678 for before in (*bands, "none") for after in (*bands, "none")}
    del moves["none", "none"]
    inputs = tuple(at_most("input_psi", 1.234, 0.25, 10**9, name) for name in (*NUMBERS, *CODES))
    long = "A merchant with a very long name and OneWordThatHasNoEndAnywhereInSightAtAll GmbH & Co. KG"
    night = replace(
        NIGHT,
        users=123_456_789,
        bands=tuple(Band(name, None if name == "thin" else 0.15, 23_456_789, 0.166, 0.0345) for name in bands),
        raising=tuple(Merchant(long, 12_345_678 - n, 1.75) for n in range(10)),
        payments_by_day={date(2025, 6, 30): 1_234_567_890},
        quarantined={"paid_at is before ingest.earliest_paid_on": 123_456_789},
    )
    migrations = tuple(Migration(period, date(2025, 6, 1), moves) for period in ("night", "month"))
    return render(night, watched=Watched((*MEASURED, *inputs), WATCHED.history, migrations))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("page", [render, crowded])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(tmp_path: Path, width: int, page: Callable[[], str]) -> None:
    """In a real browser, at a phone's width and at a desktop's."""
    measure = (
        "const page = frame.contentDocument; const wide = [...page.querySelectorAll('body *')].filter(e => "
        "!e.closest('svg') && !e.closest('.matrix') && e.getBoundingClientRect().right > frame.clientWidth + 1)"
        ".map(e => e.tagName + ' ' + e.textContent.trim().slice(0, 40));"
        "document.title = JSON.stringify({width: page.documentElement.scrollWidth, wide: wide})"
    )
    holder = tmp_path / "holder.html"
    holder.write_text(
        f'<iframe id="frame" style="border:0;width:{width}px;height:30000px" srcdoc="{html.escape(page())}" '
        f'onload="{html.escape(measure)}"></iframe>',
        encoding="utf-8",
    )
    found = json.loads(html.unescape(re.findall(r"<title>(.*?)</title>", browse(tmp_path, holder))[0]))
    assert found == {"width": width, "wide": []}


def browse(profile: Path, page: Path) -> str:
    """The page's elements once a headless Chromium has loaded it."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile / 'profile'}"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=5000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
