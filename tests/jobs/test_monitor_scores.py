"""The monitoring job over real Delta tables and a real registry: rows, findings, re-runs, refusals."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fold_rows import AS_OF, in_table, pack, random_rows, small_model
from pyspark.sql import Row
from pyspark.sql import functions as F
from score_rows import Row as ScoreRow
from score_rows import score_frame, score_row
from storage_faults import DiedError, die_before

from jobs import monitor_scores
from jobs.common import Job
from lbsf.errors import InputError
from lbsf.evaluation.reference import CODES, NUMBERS, Reference, count, make_reference
from lbsf.folds.packed import LIST_COLUMNS
from lbsf.models.artifact import save_model
from lbsf.schemas import BAND_MIGRATION, FOLDS, LABELS, PAYMENTS, PAYMENTS_QUARANTINE, SCORE_MONITORING, SCORES
from lbsf.schemas.scores import THIN_BAND

USERS = 200
LAST_NIGHT = AS_OF - timedelta(days=1)
MONTH_AGO = AS_OF - timedelta(days=33)
FOLD_ROWS = random_rows(USERS, seed=1)
IDS = [str(row["user_id"]) for row in FOLD_ROWS]
PROBABILITY = np.random.default_rng(0).beta(1, 20, USERS).round(6)
NEW = {"monitored_at"}


@pytest.fixture
def watched(champion_job: Job, tmp_path: Path) -> Job:
    """Three scored nights of users whom the model knows, payments every day, matured labels; nothing to find."""
    job = champion_job
    version = register(job, tmp_path / "saved", make_reference(count(pack(FOLD_ROWS)), PROBABILITY))
    rows = [score_row(user, AS_OF, float(p)) for user, p in zip(IDS[:-5], PROBABILITY, strict=False)]
    rows += [score_row(user, AS_OF, 0.045, THIN_BAND) for user in IDS[-5:]]
    for night in (AS_OF, LAST_NIGHT, MONTH_AGO):
        write_scores(job, night, [row | {"score_date": night, "model_version": version} for row in rows])
    job.warehouse.replace_day(FOLDS, job.spark.createDataFrame(in_table(FOLD_ROWS), FOLDS.struct), AS_OF)
    write_payments(job, last_day=40)
    labels = [
        (user, MONTH_AGO + timedelta(days=2), int(p > 0.1), AS_OF) for user, p in zip(IDS, PROBABILITY, strict=True)
    ]
    labels += [(user, LAST_NIGHT, 1, AS_OF + timedelta(days=1)) for user in IDS]
    job.warehouse.overwrite(LABELS, job.spark.createDataFrame(labels, LABELS.struct))
    return job


def register(job: Job, folder: Path, reference: Reference) -> str:
    """A version of the model with a reference; not the champion, for the rows name their model themselves."""
    save_model(folder, *small_model())
    reference.save(folder)
    example = pd.DataFrame(random_rows(4, seed=9))[["as_of", "fold_spec", *LIST_COLUMNS]]
    with job.tracker.run("train") as run:
        return job.tracker.register(run, folder, example.assign(as_of=pd.to_datetime(example["as_of"]))).version


def write_scores(job: Job, night: date, rows: list[ScoreRow]) -> None:
    """The scores of a night, made in that night."""
    at = datetime.combine(night, time(2), UTC)
    rows = [row | {"scored_at": at} for row in rows]
    job.warehouse.replace_day(SCORES, score_frame(job.spark, rows), night)


def write_payments(job: Job, last_day: int) -> None:
    """40 payments a day of 40 users, each delivered in the night after it; `last_day` of them on the last."""
    rows = [
        (f"p{back}-{number}", IDS[number], "m", paid_at, paid_at.date(), Decimal(5), "EUR", None, None, None, None,
         datetime.combine(paid_at.date(), time(1), UTC) + timedelta(days=1), "hand", paid_at.date().replace(day=1), 0)
        for back in range(1, 60)
        for paid_at in [datetime.combine(AS_OF, time(12), UTC) - timedelta(days=back)]
        for number in range(last_day if back == 1 else 40)
    ]  # fmt: skip
    job.warehouse.overwrite(PAYMENTS, job.spark.createDataFrame(rows, PAYMENTS.struct))


def stored(job: Job, as_of: date = AS_OF) -> dict[tuple[str, str], Row]:
    rows = job.warehouse.read(SCORE_MONITORING).where(F.col("score_date") == F.lit(as_of)).collect()
    assert len({(row["measure"], row["segment"]) for row in rows}) == len(rows)
    return {(row["measure"], row["segment"]): row for row in rows}


def values(rows: dict[tuple[str, str], Row]) -> dict[tuple[str, str], tuple[object, ...]]:
    """Everything but when it was measured."""
    return {key: tuple(value for name, value in row.asDict().items() if name not in NEW) for key, row in rows.items()}


def test_a_quiet_night_is_measured_whole(watched: Job, capsys: pytest.CaptureFixture[str]) -> None:
    summary = monitor_scores.run(watched, as_of=AS_OF)
    rows = stored(watched)
    assert (summary.rows_in, summary.rows_out, summary.details["breaches"]) == (USERS, len(rows), 0)
    assert len(capsys.readouterr().out.strip().splitlines()) == 1
    # The very folds that the model was trained on.
    for name in (*NUMBERS, *CODES):
        assert rows["input_psi", name]["value"] == pytest.approx(0, abs=1e-9)
    assert 0 <= rows["score_psi", "all"]["value"] < 0.1 and rows["score_psi", "all"]["counted"] == USERS - 5
    assert rows["users", "all"]["value"] == USERS and rows["users_change", "all"]["value"] == 0
    assert rows["thin_share", "all"]["value"] == 5 / USERS
    assert rows["without_fold_share", "all"]["value"] == rows["without_score_share", "all"]["value"] == 0
    assert rows["payments_day", "all"]["value"] == 40 and rows["payments_week_change", "all"]["value"] == 0
    for period in ("night", "month"):
        assert rows["moved_up", period]["value"] == rows["moved_down", period]["value"] == 0
    # Labels of tomorrow are not known yet.
    assert rows["matured_users", "all"]["value"] == USERS
    assert rows["matured_defaults", "all"]["value"] == (PROBABILITY > 0.1).sum()
    assert rows["late_share", "all"]["counted"] == 40  # came since last night was scored
    assert not any(row["breached"] for row in rows.values())

    moves = watched.warehouse.read(BAND_MIGRATION).collect()
    assert {(row["period"], row["since"]) for row in moves} == {("night", LAST_NIGHT), ("month", MONTH_AGO)}
    assert sum(row["users"] for row in moves if row["period"] == "night") == USERS
    assert all(row["from_band"] == row["to_band"] for row in moves)


def test_findings_are_written_first_and_then_told(
    watched: Job, overrides: list[str], champion_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_payments(watched, last_day=0)
    # A quarter moves to the riskiest band, and one user who paid has no fold and no score.
    night = watched.warehouse.read(SCORES).where(F.col("score_date") == F.lit(AS_OF)).orderBy("user_id").collect()
    moved = [row.asDict(recursive=True) for row in night if row["user_id"] != IDS[1]]
    moved = [row | ({"probability": 0.9, "band": "E"} if n < 50 else {}) for n, row in enumerate(moved)]
    write_scores(watched, AS_OF, [row | {"folds_version": 1, "payments_version": 1} for row in moved])
    folds = [row for row in FOLD_ROWS if row["user_id"] != IDS[1]]
    watched.warehouse.replace_day(FOLDS, watched.spark.createDataFrame(in_table(folds), FOLDS.struct), AS_OF)

    sets = [part for value in (*overrides, f"tracking.uri={champion_uri}") for part in ("--set", value)]
    sets += ["--set", "monitoring.min_counted=30"]
    capsys.readouterr()
    assert monitor_scores.main(["--as-of", str(AS_OF), *sets]) == 3
    printed = capsys.readouterr()
    rows = stored(watched)
    breached = {key for key, row in rows.items() if row["breached"]}
    assert breached == {
        ("score_psi", "all"),
        ("moved_two_bands", "night"),
        ("moved_up", "night"),
        ("without_fold_share", "all"),
        ("payments_day_change", "all"),
    }
    assert rows["payments_day_change", "all"]["value"] == -1
    assert rows["payments_day_change", "all"]["threshold"] == -0.6
    assert rows["without_fold_share", "all"]["value"] == 1 / 40
    lines = printed.out.strip().splitlines()
    assert len(lines) == 1 + len(breached) and all("look at" in line for line in lines[1:])
    assert (
        "payments_day_change all: -100 % is below -60 % (40 counted); look at whether the last delivery" in printed.out
    )
    assert len(printed.err.strip().splitlines()) == 1 and "5 of " in printed.err
    assert not any(user in printed.out + printed.err for user in IDS)


def test_a_rerun_gives_the_same_rows_and_leaves_other_nights_alone(watched: Job) -> None:
    monitor_scores.run(watched, as_of=AS_OF)
    first, moves = values(stored(watched)), watched.warehouse.read(BAND_MIGRATION).collect()
    # What came in later changes nothing: the night saw the versions that its scores name.
    write_payments(watched, last_day=0)
    empty = watched.spark.createDataFrame(in_table(random_rows(5, seed=3)), FOLDS.struct)
    watched.warehouse.replace_day(FOLDS, empty, AS_OF)
    later = AS_OF + timedelta(days=1)
    quarantined = [("q", "{}", ["amount is missing"], 900, "hand", "f", "r", datetime.combine(later, time(9), UTC))]
    watched.warehouse.overwrite(
        PAYMENTS_QUARANTINE, watched.spark.createDataFrame(quarantined, PAYMENTS_QUARANTINE.struct)
    )
    other = [row | {"score_date": later} for row in (r.asDict() for r in stored(watched).values())]
    watched.warehouse.replace_day(
        SCORE_MONITORING, watched.spark.createDataFrame(other, SCORE_MONITORING.struct), later
    )
    monitor_scores.run(watched, as_of=AS_OF)
    assert values(stored(watched)) == first
    assert sorted(watched.warehouse.read(BAND_MIGRATION).collect()) == sorted(moves)
    assert len(stored(watched, later)) == len(first)


def test_the_first_night_has_nothing_to_compare_with(watched: Job) -> None:
    for night in (LAST_NIGHT, MONTH_AGO):
        watched.warehouse.replace_day(SCORES, score_frame(watched.spark, []), night)
    summary = monitor_scores.run(watched, as_of=AS_OF)
    rows = stored(watched)
    assert summary.details["since"] == "no earlier night"
    assert rows["users_change", "all"]["value"] is None and rows["late_share", "all"]["value"] is None
    assert rows["matured_users", "all"]["value"] == 0 and rows["matured_auc", "all"]["value"] is None
    assert ("moved_up", "night") not in rows
    assert watched.warehouse.read(BAND_MIGRATION).count() == 0


def test_refusals_write_nothing(watched: Job) -> None:
    def refused(message: str, rows: slice = slice(None), **changes: object) -> None:
        """Some rows changed, as no job of ours would."""
        changed = [row["user_id"] for row in night[rows]]
        write_scores(watched, AS_OF, [row | (changes if row["user_id"] in changed else {}) for row in night])
        with pytest.raises(InputError, match=message):
            monitor_scores.run(watched, as_of=AS_OF)

    stored_rows = watched.warehouse.read(SCORES).where(F.col("score_date") == F.lit(AS_OF)).collect()
    night = [row.asDict(recursive=True) for row in stored_rows]
    with pytest.raises(InputError, match="--as-of 2024-01-01: table scores has none of that night"):
        monitor_scores.run(watched, as_of=date(2024, 1, 1))
    refused(
        r"several models or folds \(lbsf version 1, lbsf version \d+\): score that night anew",
        slice(1),
        model_version="1",
    )
    refused("model lbsf version 99 cannot be loaded", model_version="99")
    refused("table folds has no version 77", folds_version=77)
    refused("table payments has no version 77", payments_version=77)
    for file in watched.warehouse.data_files(FOLDS, 0):
        Path(file.path).unlink()
    refused("files of the folds or payments that these scores were made from are gone")
    assert not watched.warehouse.exists(SCORE_MONITORING) and not watched.warehouse.exists(BAND_MIGRATION)


def test_a_run_killed_between_its_two_writes_is_made_good_by_the_next(
    watched: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_before(monkeypatch, SCORE_MONITORING)
    with pytest.raises(DiedError):
        monitor_scores.run(watched, as_of=AS_OF)
    monkeypatch.undo()
    assert watched.warehouse.exists(BAND_MIGRATION) and not watched.warehouse.exists(SCORE_MONITORING)
    moved = watched.warehouse.read(BAND_MIGRATION).drop("monitored_at").collect()
    assert monitor_scores.run(watched, as_of=AS_OF).rows_out == len(stored(watched))
    assert sorted(watched.warehouse.read(BAND_MIGRATION).drop("monitored_at").collect()) == sorted(moved)
