"""Jobs that read a damaged file say which one it is, and which job writes it anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from fold_rows import AS_OF, in_table, random_rows
from storage_faults import DAMAGES, damage

from jobs import build_examples, pretrain_model, report, score_users, train_model
from jobs.common import Job
from lbsf.errors import InputError
from lbsf.schemas import EXAMPLES, FOLDS, LABELS, PAYMENTS, SCORES, TableSchema


def damaged_file(job: Job, table: TableSchema, how: str) -> Path:
    return damage(job.warehouse.data_files(table, job.warehouse.version(table))[0].path, how)


def write_folds(job: Job) -> None:
    rows = [{**row, "user_bucket": number % 2} for number, row in enumerate(in_table(random_rows(40, seed=1)))]
    job.warehouse.replace_day(FOLDS, job.spark.createDataFrame(rows, FOLDS.struct), AS_OF)


@pytest.mark.parametrize("how", DAMAGES)
def test_examples(champion_job: Job, how: str) -> None:
    job = champion_job
    rows = [
        {
            **{name: row[name] for name in row if name in EXAMPLES.struct.names},
            "as_of": AS_OF,
            "label": number % 2,
            "matured_on": AS_OF,
            "split": ("train", "validation", "test")[number % 3],
        }
        for number, row in enumerate(random_rows(60, seed=1))
    ]
    job.warehouse.overwrite(EXAMPLES, job.spark.createDataFrame(rows, EXAMPLES.struct).coalesce(1))
    for file in job.warehouse.data_files(EXAMPLES, 0):
        damage(file.path, how)
    with pytest.raises(InputError, match=r"^table examples: file \S+ .*; build the examples anew: build_examples$"):
        train_model.run(job)


@pytest.mark.parametrize("how", DAMAGES)
def test_folds_and_scores(champion_job: Job, how: str) -> None:
    job = champion_job
    write_folds(job)
    score_users.run(job, as_of=AS_OF)
    for file in job.warehouse.data_files(SCORES, job.warehouse.version(SCORES)):
        damage(file.path, how)
    job.warehouse.overwrite(PAYMENTS, job.spark.createDataFrame([], PAYMENTS.struct))
    with pytest.raises(
        InputError, match=rf"^table scores: file \S+ .*; score that day anew: score_users --as-of {AS_OF}"
    ):
        report.run(job, as_of=AS_OF)
    score_users.run(job, as_of=AS_OF)  # As the line says.

    version = job.warehouse.version(SCORES)
    for file in job.warehouse.data_files(FOLDS, job.warehouse.version(FOLDS)):
        damage(file.path, how)
    remedy = f"; fold that day anew: fold_payments --as-of {AS_OF} --full$"
    with pytest.raises(InputError, match=rf"^table folds: file \S+ .*{remedy}"):
        score_users.run(job, as_of=AS_OF)
    assert job.warehouse.version(SCORES) == version
    if how != "garbled":
        with pytest.raises(InputError, match=rf"^table folds: file \S+ .*{remedy}"):
            pretrain_model.run(job, as_of=[AS_OF])


def test_labels(job: Job) -> None:
    labels = [("u1", AS_OF, 1, AS_OF), ("u2", AS_OF, 0, AS_OF)]
    job.warehouse.overwrite(LABELS, job.spark.createDataFrame(labels, LABELS.struct).coalesce(1))
    job.warehouse.overwrite(PAYMENTS, job.spark.createDataFrame([], PAYMENTS.struct))
    file = damaged_file(job, LABELS, "cut")
    with pytest.raises(
        InputError, match=rf"^table labels: file {file} cannot be read .*; restore it from a copy; without"
    ):
        build_examples.run(job)
