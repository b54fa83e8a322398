"""Run the main job, from raw payments to a queried score table, in one command.

simulate (or take your own sources) -> ingest payments and labels -> fold -> build examples -> train with
Horovod ranks -> validate -> promote -> score and monitor a night and the one a month before it -> report -> the first
three of the analysts' queries.

With --payments and --labels it runs over your own data; only the mapping files are needed.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import date, timedelta

from jobs import (
    answer_queries,
    build_examples,
    fold_payments,
    generate_payments,
    ingest_labels,
    ingest_payments,
    monitor_scores,
    promote_model,
    report,
    score_users,
    train_model,
    validate_model,
)
from jobs.common import Job, Summary, day, run_main
from lbsf.config import load_config
from lbsf.errors import ConfigurationError
from lbsf.monitoring.migration import MONTH
from lbsf.schemas import PAYMENTS
from lbsf.tables import paid_days

SIMULATED = {"parquet": "conf/sources/synthetic_payments.yaml", "csv": "conf/sources/synthetic_payments_csv.yaml"}
SIMULATED_LABELS = "conf/sources/synthetic_labels.yaml"


def run(job: Job, *, payments: str | None, labels: str | None, as_of: date | None) -> Summary:
    """Run every step in order; each prints its summary line.

    Args:
        job: configuration, session, tables.
        payments: source mapping of payments; None: simulate them.
        labels: source mapping of labels; given together with payments.
        as_of: last night to score; None: the day after the last payment.

    Returns:
        A summary with the findings of the ingests.
    """
    if (payments is None) != (labels is None):
        raise ConfigurationError("--payments and --labels go together: give both, or neither to simulate")
    started = time.monotonic()
    best_auc = None
    if payments is None or labels is None:
        job = _with_out_of_time(job)
        reachable = generate_payments.run(job).details["best AUC out of time"]
        # With few users, the last cohort may have no defaults.
        best_auc = None if math.isnan(reachable) else reachable
        payments, labels = SIMULATED[job.config.synthetic.format], SIMULATED_LABELS
    summary = Summary("demo")
    summary.findings += ingest_payments.run(job, source=payments).findings
    summary.findings += ingest_labels.run(job, source=labels).findings
    stored = job.warehouse.data_files(PAYMENTS, job.warehouse.version(PAYMENTS))
    first, last = paid_days(stored)
    as_of = as_of or last + timedelta(days=1)
    # A month's migration and matured scores need an earlier night; payments of a few weeks have none.
    nights = [night for night in (as_of - MONTH, as_of) if first < night]
    fold_payments.run(job, as_of=nights)
    build_examples.run(job)
    train_model.run(job)
    _promote(job, validate_model.run(job))
    for night in nights:
        score_users.run(job, as_of=night)
        _monitor(job, night)
    written = report.run(job, as_of=as_of, best_auc=best_auc)
    answer_queries.run(job, first=3)
    _say_where(job, written, time.monotonic() - started)
    return summary


def _with_out_of_time(job: Job) -> Job:
    """Return the job with the last simulated cohort of labels as the out-of-time test, unless its day is configured.

    The day fits simulated labels only, so it is not in the configuration files for other labels.
    """
    days, horizon = job.config.synthetic.observation_days, job.config.synthetic.label_horizon_days
    key, last = "examples.out_of_time_from", max(days)
    configured = job.config.examples.out_of_time_from or any(item.startswith(f"{key}=") for item in job.overrides)
    # Training needs an earlier cohort whose labels are known by that day.
    if configured or not any(day + horizon <= last for day in days):
        return job
    overrides = [*job.overrides, f"{key}={job.config.synthetic.start_on + timedelta(days=last)}"]
    print(f"  out-of-time test: the last simulated cohort of labels, --set {overrides[-1]}", flush=True)
    return Job(load_config(job.conf_path, overrides), job.conf_path, overrides)


def _promote(job: Job, validated: Summary) -> None:
    """Promote the challenger, even a refused one, because the demo shows the later steps too."""
    if validated.details["verdict"] == "passed":
        promote_model.run(job)
        return
    print("  the gate refused the challenger; the demo overrules it to show the steps that follow", flush=True)
    promote_model.run(job, override="demo: shows the steps after promotion")


def _monitor(job: Job, as_of: date) -> None:
    """Monitor the night and print the findings, which the report shows too; the demo goes on."""
    for finding in monitor_scores.run(job, as_of=as_of).findings:
        print(f"  {finding}", flush=True)


def _say_where(job: Job, written: Summary, seconds: float) -> None:
    print(f"demo done in {seconds:.0f} s")
    print("  queries    all ten: python jobs/answer_queries.py (with the same --conf and --set); docs/analysts.md")
    print(f"  report     {written.details['report']}")
    print(f"  warehouse  {job.root / 'tables'}")
    uri = str(job.tracker.uri)
    print(f"  MLflow     {uri}   (look at it: .venv/bin/mlflow ui --backend-store-uri {shlex.quote(uri)})")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--payments", metavar="FILE", help="source mapping of payments (default: simulate them)")
    parser.add_argument("--labels", metavar="FILE", help="source mapping of labels")
    parser.add_argument("--as-of", type=day, help="night to score (default: the day after the last payment)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
