"""The ingest of labels as a whole job, on scratch files and a scratch warehouse."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession
from storage_faults import DiedError, die_before

from jobs import ingest_labels
from jobs.common import Job, Summary
from lbsf.errors import InputError
from lbsf.schemas import LABELS, LABELS_QUARANTINE

PROJECT = Path(__file__).resolve().parents[2]
REAL = PROJECT / "../shared/data/complete_journey"
HEADER = "customer,seen,bad,known"


@pytest.fixture
def mapping(tmp_path: Path) -> str:
    columns = {"user_id": "customer", "observed_on": "seen", "label": "bad", "matured_on": "known"}
    values = {"name": "outcomes", "table": "labels", "format": "csv", "path": "{project}/raw"}
    file = tmp_path / "conf" / "sources" / "outcomes.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(yaml.safe_dump({**values, "options": {"header": True}, "columns": columns}))
    return str(file)


def deliver(folder: Path, name: str, *lines: str) -> None:
    (folder / "raw").mkdir(exist_ok=True)
    (folder / "raw" / name).write_text("\n".join([HEADER, *lines]) + "\n")


def stored(job: Job) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in job.warehouse.read(LABELS).collect())


def reasons(job: Job) -> list[str]:
    return sorted(reason for row in job.warehouse.read(LABELS_QUARANTINE).collect() for reason in row["reasons"])


def figures(summary: Summary) -> tuple[Any, ...]:
    return summary.rows_in, summary.rows_out, summary.quarantined, summary.details["duplicates"]


def test_labels_their_re_run_and_a_second_delivery(job: Job, tmp_path: Path, mapping: str) -> None:
    first, second, known = date(2025, 1, 1), date(2025, 2, 1), date(2025, 3, 1)
    deliver(
        tmp_path,
        "a.csv",
        "u1,2025-01-01,1,2025-03-01",
        "u1,2025-02-01,0,2025-03-01",
        "u1,2025-02-01,0,2025-03-01",  # twice
        "u2,2025-01-01,0,2025-03-01",
        "u3,2025-01-01,0,2025-03-01",  # contradicts the next
        "u3,2025-01-01,1,2025-03-01",
        "u4,2025-01-01,2,2024-12-31",
    )
    assert figures(ingest_labels.run(job, source=mapping)) == (7, 3, 3, 1)
    rows = [("u1", first, 1, known), ("u1", second, 0, known), ("u2", first, 0, known)]
    assert stored(job) == rows
    refused = ["another row has another label"] * 2 + ["label is not 0 or 1", "matured_on is before observed_on"]
    assert reasons(job) == refused

    again = ingest_labels.run(job, source=mapping)
    assert figures(again) == (0, 0, 0, 0)
    assert (again.details["labels version"], again.details["read"], again.details["known before"]) == (0, 7, 7)
    assert (stored(job), reasons(job)) == (rows, refused)

    # A stored label is not turned over; a new user's is added.
    deliver(tmp_path, "b.csv", "u2,2025-01-01,1,2025-03-01", "u5,2025-01-01,1,2025-03-01")
    added = ingest_labels.run(job, source=mapping, path=f"{tmp_path}/raw/b.csv")
    assert figures(added) == (2, 1, 1, 0)
    assert (added.details["refused"], added.findings) == ("another label is stored 1", [])
    assert stored(job) == [*rows, ("u5", first, 1, known)]
    assert reasons(job) == sorted([*refused, "another label is stored"])
    # Both files together bring u2's first row too, which now contradicts the other.
    assert figures(ingest_labels.run(job, source=mapping)) == (1, 0, 1, 0)


def test_labels_without_a_full_day_are_refused_and_told(job: Job, tmp_path: Path, mapping: str) -> None:
    deliver(tmp_path, "a.csv", "u1,2025,1,2025-03-01", "u2,2025-01-01,1,2025-07", "u3,2025-01-01,0,2025-03-01")
    summary = ingest_labels.run(job, source=mapping)
    assert [row[0] for row in stored(job)] == ["u3"]
    assert reasons(job) == ["matured_on is missing or no day", "observed_on is missing or no day"]
    assert [finding.split(": ", 2)[2] for finding in summary.findings] == [
        "2 of 3 rows were refused, more than ingest.max_refused_share (0.5): matured_on is missing or no day 1, "
        "observed_on is missing or no day 1"
    ]


def test_a_mapping_of_payments_is_refused(
    spark: SparkSession, overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [argument for override in overrides for argument in ("--set", override)]
    assert ingest_labels.main(["--source", "conf/sources/complete_journey_payments.yaml", *arguments]) == 2
    assert "maps payments, this job takes a mapping of labels" in capsys.readouterr().err
    assert not (tmp_path / "warehouse").exists()


@pytest.mark.skipif(not REAL.is_dir(), reason="the Complete Journey files are not beside the project")
def test_complete_journey_from_its_mapping_alone(job: Job) -> None:
    assert figures(ingest_labels.run(job, source="conf/sources/complete_journey_labels.yaml")) == (801, 801, 0, 0)
    rows = stored(job)
    assert {row[1] for row in rows} == {date(2018, 1, 1)}
    # Under 15K, 15 to 24K and 25 to 34K: 61, 74 and 77 households.
    assert sum(row[2] for row in rows) == 212


def test_a_run_killed_between_its_two_writes_is_made_good_by_the_next(
    job: Job, tmp_path: Path, mapping: str, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path, "a.csv", "u1,2025-01-01,1,2025-03-01", "u4,2025-01-01,2,2025-03-01")
    die_before(monkeypatch, LABELS)
    with pytest.raises(DiedError):
        ingest_labels.run(job, source=mapping)
    monkeypatch.undo()
    assert job.warehouse.exists(LABELS_QUARANTINE) and not job.warehouse.exists(LABELS)
    assert figures(ingest_labels.run(job, source=mapping)) == (1, 1, 0, 0)
    assert reasons(job) == ["label is not 0 or 1"]


def test_labels_that_another_delivery_overtook_are_compared_with_it_by_the_next_run(
    job: Job, tmp_path: Path, mapping: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path, "a.csv", "u1,2025-01-01,1,2025-03-01", "u2,2025-01-01,1,2025-03-01")
    deliver(tmp_path, "b.csv", "u1,2025-01-01,0,2025-03-01")
    insert = job.warehouse.insert_new

    def overtaken(table: Any, *arguments: Any, **named: Any) -> int:
        if table is LABELS:
            monkeypatch.undo()
            ingest_labels.run(job, source=mapping, path=f"{tmp_path}/raw/b.csv")
        return insert(table, *arguments, **named)

    monkeypatch.setattr(job.warehouse, "insert_new", overtaken)
    with pytest.raises(InputError, match="^table labels: another job wrote the table meanwhile; run this again$"):
        ingest_labels.run(job, source=mapping, path=f"{tmp_path}/raw/a.csv")
    assert figures(ingest_labels.run(job, source=mapping, path=f"{tmp_path}/raw/a.csv")) == (2, 1, 1, 0)
    assert [row[0:3] for row in stored(job)] == [("u1", date(2025, 1, 1), 0), ("u2", date(2025, 1, 1), 1)]
    assert reasons(job) == ["another label is stored"]
