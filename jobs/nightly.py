"""Run a whole night: ingest, fold, score, monitor, report; record each step in table nightly_runs.

Run again after a failure, it resumes at the step that failed. Nights missed since the last finished one are done
first, at most nightly.catch_up_nights of them. A second run at the same time is refused.

Exit code 0: every night is done. 2: a step failed; the line says which. 130, 143: SIGINT (Ctrl-C) or SIGTERM ended the
run; the step is recorded as failed. 3: all is done, and monitoring or an ingest found something that a person must look
at; also when such a night is run again.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, date, datetime

from jobs import fold_payments, ingest_labels, ingest_payments, monitor_scores, report, score_users
from jobs.common import Job, Summary, day, exclusive_lock, run_main
from jobs.ending import lost_spark
from lbsf.catch_up import DONE, FAILED, FINDING, STARTED, missing_nights, remaining_steps
from lbsf.schemas import NIGHTLY_RUNS
from lbsf.session import in_utc
from lbsf.tables import replace_small_day


def _ingest(job: Job, as_of: date) -> Summary:
    return ingest_payments.run(job, source=job.config.nightly.payments)


def _labels(job: Job, as_of: date) -> Summary:
    if job.config.nightly.labels is None:
        return Summary("ingest_labels", details={"left out": "nightly.labels is null"})
    return ingest_labels.run(job, source=job.config.nightly.labels)


# The steps of a night, in order. The steps of a delivery are done once per run, for any number of nights.
DELIVERY: dict[str, Callable[[Job, date], Summary]] = {"ingest": _ingest, "labels": _labels}
STEPS: dict[str, Callable[[Job, date], Summary]] = {
    **DELIVERY,
    "fold": lambda job, as_of: fold_payments.run(job, as_of=[as_of]),
    "score": lambda job, as_of: score_users.run(job, as_of=as_of),
    "monitor": lambda job, as_of: monitor_scores.run(job, as_of=as_of),
    "report": lambda job, as_of: report.run(job, as_of=as_of),
}


@dataclass(frozen=True)
class Record:
    """One row of nightly_runs."""

    as_of: date
    step: str
    number: int
    outcome: str
    attempt: int
    started_at: datetime
    ended_at: datetime | None
    rows_in: int | None
    rows_out: int | None
    quarantined: int | None
    details: str | None
    message: str | None
    run_id: str
    code_version: str


def run(job: Job, *, as_of: date, only: bool = False, again: bool = False) -> Summary:
    """Run the night, after any missed nights.

    Args:
        job: configuration, session and tables.
        as_of: the night.
        only: skip missed nights.
        again: run all steps of `as_of`, even those recorded as done.

    Returns:
        The summary, with the findings of all steps of these nights.

    Raises:
        InputError: another run is active, or a step refused its input; later steps are not started then.
    """
    refusal = "another nightly run is at work here; wait until it ends"
    with exclusive_lock(job.root, "nightly", refusal), job.step("nightly") as summary:
        night_log = NightLog(job)
        ended_well = {night: not remaining_steps(list(STEPS), steps) for night, steps in night_log.nights.items()}
        due, left_out = missing_nights(ended_well, as_of, 0 if only else job.config.nightly.catch_up_nights)
        if left_out and not only:
            print(f"  nights {left_out[0]} to {left_out[-1]} were missed too long ago to be caught up", flush=True)
        delivered: dict[str, Record] = {}
        done = 0
        for night in due:
            done += _do_night(job, night, night_log, delivered, again=again and night == as_of)
        summary.details = {"nights": " ".join(map(str, due)), "steps done": done}
        summary.findings = [
            f"{record.as_of}: {record.message}" for record in night_log.records(due) if record.outcome == FINDING
        ]
    return summary


def _do_night(job: Job, as_of: date, night_log: NightLog, delivered: dict[str, Record], again: bool) -> int:
    """Run the remaining steps of one night and return their number."""
    outcomes = {} if again else night_log.nights.get(as_of, {})
    steps = remaining_steps(list(STEPS), outcomes)
    print(f"  night {as_of}: {'nothing is left to do' if not steps else ', '.join(steps)}", flush=True)
    for step in steps:
        if step in delivered:
            night_log.write(_done_with(delivered[step], as_of))
            continue
        record = _do_step(job, as_of, step, night_log)
        if step in DELIVERY:
            delivered[step] = record
    return len(steps)


def _do_step(job: Job, as_of: date, step: str, night_log: NightLog) -> Record:
    record = night_log.new_record(as_of, step)
    try:
        night_log.write(record)
        summary = STEPS[step](job, as_of)
        outcome = FINDING if summary.findings else DONE
        return night_log.end(record, outcome, summary, message="; ".join(summary.findings) or None)
    # Whatever ends the step, a signal included, is recorded before it is raised again.
    except BaseException as error:
        cause = lost_spark(error, job.config) or error
        try:
            night_log.end(record, FAILED, message=f"{type(cause).__name__}: {' '.join(str(cause).split())[:1000]}")
            cause.add_note(f"night {as_of}: step {step} is on record as failed")
        except Exception as failure:
            cause.add_note(f"night {as_of}: step {step} failed, which could not be recorded ({failure})")
        if cause is error:
            raise
        raise cause from error


def _done_with(delivered: Record, as_of: date) -> Record:
    """Return the record of a delivery's step for a later night of the same run: done, with no rows."""
    message = f"done with {delivered.as_of}" + (f": {delivered.message}" if delivered.message else "")
    return replace(delivered, as_of=as_of, message=message, rows_in=0, rows_out=0, quarantined=0)


