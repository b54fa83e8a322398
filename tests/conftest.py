"""What the tests share: one Spark session, and a small configuration over a scratch warehouse."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from analyst_tables import write_analyst_tables
from pyspark.sql import SparkSession
from small import PROJECT, SMALL

from jobs.common import Job
from lbsf.config import Config, load_config
from lbsf.tables import Warehouse

# Fixtures that start a Spark session, and test files that start Horovod ranks or other jobs as processes.
_SPARK_FIXTURES = {"spark", "job", "analyst_warehouse", "champion_job"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by what it uses: `spark` a Spark session, `ranks` Horovod ranks. Whole jobs use Spark."""
    for item in items:
        folder = item.path.relative_to(PROJECT).parts[:2]
        if folder == ("tests", "parallel"):
            item.add_marker(pytest.mark.ranks)
        if folder == ("tests", "jobs") or _SPARK_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.spark)


@pytest.fixture(scope="session", autouse=True)
def _in_the_project() -> None:
    # Jobs name configuration files relative to the project.
    os.chdir(PROJECT)


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trees and regressions of small tests only lose time to threads."""
    from threadpoolctl import threadpool_limits

    from lbsf.baselines import boosting

    monkeypatch.setitem(boosting.SETTINGS, "num_threads", 1)
    with threadpool_limits(limits=1):
        yield


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    """`--set` values of a small run whose warehouse is the test's own."""
    return [*SMALL, f"storage.root={tmp_path / 'warehouse'}"]


@pytest.fixture
def config(overrides: list[str]) -> Config:
    return load_config(PROJECT / "conf/local.yaml", overrides)


@pytest.fixture
def job(config: Config, overrides: list[str], spark: SparkSession) -> Job:
    return Job(config, str(PROJECT / "conf/local.yaml"), overrides)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The one session of the test run; jobs find it as the active session."""
    from lbsf.session import get_spark

    session = get_spark(load_config(PROJECT / "conf/local.yaml", SMALL).spark)
    yield session
    session.stop()


@pytest.fixture(scope="session")
def analyst_warehouse(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The tables of analyst_tables.py, for tests that only read."""
    root = tmp_path_factory.mktemp("analysts") / "warehouse"
    warehouse = Warehouse(spark, load_config(PROJECT / "conf/local.yaml", [*SMALL, f"storage.root={root}"]).storage)
    write_analyst_tables(warehouse)
    return warehouse
