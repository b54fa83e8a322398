"""Code shared by all jobs: arguments, configuration, the Spark session, the summary line, exit codes."""

from __future__ import annotations

import argparse
import fcntl
import inspect
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.ending import Interrupted, child_processes, end_children, interruptible, lost_spark, without_py4j
from lbsf.config import Config, load_config
from lbsf.errors import InputError, UserError
from lbsf.scratch import use_scratch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lbsf.tables import Warehouse
    from lbsf.tracking import Tracker

DEFAULT_CONFIGURATION = "conf/local.yaml"


@dataclass
class Summary:
    """The result of one step: its summary line, and the values that a later step may need.

    Attributes:
        step: the job's name.
        rows_in: rows read, if known.
        rows_out: rows written.
        quarantined: rows refused and put in quarantine.
        details: more figures for the line, in order.
        seconds: wall time, set when the step ends.
        findings: problems that need a person although the work is done, one line each; they give exit code 3.
    """

    step: str
    rows_in: int | None = None
    rows_out: int | None = None
    quarantined: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        figures = {"in": self.rows_in, "out": self.rows_out, "quarantined": self.quarantined}
        parts = [f"{name} {value:,}" for name, value in figures.items() if value is not None]
        parts += [f"{name} {_text(value)}" for name, value in self.details.items()]
        return f"{self.step:<18} {' | '.join([*parts, f'{self.seconds:.1f} s'])}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


class Job:
    """The Spark session and warehouse of one configuration, created on first use."""

    def __init__(self, config: Config, conf_path: str, overrides: Sequence[str]):
        self.config = config
        self.conf_path = conf_path
        self.overrides = tuple(overrides)

    @cached_property
    def spark(self) -> SparkSession:
        """The Spark session."""
        from lbsf.session import get_spark

        return get_spark(self.config.spark)

    @cached_property
    def warehouse(self) -> Warehouse:
        """The tables."""
        from lbsf.tables import Warehouse

        return Warehouse(self.spark, self.config.storage)

    @cached_property
    def tracker(self) -> Tracker:
        """The MLflow store and registry."""
        from lbsf.tracking import Tracker

        return Tracker(self.config, self.root)

    @property
    def root(self) -> Path:
        """`storage.root` as a path in this machine's file system."""
        from lbsf.tables import local_path

        return Path(local_path(self.config.storage.root)).resolve()

    @contextmanager
    def step(self, name: str) -> Iterator[Summary]:
        """Time one step and print its summary line if it succeeds.

        Raises:
            InputError: the storage failed: a full disk, a missing or damaged file, no write permission.
        """
        summary = Summary(name)
        started = time.monotonic()
        try:
            yield summary
        except UserError:
            raise
        except Exception as error:
            from lbsf.tables import explain

            # Checked first, because a lost Spark process causes errors that look like other faults.
            lost = lost_spark(error, self.config)
            if lost is not None:
                raise lost from error
            line = explain(error, str(self.root))
            if line is None:
                raise
            raise InputError(line) from error
        summary.seconds = time.monotonic() - started
        print(summary, flush=True)


@contextmanager
def exclusive_lock(folder: Path, what: str, refusal: str) -> Iterator[None]:
    """Hold the lock `what` of `folder` against other processes; create the folder if it is missing.

    Raises:
        InputError: another process holds the lock; the message says `refusal`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{what}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{folder}: {refusal}") from None
        except OSError:
            pass  # Some mounted storage has no locks; nothing keeps other processes out there.
        yield


def day(text: str) -> date:
    """Parse an argument `YYYY-MM-DD`."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day (YYYY-MM-DD)") from None


def run_main(
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[..., Any],
    argv: Sequence[str] | None,
) -> int:
    """Parse the arguments, load the configuration and call `run(job, **own arguments)`.

    The job's module docstring is its `--help`.

    Returns:
        0: the work is done. 2: the usage, configuration or input is wrong, or Spark's process is gone. 3: the work is
        done and its summary has findings, which need a person. 128 + the signal's number: a signal ended the job.
        Errors, findings and signals print one line each on standard error. A bug keeps its traceback.
    """
    module = inspect.getmodule(run)
    parser = argparse.ArgumentParser(
        description=module.__doc__ if module else None, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--conf", default=DEFAULT_CONFIGURATION, help="configuration file (default: %(default)s)")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="replaces one value of the configuration; may be given often",
    )
    add_arguments(parser)
    own = vars(parser.parse_args(argv))
    conf, overrides = own.pop("conf"), own.pop("overrides")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(without_py4j)
    others = child_processes()
    with interruptible(parser.prog):
        try:
            return _exit_code(parser.prog, conf, overrides, lambda job: run(job, **own))
        except KeyboardInterrupt as interrupt:
            # While Spark starts, its own Ctrl-C handler raises a plain KeyboardInterrupt.
            ended = interrupt if isinstance(interrupt, Interrupted) else Interrupted(signal.SIGINT)
            _say(parser.prog, ended)
            end_children(but=others)
            return 128 + ended.number


def _exit_code(name: str, conf: str, overrides: Sequence[str], work: Callable[[Job], Any]) -> int:
    """Do the work and return the exit code; print each user error or finding in one line."""
    try:
        use_scratch()
        config = load_config(conf, overrides)
        try:
            summary = work(Job(config, conf, overrides))
        except Exception as error:
            lost = lost_spark(error, config)
            if lost is None:
                raise
            raise lost from error
    except UserError as error:
        _say(name, error)
        return 2
    findings = summary.findings if isinstance(summary, Summary) else []
    for finding in findings:
        _say(name, finding)
    return 3 if findings else 0


def _say(name: str, what: BaseException | str) -> None:
    """Print one line on standard error: the error or finding, and its notes."""
    said = "; ".join([str(what), *getattr(what, "__notes__", [])])
    print(f"{name}: {' '.join(said.split())}", file=sys.stderr, flush=True)