class NightLog:
    """The records of table nightly_runs, and those that this run adds."""

    def __init__(self, job: Job):
        from lbsf.tracking.lineage import code_state

        self.warehouse, self.through_spark = job.warehouse, job.config.fold.through_spark
        self.run_id = uuid.uuid4().hex
        self.code_version = code_state()["git_commit"]
        self._records: dict[tuple[date, str], Record] = {}
        if self.warehouse.exists(NIGHTLY_RUNS):
            for row in self.warehouse.read(NIGHTLY_RUNS).collect():
                times = {name: row[name] and in_utc(row[name]) for name in ("started_at", "ended_at")}
                self._records[row["as_of"], row["step"]] = Record(**{**row.asDict(), **times})

    @property
    def nights(self) -> Mapping[date, Mapping[str, str]]:
        """The last outcome of each started step, by night."""
        found: dict[date, dict[str, str]] = {}
        for (as_of, step), record in self._records.items():
            found.setdefault(as_of, {})[step] = record.outcome
        return found

    def records(self, nights: Iterable[date]) -> list[Record]:
        """Return the records of these nights, ordered by night and step."""
        wanted = set(nights)
        chosen = [record for (as_of, _), record in self._records.items() if as_of in wanted]
        return sorted(chosen, key=lambda record: (record.as_of, record.number))

    def new_record(self, as_of: date, step: str) -> Record:
        """Return the record of a step that starts, not yet stored."""
        before = self._records.get((as_of, step))
        return Record(
            as_of=as_of,
            step=step,
            number=list(STEPS).index(step) + 1,
            outcome=STARTED,
            attempt=1 if before is None else before.attempt + 1,
            started_at=datetime.now(UTC),
            ended_at=None,
            rows_in=None,
            rows_out=None,
            quarantined=None,
            details=None,
            message=None,
            run_id=self.run_id,
            code_version=self.code_version,
        )

    def end(self, record: Record, outcome: str, summary: Summary | None = None, message: str | None = None) -> Record:
        """Store how a step ended and return its record."""
        figures = {}
        if summary is not None:
            figures = {name: getattr(summary, name) for name in ("rows_in", "rows_out", "quarantined")}
            figures["details"] = json.dumps(summary.details, default=str)
        ended = replace(record, outcome=outcome, ended_at=datetime.now(UTC), message=message, **figures)
        return self.write(ended)

    def write(self, record: Record) -> Record:
        """Store a record with the others of its night, and return it."""
        self._records[record.as_of, record.step] = record
        # The fields of a record have the order of the table's columns.
        rows = [astuple(one) for one in self.records([record.as_of])]
        if self.through_spark:
            frame = self.warehouse.spark.createDataFrame(rows, NIGHTLY_RUNS.struct)
            self.warehouse.replace_day(NIGHTLY_RUNS, frame.coalesce(1), record.as_of)
        else:
            # Written without Spark, because Spark may be what failed, and a signal interrupts Spark's work.
            replace_small_day(self.warehouse, NIGHTLY_RUNS, rows, record.as_of)
        return record


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--as-of", type=day, required=True, metavar="YYYY-MM-DD", help="the night")
    parser.add_argument("--only", action="store_true", help="this night only, whatever was missed before it")
    parser.add_argument("--again", action="store_true", help="all steps of this night anew, whatever is done")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
