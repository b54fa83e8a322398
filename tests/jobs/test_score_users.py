"""The scoring job over real Delta tables and a real registry: scores, re-runs, refusals."""

from __future__ import annotations

import math
from datetime import date

import pytest
from fold_rows import AS_OF, FOLD, THIN, in_table, pack, random_rows, small_model
from pyspark.sql import functions as F

from jobs import score_users
from jobs.common import Job
from lbsf.errors import InputError
from lbsf.schemas import FOLDS, SCORES
from lbsf.schemas.scores import THIN_BAND
from lbsf.scoring import score_batch

NEXT = date(2025, 7, 2)
LATER = date(2025, 7, 5)


def write_folds(job: Job, as_of: date, users: int = 40, **changes: object) -> list[dict[str, object]]:
    rows = [{**row, "as_of": as_of, **changes} for row in random_rows(users, seed=1)]
    job.warehouse.replace_day(FOLDS, job.spark.createDataFrame(in_table(rows), FOLDS.struct), as_of)
    return rows


def test_a_night_is_scored_by_the_champion(champion_job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    job = champion_job
    rows = write_folds(job, AS_OF)
    summary = score_users.run(job, as_of=AS_OF)

    scores = job.warehouse.read(SCORES).orderBy("user_id").collect()
    assert [row["user_id"] for row in scores] == [row["user_id"] for row in rows]
    expected = score_batch(*small_model(), pack(rows), reasons=job.config.scoring.reasons)
    assert [row["probability"] for row in scores] == pytest.approx(expected.probability, abs=2e-6)
    assert [len(row["reasons"]) for row in scores] == expected.reason_count.tolist()
    thin = [row["payments_kept"] == 0 for row in rows]
    assert [row["thin_file"] for row in scores] == thin and 0 < sum(thin) < len(thin)
    assert all(row["change"] is None and row["payments_version"] == 0 for row in scores)
    limits = job.config.scoring.bands
    for row in scores:
        if row["thin_file"]:
            assert (row["band"], row["percentile"], row["probability"]) == (THIN_BAND, None, THIN.probability)
            continue
        assert row["band"] == next(name for name, limit in limits.items() if row["probability"] <= limit)
        below = sum(other["probability"] < row["probability"] for other in scores if not other["thin_file"])
        assert row["percentile"] == pytest.approx(100 * below / (len(scores) - sum(thin)))
    assert {(row["score_date"], row["model_name"], row["model_version"], row["folds_version"]) for row in scores} == {
        (AS_OF, "lbsf", "1", 0)
    }

    assert (summary.rows_in, summary.rows_out) == (40, 40)
    assert summary.details["thin files"] == sum(thin)
    counts = {name: sum(row["band"] == name for row in scores) for name in limits}
    assert summary.details["since"] == "no earlier night"
    assert summary.details["bands"] == " ".join(f"{name}:{count}" for name, count in counts.items())
    assert len(capsys.readouterr().out.strip().splitlines()) == 1


def test_the_second_night_says_what_changed_since_the_first(champion_job: Job) -> None:
    job = champion_job
    write_folds(job, AS_OF, users=30)
    score_users.run(job, as_of=AS_OF)
    write_folds(job, LATER)
    summary = score_users.run(job, as_of=LATER)
    assert summary.details["since"] == AS_OF
    scores = job.warehouse.read(SCORES)
    first = {row["user_id"]: row for row in scores.where(F.col("score_date") == F.lit(AS_OF)).collect()}
    second = scores.where(F.col("score_date") == F.lit(LATER)).collect()
    assert len(second) == 40
    for row in second:
        before = first.get(row["user_id"])
        if before is None or row["thin_file"]:
            assert row["change"] is None
            continue
        assert (row["change"]["since"], row["change"]["probability"]) == (AS_OF, before["probability"])
        # The same payments were folded on both days: none is new, all are older.
        assert (row["change"]["new_payments"], row["change"]["by_new_payments"]) == (0, 0.0)
        moved = math.log(row["probability"] / (1 - row["probability"]))
        moved -= math.log(before["probability"] / (1 - before["probability"]))
        assert row["change"]["contribution"] == pytest.approx(moved, abs=1e-3)
    assert sum(row["change"] is not None for row in second) > 20
    # Scored again, the first night still has nothing before it.
    assert score_users.run(job, as_of=AS_OF).details["since"] == "no earlier night"


def test_a_rerun_replaces_its_own_night_alone(champion_job: Job) -> None:
    job = champion_job
    write_folds(job, AS_OF)
    write_folds(job, NEXT, users=10)
    for night in (AS_OF, NEXT):
        score_users.run(job, as_of=night)
    first = job.warehouse.read(SCORES).drop("scored_at").orderBy("score_date", "user_id").collect()
    assert len(first) == 50
    write_folds(job, NEXT, users=8)
    score_users.run(job, as_of=NEXT)
    again = job.warehouse.read(SCORES).where(F.col("score_date") == F.lit(AS_OF)).drop("scored_at")
    assert again.orderBy("user_id").collect() == first[:40]
    assert job.warehouse.read(SCORES).count() == 48
    # Spark's own batch size is handed back to the session.
    assert job.spark.conf.get(score_users.ARROW_ROWS) == "10000"


def test_refusals_write_nothing(champion_job: Job, job: Job) -> None:
    with pytest.raises(InputError, match="table folds does not exist"):
        score_users.run(champion_job, as_of=AS_OF)
    write_folds(champion_job, AS_OF)
    with pytest.raises(InputError, match="--as-of 2025-07-02: table folds has none of that day"):
        score_users.run(champion_job, as_of=NEXT)
    other = FOLD.model_copy(update={"window_days": 45}).spec
    write_folds(champion_job, NEXT, fold_spec=other)
    with pytest.raises(InputError, match=f"the model reads folds of spec {FOLD.spec}, these are {other}"):
        score_users.run(champion_job, as_of=NEXT)
    # `job` has the same warehouse, and a registry of its own that is empty.
    with pytest.raises(InputError, match="no champion"):
        score_users.run(job, as_of=AS_OF)
    assert not job.warehouse.exists(SCORES)


def test_a_refusal_is_one_line_and_exit_code_2(
    job: Job, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [argument for override in overrides for argument in ("--set", override)]
    assert score_users.main(["--as-of", str(AS_OF), *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    with pytest.raises(SystemExit) as stopped:
        score_users.main(["--as-of", "yesterday", *arguments])
    assert stopped.value.code == 2 and "not a day" in capsys.readouterr().err
    assert not job.warehouse.exists(SCORES)
