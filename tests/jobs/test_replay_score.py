"""A past score is made again from the versions that its row names, whatever happened since."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from fold_rows import AS_OF, fold_row, in_table, payment, random_rows
from pyspark.sql import Row

from jobs import replay_score, score_users
from jobs.common import Job
from lbsf.errors import InputError
from lbsf.schemas import FOLDS, SCORES


def write_folds(job: Job, seed: int) -> list[dict[str, object]]:
    rows = [*random_rows(12, seed), fold_row("twins", {m: [payment(5), payment(40)] for m in "abcd"})]
    job.warehouse.replace_day(FOLDS, job.spark.createDataFrame(in_table(rows), FOLDS.struct), AS_OF)
    return rows


@pytest.fixture
def scored(champion_job: Job) -> Job:
    """A scored night whose folds were made anew, of other payments, after it."""
    write_folds(champion_job, seed=1)
    score_users.run(champion_job, as_of=AS_OF)
    write_folds(champion_job, seed=2)
    return champion_job


def test_every_score_is_reproduced_though_the_folds_changed_since(
    scored: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = {row["user_id"]: row for row in scored.warehouse.read(SCORES).collect()}
    for user in ("u0000", "u0003", "u0007", "twins"):
        capsys.readouterr()
        summary = replay_score.run(scored, user=user, score_date=AS_OF)
        assert summary.details["same"] == "yes" and not summary.findings and summary.details["folds version"] == 0
        assert summary.details["replayed"] == pytest.approx(stored[user]["probability"], abs=1.5e-6)
        shown = capsys.readouterr().out
        # A header, the probability, each reason, the summary; and nobody's id.
        assert len(shown.splitlines()) == 3 + len(stored[user]["reasons"]) and user not in shown


def test_a_score_that_somebody_changed_is_found_out(scored: Job) -> None:
    user = next(row["user_id"] for row in stored_scores(scored) if row["reasons"])
    store_changed(scored, lambda row: {"probability": row["probability"] / 2})
    (found,) = replay_score.run(scored, user=user, score_date=AS_OF).findings
    assert re.fullmatch(r"the replay differs: probability [0-9.]+ was stored, [0-9.]+ replayed", found)
    store_changed(scored, lambda row: {"probability": row["probability"] * 2, "reasons": louder(row["reasons"])})
    (found,) = replay_score.run(scored, user=user, score_date=AS_OF).findings
    assert re.match(r"the replay differs: reason \w+: [-0-9.]+ was stored, [-0-9.]+ replayed", found)


def test_a_finding_is_one_line_and_exit_code_3(
    scored: Job, overrides: list[str], champion_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store_changed(scored, lambda row: {"probability": 0.5})
    sets = [part for value in (*overrides, f"tracking.uri={champion_uri}") for part in ("--set", value)]
    assert replay_score.main(["--user", "u0003", "--score-date", str(AS_OF), *sets]) == 3
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1 and "u0003" not in error


def test_what_is_not_there_any_more_is_said(scored: Job) -> None:
    with pytest.raises(InputError, match="table scores has 0 scores of that user on 2025-07-01") as refused:
        replay_score.run(scored, user="nobody-known", score_date=AS_OF)
    assert "nobody-known" not in str(refused.value)
    with pytest.raises(InputError, match="0 scores of that user on 2024-01-01"):
        replay_score.run(scored, user="u0003", score_date=date(2024, 1, 1))
    store_changed(scored, lambda row: {"model_version": "99"})
    with pytest.raises(InputError, match="model lbsf version 99 cannot be loaded"):
        replay_score.run(scored, user="u0003", score_date=AS_OF)
    store_changed(scored, lambda row: {"model_version": "1", "folds_version": 77})
    with pytest.raises(InputError, match="table folds has no version 77"):
        replay_score.run(scored, user="u0003", score_date=AS_OF)
    store_changed(scored, lambda row: {"folds_version": 0})
    for file in scored.warehouse.data_files(FOLDS, 0):
        Path(file.path).unlink()
    with pytest.raises(InputError, match="table folds, version 0: its files are gone"):
        replay_score.run(scored, user="u0003", score_date=AS_OF)


def stored_scores(job: Job) -> list[dict[str, Any]]:
    return [row.asDict() for row in job.warehouse.read(SCORES).collect()]


def store_changed(job: Job, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Writes the scores again with some columns changed, as no job of ours would."""
    rows = [{**row, **change(row)} for row in stored_scores(job)]
    job.warehouse.replace_day(SCORES, job.spark.createDataFrame(rows, SCORES.struct), AS_OF)


def louder(reasons: list[Row]) -> list[dict[str, Any]]:
    return [{**reason.asDict(), "contribution": reason["contribution"] * 2} for reason in reasons]
