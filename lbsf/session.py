"""The Spark session: the platform's running session, or else a local one with Delta's cached jars."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from pyspark.sql import SparkSession

from lbsf.config.models import SparkConfig
from lbsf.scratch import scratch_folder

# Largest number of rows in a batch that Spark passes to Python.
ARROW_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"
# Settings of every session, including the platform's. Days are UTC days. A value that cannot be cast to its type is
# null, so that the contract refuses its row and the job continues.
_ALWAYS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "false",
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    # Parquet's standard timestamp is smaller than Spark's old one, has statistics, and every reader understands it.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}


def jar_cache() -> Path:
    """Return the folder of Delta's jars, one for each version of Delta, under the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "lbsf" / f"delta-{version('delta-spark')}"


def get_spark(config: SparkConfig) -> SparkSession:
    """Return the active Spark session, or a new local one.

    On Databricks and under spark-submit the running session is used as it is. Only the time zone and how values are
    read are set.
    """
    spark = SparkSession.getActiveSession()
    if spark is None and "DATABRICKS_RUNTIME_VERSION" in os.environ:
        spark = SparkSession.builder.getOrCreate()
    if spark is None:
        spark = _local(config)
    for key, value in _ALWAYS.items():
        spark.conf.set(key, value)
    return spark


def in_utc(collected: datetime) -> datetime:
    """Return a timestamp collected from Spark in UTC. Spark collects it as naive, in the machine's own zone."""
    return collected.astimezone(UTC)


@contextmanager
def settings_of(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """Apply settings to the session within the block, then restore the previous ones."""
    before = {key: spark.conf.get(key, None) for key in settings}

    def set_back() -> None:
        for key, previous in before.items():
            if previous is None:
                spark.conf.unset(key)
            else:
                spark.conf.set(key, previous)

    for key, value in settings.items():
        spark.conf.set(key, value)
    try:
        yield
    except BaseException:
        # Raise the block's own error even where Spark has stopped and the settings cannot be restored.
        with suppress(Exception):
            set_back()
        raise
    set_back()


def ignore_lost_connections(server: TCPServer) -> None:
    """Stop PySpark's accumulator server from printing a traceback when Spark's process ends, for whatever reason.

    The job reports a lost Spark process in one line. All other errors are still printed.
    """
    print_error = server.handle_error

    def handle_error(request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], (EOFError, ConnectionError)):
            print_error(request, client_address)

    server.handle_error = handle_error  # type: ignore[method-assign]


@contextmanager
def _own_ctrl_c() -> Iterator[None]:
    """Keep the program's SIGINT handler, which Spark would replace at its start.

    Spark's own handler sends a request on the connection that is waiting for an answer, which fails with many lines.
    """
    before = signal.getsignal(signal.SIGINT)
    yield
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and before not in (None, signal.default_int_handler):
        signal.signal(signal.SIGINT, before)


def _local(config: SparkConfig) -> SparkSession:
    # Tasks must run this interpreter, not the `python3` on the PATH.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    # A laptop's host name may not resolve, and nothing here leaves the machine.
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # A killed session leaves files behind; the next one removes them with this folder.
    scratch = scratch_folder()
    builder = SparkSession.builder.master(config.master).appName("lbsf")
    settings = {
        "spark.driver.memory": config.driver_memory,
        "spark.sql.shuffle.partitions": str(config.shuffle_partitions),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.debug.maxToStringFields": "200",
        # The snapshot of a small table does not need 50 tasks.
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        "spark.local.dir": str(scratch),
        # By default the session's catalog and the SQL server would write to the working directory.
        "spark.sql.warehouse.dir": str(scratch / "spark-warehouse"),
        "spark.driver.extraJavaOptions": " ".join(
            ["-Duser.timezone=UTC", f"'-Djava.io.tmpdir={scratch}'", f"'-Dderby.stream.error.file={scratch}/derby.log'"]
        ),
        # get_spark sets these for this session; here they reach further sessions, such as the SQL server's clients.
        **_ALWAYS,
        **config.settings,
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    jars = sorted((jar_cache() / "jars").glob("*.jar"))
    if jars:
        builder = builder.config("spark.jars", ",".join(str(jar) for jar in jars))
        # Threads of the SQL server load classes only from the class path.
        builder = builder.config("spark.driver.extraClassPath", ":".join(str(jar) for jar in jars))
    else:
        # Resolve the jars from the Maven repository once; the next session finds them above.
        from delta import configure_spark_with_delta_pip

        builder = configure_spark_with_delta_pip(builder.config("spark.jars.ivy", str(jar_cache())))
    with _own_ctrl_c():
        spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    ignore_lost_connections(spark.sparkContext._accumulatorServer)
    # The job reports a task's failure in one line; these loggers would print its stack trace and the row first.
    log = spark._jvm.org.apache.logging.log4j  # type: ignore[union-attr]
    for name in ("org.apache.spark.executor.Executor", "org.apache.spark.scheduler.TaskSetManager"):
        log.core.config.Configurator.setLevel(name, log.Level.OFF)
    return spark
