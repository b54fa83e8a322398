"""The report job: the page's numbers equal the tables'."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import functions as F
from report_page import Page
from score_rows import reason, score_frame, score_row

from jobs import report
from jobs.common import Job
from lbsf.errors import InputError
from lbsf.monitoring.history import collect_watched
from lbsf.schemas import BAND_MIGRATION, FOLD_LOSS, PAYMENTS, PAYMENTS_QUARANTINE, SCORE_MONITORING, SCORES
from lbsf.schemas.scores import THIN_BAND

NIGHT = date(2025, 7, 1)
AT = datetime(2025, 7, 1, 2, tzinfo=UTC)


def write_scores(job: Job, users: int = 60, model: str = "1") -> None:
    rng = np.random.default_rng(1)
    rows = []
    for user in range(users):
        thin = bool(rng.random() < 0.2)
        probability = 0.045 if thin else round(float(rng.beta(1, 12)), 6)
        reasons = [
            reason(f"m{m}", round(float(rng.normal()), 4), str(field) or None, "" if m == 3 else None)
            for m, field in zip(rng.permutation(15)[:3], rng.choice(["amount", "time", ""], 3), strict=True)
        ]
        band, reasons = (THIN_BAND, []) if thin else (None, reasons)
        rows.append(
            score_row(
                f"u{user}",
                NIGHT,
                probability,
                band,
                reasons=reasons,
                model_version=model,
                folds_version=5,
                scored_at=AT,
            )
        )
    job.warehouse.replace_day(SCORES, score_frame(job.spark, rows), NIGHT)
    earlier = NIGHT - timedelta(days=1)
    other = [row | {"score_date": earlier} for row in rows[:7]]
    job.warehouse.replace_day(SCORES, score_frame(job.spark, other), earlier)


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


def write_loss(job: Job) -> None:
    """Two bands of history of the night, one of another night, one of the examples."""
    rows = [
        (table, day, 5, "unknown", history, 30, 4, 900, 90, 80, 8, 5_000, 100, 0.1, 0.02)
        for table, day, history in (
            ("folds", NIGHT, "001-029"),
            ("folds", NIGHT, "180+"),
            ("folds", NIGHT - timedelta(days=1), "180+"),
            ("examples", NIGHT, "180+"),
        )
    ]
    job.warehouse.overwrite(FOLD_LOSS, job.spark.createDataFrame(rows, FOLD_LOSS.struct))


def write_monitoring(job: Job) -> None:
    """What monitor_scores would write of this night and of the 70 before it."""
    rows = [
        (NIGHT - timedelta(days=back), measure, segment, value + back / 1_000, 0.25, value > 0.25, 60, AT)
        for back in range(71)
        for measure, segment, value in (
            ("score_psi", "all", 0.3),
            ("input_psi", "hour", 0.01),
            ("thin_share", "all", 0.1),
        )
    ]
    moves = [
        (day, period, NIGHT - timedelta(days=9), before, after, users)
        for day, period in ((NIGHT, "night"), (NIGHT, "month"), (NIGHT - timedelta(days=1), "night"))
        for before, after, users in (("A", "A", 40), ("A", "thin", 10), ("none", "B", 7))
    ]
    job.warehouse.overwrite(SCORE_MONITORING, job.spark.createDataFrame(rows, SCORE_MONITORING.struct))
    job.warehouse.overwrite(BAND_MIGRATION, job.spark.createDataFrame(moves, BAND_MIGRATION.struct))


def test_the_page_shows_what_the_tables_hold(champion_job: Job) -> None:
    job = champion_job
    write_scores(job)
    days = write_payments(job)
    write_quarantine(job)
    write_loss(job)
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
        inside = [row["probability"] for row in scores if row["band"] == name.removesuffix(" file")]
        assert (int(users), share) == (len(inside), f"{100 * len(inside) / 60:.1f} %")
        assert mean_probability == (f"{100 * sum(inside) / len(inside):.2f} %" if inside else "–")
    assert sum(int(row[2]) for row in page.tables["bands"][1:]) == 60

    for table, direction in (("raising", "raises"), ("lowering", "lowers")):
        found = [one for row in scores for one in row["reasons"] if one["direction"] == direction]
        counted = Counter(one["merchant_id"] for one in found)
        expected = sorted(counted, key=lambda merchant: (-counted[merchant], merchant))[:10]
        names = {merchant: "m3" if merchant == "m3" else f"Shop {merchant}" for merchant in counted}
        assert len(expected) == 10
        assert [row[:2] for row in page.tables[table][1:]] == [[names[m], str(counted[m])] for m in expected]
        for merchant, row in zip(expected, page.tables[table][1:], strict=True):
            moved = [one["contribution"] for one in found if one["merchant_id"] == merchant]
            assert float(row[2].removeprefix("× ")) == pytest.approx(math.exp(sum(moved) / len(moved)), abs=0.0051)
        fields = Counter(one["field"] or "no field alone" for one in found)
        column = {"raises": 1, "lowers": 2}[direction]
        assert {row[0]: int(row[column]) for row in page.tables["fields"][1:]} == fields

    assert page.tables["loss"][1:] == [["payments", "10.00 %"], ["merchants", "10.00 %"], ["spending", "2.00 %"]]
    assert page.texts["users-cut"] == "8"
    assert page.texts["breach-count"] == "–" and "drift" not in page.tables
    assert page.tables["days"] == [[str(day), str(count)] for day, count in days.items()]
    assert page.texts["payments"] == "9"
    assert page.tables["quarantined"][1:] == [["amount is missing", "4"], ["unknown currency <XXX>", "1"]]
    assert page.tables["versions"][1:] == [
        ["scores", str(job.warehouse.version(SCORES))],
        ["payments", str(job.warehouse.version(PAYMENTS))],
        ["payments_quarantine", str(job.warehouse.version(PAYMENTS_QUARANTINE))],
        ["fold_loss", str(job.warehouse.version(FOLD_LOSS))],
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


def test_the_page_shows_what_was_watched(champion_job: Job) -> None:
    job = champion_job
    write_scores(job)
    write_payments(job)
    write_monitoring(job)
    page = Page(Path(report.run(job, as_of=NIGHT).details["report"]).read_text(encoding="utf-8"))
    assert page.texts["breach-count"] == "1"
    assert page.tables["breaches"][1] == ["PSI of the scores", "0.300", "0.250"]
    assert page.tables["drift"][1:] == [["the scores", "0.300", "0.250"], ["hour", "0.010", "0.250"]]
    assert page.tables["moves-night"][1:] == [["A", "50", "80", "", "20"], ["new", "7", "", "100", ""]]
    assert page.tables["counts-month"][1:] == [["A", "A", "40"], ["A", "thin", "10"], ["new", "B", "7"]]
    watched = collect_watched(job.warehouse.read(SCORE_MONITORING), job.warehouse.read(BAND_MIGRATION), NIGHT)
    assert watched is not None
    over_time = watched.history["score_psi", "all"]
    assert (len(over_time), min(over_time), over_time[NIGHT]) == (60, NIGHT - timedelta(days=59), 0.3)
    # Another night's rows do not stand in for this one's.
    job.warehouse.overwrite(
        SCORE_MONITORING, job.warehouse.read(SCORE_MONITORING).where(F.col("score_date") < F.lit(NIGHT))
    )
    page = Page(Path(report.run(job, as_of=NIGHT).details["report"]).read_text(encoding="utf-8"))
    assert page.texts["breach-count"] == "–" and "moves-night" not in page.tables


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
