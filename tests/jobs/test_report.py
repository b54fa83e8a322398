"""The report job: the page's numbers equal the tables'."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from report_page import Page

from jobs import report
from jobs.common import Job
from lbsf.errors import InputError
from lbsf.schemas import PAYMENTS, PAYMENTS_QUARANTINE, SCORES

NIGHT = date(2025, 7, 1)
AT = datetime(2025, 7, 1, 2, tzinfo=UTC)


def write_scores(job: Job, users: int = 60, model: str = "1") -> None:
    rng = np.random.default_rng(1)
    bands = job.config.scoring.bands
    rows = []
    for user in range(users):
        probability = round(float(rng.beta(1, 12)), 6)
        band = next(name for name, limit in bands.items() if probability <= limit)
        reasons = [
            {
                "merchant_id": f"m{merchant}",
                "merchant_name": "" if merchant == 3 else f"Shop {merchant}",
                "direction": "raises" if contribution > 0 else "lowers",
                "contribution": contribution,
            }
            for merchant in rng.permutation(15)[:3]
            for contribution in [round(float(rng.normal()), 4)]
        ]
        thin = bool(rng.random() < 0.2)
        rows.append((NIGHT, f"u{user}", probability, band, 0.0, thin, reasons, "lbsf", model, 5, AT))
    job.warehouse.replace_day(SCORES, job.spark.createDataFrame(rows, SCORES.struct), NIGHT)
    earlier = NIGHT - timedelta(days=1)
    other = [(earlier, *row[1:]) for row in rows[:7]]
    job.warehouse.replace_day(SCORES, job.spark.createDataFrame(other, SCORES.struct), earlier)


def write_payments(job: Job) -> dict[date, int]:
    """One payment more each day, from before the window's first day to after its last."""
    days = [NIGHT + timedelta(days=offset) for offset in (-181, -180, -90, -1, 0)]
    rows = [
        (f"p{day}{number}", "u1", "m1", datetime(day.year, day.month, day.day, 9, tzinfo=UTC), day, Decimal("9.50"),
         "EUR", None, None, None, None, AT, "hand", day.replace(day=1), 0)
        for place, day in enumerate(days)
        for number in range(place + 1)
    ]  # fmt: skip
    job.warehouse.insert_new(PAYMENTS, job.spark.createDataFrame(rows, PAYMENTS.struct), ["payment_id"])
    return {days[1]: 2, days[2]: 3, days[3]: 4}


def write_quarantine(job: Job) -> None:
    rows = [
        ("q1", "{}", ["amount is missing"], 3, "hand", "f", "r", AT),
        ("q2", "{}", ["amount is missing", "unknown currency <XXX>"], 1, "hand", "f", "r", AT),
    ]
    quarantine = job.spark.createDataFrame(rows, PAYMENTS_QUARANTINE.struct)
    job.warehouse.insert_new(PAYMENTS_QUARANTINE, quarantine, ["quarantine_id"])


def test_the_page_shows_what_the_tables_hold(champion_job: Job) -> None:
    job = champion_job
    write_scores(job)
    days = write_payments(job)
    write_quarantine(job)
    summary = report.run(job, as_of=NIGHT, best_auc=0.8)
    path = Path(summary.details["report"])
    assert path == job.root / "reports" / "2025-07-01.html" and summary.rows_in == 60
    page = Page(path.read_text(encoding="utf-8"))

    scores = [row for row in job.warehouse.read(SCORES).collect() if row["score_date"] == NIGHT]
    assert page.texts["users"] == "60"
    assert page.texts["thin-files"] == str(sum(row["thin_file"] for row in scores))
    mean = sum(row["probability"] for row in scores) / len(scores)
    assert page.texts["mean-probability"] == f"{100 * mean:.2f} %"
    for name, _, users, share, mean_probability in page.tables["bands"][1:]:
        inside = [row["probability"] for row in scores if row["band"] == name]
        assert (int(users), share) == (len(inside), f"{100 * len(inside) / 60:.1f} %")
        assert mean_probability == (f"{100 * sum(inside) / len(inside):.2f} %" if inside else "–")
    assert sum(int(row[2]) for row in page.tables["bands"][1:]) == 60

    raising = [reason for row in scores for reason in row["reasons"] if reason["direction"] == "raises"]
    counted = Counter(reason["merchant_id"] for reason in raising)
    expected = sorted(counted, key=lambda merchant: (-counted[merchant], merchant))[:10]
    names = {merchant: "m3" if merchant == "m3" else f"Shop {merchant[1:]}" for merchant in counted}
    assert len(expected) == 10
    assert [row[:2] for row in page.tables["merchants"][1:]] == [[names[m], str(counted[m])] for m in expected]
    for merchant, row in zip(expected, page.tables["merchants"][1:], strict=True):
        moved = [reason["contribution"] for reason in raising if reason["merchant_id"] == merchant]
        assert float(row[2].removeprefix("× ")) == pytest.approx(math.exp(sum(moved) / len(moved)), abs=0.0051)

    assert page.tables["days"] == [[str(day), str(count)] for day, count in days.items()]
    assert page.texts["payments"] == "9"
    assert page.tables["quarantined"][1:] == [["amount is missing", "4"], ["unknown currency <XXX>", "1"]]
    assert page.tables["versions"][1:] == [
        ["scores", str(job.warehouse.version(SCORES))],
        ["payments", str(job.warehouse.version(PAYMENTS))],
        ["payments_quarantine", str(job.warehouse.version(PAYMENTS_QUARANTINE))],
        ["folds, as scored", "5"],
    ]
    metrics = job.tracker.fetch("champion").metrics
    for row, name in zip(page.tables["quality"][1:], ("auc", "ks", "pr_auc", "brier"), strict=True):
        assert row[1:] == [f"{metrics[f'{who}out_of_time.{name}']:.4f}" for who in ("", "lightgbm.")]
    assert page.texts["best-auc"] == "0.8000"

    # After a re-scoring by another model the old page is replaced, whole.
    write_scores(job, users=9, model="2")
    report.run(job, as_of=NIGHT)
    text = path.read_text(encoding="utf-8")
    assert Page(text).texts["users"] == "9" and "This night was scored with lbsf version 2" in text
    assert [file.name for file in path.parent.iterdir()] == ["2025-07-01.html"]


def test_refusals_write_no_page(champion_job: Job, job: Job) -> None:
    with pytest.raises(InputError, match="table scores does not exist"):
        report.run(champion_job, as_of=NIGHT)
    write_scores(job, users=3)
    write_payments(job)
    with pytest.raises(InputError, match="--as-of 2024-01-01: table scores has none of that night"):
        report.run(champion_job, as_of=date(2024, 1, 1))
    with pytest.raises(InputError, match="no champion"):
        report.run(job, as_of=NIGHT)
    assert not (job.root / "reports").exists()


def test_help_explains_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        report.main(["--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0 and "self-contained HTML page" in shown and "--best-auc" in shown
