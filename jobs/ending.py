"""Early ends of a job: a signal ends it, or Spark's process is gone.

A signal (SIGINT, SIGTERM, SIGHUP) raises Interrupted in the main thread, so that open resources are closed and the
end is recorded. The job then ends the processes that it started and exits with 128 + the signal's number.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from lbsf.config import Config
from lbsf.errors import InputError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds from the signal until the process is ended, even if something still hangs.
GRACE_SECONDS = 25.0
# `timeout` and some process managers send a signal to a process and to its group, so a repeat within this many seconds
# counts as the same signal.
_SAME_SIGNAL_SECONDS = 1.0
# Seconds that child processes have to end by themselves before they are killed.
_CHILDREN_SECONDS = 8.0
# Exit code of Spark's process after a java.lang.OutOfMemoryError (org.apache.spark.util.SparkExitCode.OOM).
_SPARK_OUT_OF_MEMORY = 52


class Interrupted(KeyboardInterrupt):
    """Raised when a signal ends the job.

    It is a KeyboardInterrupt because py4j closes the connection that it waits on only for that exception; otherwise
    the next call would read the interrupted call's answer.
    """

    def __init__(self, number: int):
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number


class SparkLostError(InputError):
    """Spark's process is gone, or did not start."""


@contextmanager
def interruptible(job: str) -> Iterator[None]:
    """Raise Interrupted on the first signal within the context; end the process at once on a second one.

    Does nothing outside the main thread, where Python gets no signals, and leaves ignored signals ignored (`nohup`).

    Args:
        job: the job's name, printed if the process is ended at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ending = _Ending(job)
    # A handler set outside Python reads as None and cannot be restored, so it is not replaced.
    caught = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, ending.on_signal) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        ending.left = True


class _Ending:
    """The handler of the first signal and of the next ones."""

    def __init__(self, job: str):
        self.job = job
        self.first: float | None = None
        self.left = False

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = now
            threading.Thread(target=self._end_in_time, args=(number,), daemon=True).start()
            raise Interrupted(number)
        if now - self.first > _SAME_SIGNAL_SECONDS:
            self._end_at_once(number)

    def _end_in_time(self, number: int) -> None:
        time.sleep(GRACE_SECONDS)
        # After the job, a test or a notebook may run on in the main thread: leave it alone. A main thread that has
        # ended waits for threads of the job.
        if not self.left or not threading.main_thread().is_alive():
            self._end_at_once(number)

    def _end_at_once(self, number: int) -> None:
        # A job that has left the context has already printed why it ends.
        if not self.left:
            name = signal.Signals(number).name
            print(f"{self.job}: ended by {name} before all was closed", file=sys.stderr, flush=True)
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        os._exit(128 + number)


def child_processes() -> set[psutil.Process]:
    """Return all descendants of this process."""
    return set(psutil.Process().children(recursive=True))


def end_children(but: set[psutil.Process]) -> None:
    """End the descendants of this process, including Spark's process and its Python workers, and wait for them.

    Args:
        but: processes to leave alone.
    """
    ours = child_processes() - but
    _silence_spark()
    # Terminated before any kill, because Spark's process then ends its workers and removes its scratch files.
    for child in set(psutil.Process().children()) & ours:
        with suppress(psutil.NoSuchProcess):
            child.terminate()
    _, alive = psutil.wait_procs(ours, timeout=_CHILDREN_SECONDS)
    for child in alive:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(alive, timeout=1)


def _silence_spark() -> None:
    """Stop Spark from logging each task that ends with it."""

    def silence() -> None:
        with suppress(Exception):
            context = sys.modules["pyspark"].SparkContext._active_spark_context
            context.setLogLevel("OFF")

    if "pyspark" in sys.modules:
        # A new thread has its own connection; the main thread's may be waiting for an answer.
        thread = threading.Thread(target=silence, daemon=True)
        thread.start()
        thread.join(timeout=2)


def without_py4j(record: logging.LogRecord) -> bool:
    """Return False for py4j's log records: it logs the traceback of each lost connection and also raises the error."""
    return f"{os.sep}py4j{os.sep}" not in record.pathname


def lost_spark(error: BaseException, config: Config) -> SparkLostError | None:
    """Return the true cause of an error if Spark's process is gone, None for any other error.

    Args:
        error: any exception that a job raised.
        config: the job's configuration; its spark section is read.
    """
    if isinstance(error, SparkLostError):
        return error
    if "pyspark" not in sys.modules or not isinstance(error, Exception):
        return None
    from pyspark import SparkContext

    memory = f"spark.driver_memory ({config.spark.driver_memory})"
    if "JAVA_GATEWAY_EXITED" in str(getattr(error, "error_class", "")):
        return SparkLostError(
            f"Spark's process did not start, its own lines above say why: it needs a JDK 17 (JAVA_HOME) and {memory}"
        )
    process = getattr(SparkContext._gateway, "proc", None)
    # A Spark process that the platform started cannot be examined.
    if process is None:
        return None
    code = process.poll()
    if code is None and _is_lost_connection(error):
        # The connection closes shortly before the process ends.
        with suppress(Exception):
            code = process.wait(timeout=5)
    if code is None:
        return None
    if code == _SPARK_OUT_OF_MEMORY:
        return SparkLostError(f"Spark's process ran out of memory and ended: raise {memory}, and run this again")
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    return SparkLostError(
        f"Spark's process ended {how}: where nobody ended it, the machine's memory ran out (see dmesg); "
        f"lower {memory} or give the machine more memory, and run this again"
    )


def _is_lost_connection(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, is a broken connection to Spark."""
    from py4j.protocol import Py4JError, Py4JJavaError

    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return any(
        isinstance(one, ConnectionError | EOFError)
        or (isinstance(one, Py4JError) and (not isinstance(one, Py4JJavaError) or "OutOfMemory" in str(one.args)))
        for one in chain
    )
