"""Run one command on a Spark standalone cluster on this machine.

    python -m benchmarks.tools.cluster [--workers N] [--memory 1500m] [--work DIR] -- python jobs/fold_payments.py …

starts a master and N workers of one core each, waits until the master knows all of them, runs the command with
`--set spark.master=spark://…` appended and ends with its exit code. The cluster ends with this script, even if
it is killed. Unlike with local[N], tasks run in processes of their own and exchange all data over sockets.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyspark

HOST = "127.0.0.1"
STARTS_WITHIN_SECONDS = 60
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@contextmanager
def cluster(workers: int, memory: str, work: Path) -> Iterator[tuple[str, str]]:
    """Start a cluster of workers with one core each, and stop it at the end of the block.

    Args:
        workers: number of workers.
        memory: of each worker, in Spark's notation; an executor must fit into it.
        work: folder for logs and the executors' files.

    Yields:
        The URL of the master, and that of its status page as JSON.

    Raises:
        RuntimeError: a process of the cluster ended, or did not start in time; the message has the path of its log.
    """
    port, page = _free_port(), _free_port()
    url, status = f"spark://{HOST}:{port}", f"http://{HOST}:{page}/json/"
    with ExitStack() as running:
        address = ["--host", HOST, "--port", str(port), "--webui-port", str(page)]
        master = running.enter_context(_daemon("master.Master", address, work / "master.log"))
        _wait(status, 0, [master], work)
        processes = [master]
        for number in range(workers):
            size = ["--host", HOST, "--webui-port", "0", "--cores", "1", "--memory", memory]
            arguments = [*size, "--work-dir", str(work / f"worker{number}"), url]
            processes.append(running.enter_context(_daemon("worker.Worker", arguments, work / f"worker{number}.log")))
        _wait(status, workers, processes, work)
        yield url, status


def ask(status: str) -> dict[str, Any]:
    """Return the master's status page.

    Raises:
        OSError: it does not answer.
    """
    with urllib.request.urlopen(status, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def die_with_parent() -> None:
    """Make the kernel end this process when its parent ends, for whatever reason. To be used as preexec_fn."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _daemon(name: str, arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    spark = Path(pyspark.__file__).parent / "bin" / "spark-class"
    environment = {**os.environ, "SPARK_LOCAL_IP": HOST, "SPARK_DAEMON_MEMORY": "512m"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(spark), f"org.apache.spark.deploy.{name}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(status: str, workers: int, processes: list[subprocess.Popen[bytes]], work: Path) -> None:
    """Wait until the master reports that all workers are alive."""
    deadline = time.monotonic() + STARTS_WITHIN_SECONDS
    while time.monotonic() < deadline:
        try:
            if sum(worker["state"] == "ALIVE" for worker in ask(status)["workers"]) == workers:
                return
        except (urllib.error.URLError, ConnectionError):
            pass  # The page is not up yet.
        for process in processes:
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            raise RuntimeError(f"a process of the cluster ended at its start; its log is in {work}")
    raise RuntimeError(f"the cluster did not start within {STARTS_WITHIN_SECONDS} s; its logs are in {work}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="workers of one core each (default: %(default)s)")
    parser.add_argument("--memory", default="1500m", help="memory of a worker (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="folder of logs (default: a temporary one, removed at the end)")
    parser.add_argument("command", nargs="+", help="a command that accepts --set, after --")
    options = parser.parse_args()
    # A signal unwinds the blocks below, which stop the processes.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        with cluster(options.workers, options.memory, work) as (url, _):
            command = [*options.command, "--set", f"spark.master={url}"]
            return subprocess.run(command, check=False, preexec_fn=die_with_parent).returncode  # noqa: PLW1509


if __name__ == "__main__":
    sys.exit(main())
