"""The Spark session: the platform's where one runs, else a local one with Delta's cached jars."""

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

from pyspark.sql import SparkSession

from lbsf.config.models import SparkConfig
from lbsf.scratch import scratch_folder

# Rows that Spark hands to Python at a time.
ARROW_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"
# What every session has, the platform's own too: days are UTC days, and a value that cannot be read as its
# type is null, so that the contract refuses its row and the job goes on.
_ALWAYS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "false",
    "spark.sql.legacy.timeParserPolicy": "CORRECTED",
    # Parquet's own type of an instant: smaller than Spark's old one, with statistics, read alike everywhere.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}


def jar_cache() -> Path:
    """Folder of Delta's jars, keyed by Delta's version, under the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "lbsf" / f"delta-{version('delta-spark')}"


def get_spark(config: SparkConfig) -> SparkSession:
    """The active Spark session, or a new local one.

    On Databricks, and under spark-submit, the session that is there is used as it is; only the time
    zone and how values are read are set.
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
    """An instant that Spark handed to the driver: in the machine's own zone, without saying so."""
    return collected.astimezone(UTC)


@contextmanager
def settings_of(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """Within it the session has these settings; behind it, what it had before."""
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
        # The error that ended the block is told, also where Spark is gone and cannot be set back.
        with suppress(Exception):
            set_back()
        raise
    set_back()


@contextmanager
def _own_ctrl_c() -> Iterator[None]:
    """A handler of SIGINT that the program set outlives Spark's start, which would take its place.

    Spark's own asks Spark on the connection that waits for an answer, which fails with many lines.
    """
    before = signal.getsignal(signal.SIGINT)
    yield
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and before not in (None, signal.default_int_handler):
        signal.signal(signal.SIGINT, before)


def _local(config: SparkConfig) -> SparkSession:
    # Tasks run this very interpreter, whatever `python3` the PATH has.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    # A laptop's host name may not resolve; nothing here leaves the machine.
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # A killed session leaves files, which the next one removes with this folder.
    scratch = scratch_folder()
    builder = SparkSession.builder.master(config.master).appName("lbsf")
    settings = {
        "spark.driver.memory": config.driver_memory,
        "spark.sql.shuffle.partitions": str(config.shuffle_partitions),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        "spark.sql.debug.maxToStringFields": "200",
        # A small table's snapshot needs no 50 tasks.
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
        "spark.local.dir": str(scratch),
        # What Spark's catalog of a session and the SQL server write belongs to nobody's working directory.
        "spark.sql.warehouse.dir": str(scratch / "spark-warehouse"),
        "spark.driver.extraJavaOptions": " ".join(
            ["-Duser.timezone=UTC", f"'-Djava.io.tmpdir={scratch}'", f"'-Dderby.stream.error.file={scratch}/derby.log'"]
        ),
        # Set again for the session itself; here for those that come of it, a client's of the SQL server.
        **_ALWAYS,
        **config.settings,
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    jars = sorted((jar_cache() / "jars").glob("*.jar"))
    if jars:
        builder = builder.config("spark.jars", ",".join(str(jar) for jar in jars))
        # Threads of the SQL server see the class path alone.
        builder = builder.config("spark.driver.extraClassPath", ":".join(str(jar) for jar in jars))
    else:
        # Resolved from the Maven repository once; the next session finds the jars above.
        from delta import configure_spark_with_delta_pip

        builder = configure_spark_with_delta_pip(builder.config("spark.jars.ivy", str(jar_cache())))
    with _own_ctrl_c():
        spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    # A task's failure reaches the job, which says it in one line; these would log its stack, and the row, before.
    log = spark._jvm.org.apache.logging.log4j  # type: ignore[union-attr]
    for name in ("org.apache.spark.executor.Executor", "org.apache.spark.scheduler.TaskSetManager"):
        log.core.config.Configurator.setLevel(name, log.Level.OFF)
    return spark
