"""Serve the tables and the analysts' views to SQL tools with Spark's HiveServer2-compatible server (JDBC, ODBC).

Runs until Ctrl-C or SIGTERM. All tables and views are views in the database `lbsf`. Clients can only query them:
statements that create, change or drop something, that read other files or that run code are refused. There is no
authentication, so it listens on this machine only. --allow-remote lets --host name another address; use it only in a
network that is protected by other means. On Databricks use a SQL warehouse instead.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.common import Job, run_main
from jobs.create_views import add_views_argument
from lbsf.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Clients' sessions hold dates in a different Java class than Delta's shortcut for max(score_date) expects.
SETTINGS = {"spark.databricks.delta.optimizeMetadataQuery.enabled": "false"}


def run(job: Job, *, host: str, port: int, allow_remote: bool, views: Path) -> None:
    """Serve until the process is told to end.

    Args:
        job: configuration, session, tables. storage.database is ignored.
        host: address to listen on.
        port: TCP port.
        allow_remote: whether `host` may be an address that other machines reach.
        views: folder of the view files.

    Raises:
        ConfigurationError: `host` is not a loopback address, and `allow_remote` is false.
        InputError: the address cannot be listened on, or there are no tables.
    """
    _check_address(host, port, allow_remote)
    from lbsf.analysts import load_views, publish
    from lbsf.analysts.read_only import let_new_sessions_only_read
    from lbsf.analysts.views import LOCAL_DATABASE, SHOWN_TABLES
    from lbsf.schemas import SCORES
    from lbsf.session import get_spark
    from lbsf.tables import Warehouse, local_path

    spark = get_spark(job.config.spark.model_copy(update={"settings": {**SETTINGS, **job.config.spark.settings}}))
    warehouse = Warehouse(spark, job.config.storage.model_copy(update={"database": None}))
    version = warehouse.version(SCORES)
    ended = threading.Event()
    # Set only now, because a new Spark session takes over the Ctrl-C handler.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    left_out = publish(warehouse, load_views(views))
    let_new_sessions_only_read(spark, [local_path(warehouse.location(table)) for table in SHOWN_TABLES])
    for view, table in left_out.items():
        print(f"  left out: {view}, table {table} has not been written", flush=True)
    with _server(spark, host, port):
        print(f"  scores version {version}; each query reads the newest", flush=True)
        print(f"ready: jdbc:hive2://{host}:{port}/{LOCAL_DATABASE}", flush=True)
        # Spark's process is a child of this one; without it there is nothing left to serve.
        java = spark.sparkContext._gateway.proc  # type: ignore[union-attr]
        while not ended.wait(timeout=1):
            if java.poll() is not None:
                raise RuntimeError(f"Spark ended with code {java.returncode}")
    spark.stop()
    print("stopped", flush=True)


def _check_address(host: str, port: int, allow_remote: bool) -> None:
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ConfigurationError(f"--host {host}: an IP address is expected") from None
    if not local and not allow_remote:
        raise ConfigurationError(
            f"--host {host}: other machines would read all tables without a password; --allow-remote accepts that"
        )
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(f"{host}:{port} cannot be listened on ({why}): choose another --port") from None


@contextmanager
def _server(spark: SparkSession, host: str, port: int) -> Iterator[None]:
    """Run Spark's server over this session; each client gets its own session with the same catalog."""
    with tempfile.TemporaryDirectory(prefix="lbsf-sql-") as folder:
        settings = {"hive.server2.thrift.bind.host": host, "hive.server2.thrift.port": str(port)}
        for name in (
            "hive.exec.scratchdir",
            "hive.exec.local.scratchdir",
            "hive.downloaded.resources.dir",
            "hive.server2.logging.operation.log.location",
        ):
            (Path(folder) / name).mkdir()
            settings[name] = str(Path(folder) / name)
        for name, value in settings.items():
            spark.conf.set(name, value)
        # Clients receive their own errors; a log would keep their statements, which may name users.
        log = spark._jvm.org.apache.logging.log4j  # type: ignore[union-attr]
        for name in ("org.apache.spark.sql.hive.thriftserver", "org.apache.hive", "org.apache.thrift"):
            log.core.config.Configurator.setLevel(name, log.Level.OFF)
        thrift = spark._jvm.org.apache.spark.sql.hive.thriftserver.HiveThriftServer2  # type: ignore[union-attr]
        server = thrift.startWithContext(spark._jsparkSession.sqlContext())
        try:
            yield
        finally:
            server.stop()


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=10000, help="default: %(default)s")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default: %(default)s")
    parser.add_argument("--allow-remote", action="store_true", help="accept an address that other machines reach")
    add_views_argument(parser)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job from the command line and return its exit code; see run_main."""
    return run_main(_add_arguments, run, argv)


if __name__ == "__main__" and (status := main()):
    sys.exit(status)
