"""Jobs that a signal ends, in processes of their own: no Spark, so that what is left is ours."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from jobs.ending import SIGNALS, interruptible, lost_spark
from lbsf.config import load_config

PROJECT = Path(__file__).resolve().parents[2]
JOB = """
import subprocess, sys, threading
from contextlib import suppress
import jobs.ending
from jobs.common import run_main

jobs.ending.GRACE_SECONDS = {grace}

def run(job):
    child = subprocess.Popen(["sleep", "600"])
    try:
        print("at work", flush=True)
        threading.Event().wait()
    finally:
        print("closing", flush=True)
        {closing}

sys.exit(run_main(lambda parser: None, run, []))
"""
FOR_EVER = "threading.Event().wait()"


@contextmanager
def started(closing: str = "pass", grace: float = 2.0, **how: object) -> Iterator[subprocess.Popen[str]]:
    """A job that is at work; ended behind the block in any case."""
    command = [sys.executable, "-c", JOB.format(closing=closing, grace=grace)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=PROJECT, stdout=pipe, stderr=pipe, text=True, **how)  # type: ignore[call-overload]
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        yield process
    finally:
        process.kill()
        process.wait()


def ended(process: subprocess.Popen[str], children: list[psutil.Process]) -> tuple[int, list[str]]:
    """Its exit code and its lines on standard error; none of its children is left."""
    _, errors = process.communicate(timeout=30)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    return process.returncode, errors.splitlines()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_job_with_one_line_its_code_and_its_children(number: signal.Signals) -> None:
    with started() as process:
        children = psutil.Process(process.pid).children(recursive=True)
        assert [child.name() for child in children] == ["sleep"]
        # `timeout` sends its signal to the process and to its group: one end all the same.
        process.send_signal(number)
        process.send_signal(number)
        assert ended(process, children) == (128 + number, [f"-c: ended by {number.name}"])


def test_a_second_signal_ends_at_once() -> None:
    with started(FOR_EVER, grace=600.0) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None and process.stdout.readline() == "closing\n"
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert ended(process, children) == (128 + signal.SIGTERM, ["-c: ended by SIGTERM before all was closed"])


def test_what_hangs_while_it_is_closed_does_not_keep_the_job() -> None:
    with started(FOR_EVER) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert ended(process, children) == (128 + signal.SIGTERM, ["-c: ended by SIGTERM before all was closed"])


def test_a_thread_that_goes_on_does_not_keep_the_job() -> None:
    with started(f"threading.Thread(target=lambda: {FOR_EVER}).start()") as process:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert ended(process, children) == (128 + signal.SIGTERM, ["-c: ended by SIGTERM"])


def test_a_job_under_nohup_outlives_its_terminal() -> None:
    with started(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert ended(process, children) == (128 + signal.SIGTERM, ["-c: ended by SIGTERM"])


def test_spark_that_does_not_start_is_one_line() -> None:
    code = (
        "import sys; from jobs.common import run_main; "
        "sys.exit(run_main(lambda parser: None, lambda job: job.spark, ['--set', 'spark.driver_memory=1m']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    # Java's own lines stand above it.
    assert ran.stderr.splitlines()[-1].startswith("-c: Spark's process did not start, its own lines above say why")
    assert "spark.driver_memory (1m)" in ran.stderr and "Traceback" not in ran.stderr


def test_other_errors_are_not_laid_to_spark() -> None:
    config = load_config(PROJECT / "conf/local.yaml")
    assert lost_spark(ConnectionRefusedError("the tracking server"), config) is None
    assert lost_spark(KeyboardInterrupt(), config) is None


def test_handlers_are_set_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with interruptible("job"):
        assert not any(signal.getsignal(number) == handler for number, handler in zip(SIGNALS, before, strict=True))
    assert [signal.getsignal(number) for number in SIGNALS] == before
