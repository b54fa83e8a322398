"""Checks that the MLflow store is usable, and turns its failures into one-line errors."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from requests.exceptions import RequestException
from sqlalchemy import make_url
from sqlalchemy.exc import DatabaseError, OperationalError

from lbsf.errors import InputError

# Seconds to wait for the store before a job starts. MLflow's own retries take minutes without any output.
PROBE_SECONDS = 8
# MLflow's error codes for a missing experiment, run, model or version.
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")

logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow").setLevel(logging.ERROR)
# This module logs the traceback of each exception that it raises.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


class StoreError(InputError):
    """The MLflow store cannot be reached or used."""


def require_usable(uri: str) -> None:
    """Raise StoreError if a server does not answer, or a sqlite file stays locked, for PROBE_SECONDS."""
    with store_failures(uri):
        if uri.startswith(("http://", "https://")):
            # Any response is enough, because not every server or proxy has this path.
            host = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
            once = {"max_retries": 0, "timeout": PROBE_SECONDS, "raise_on_status": False}
            http_request(host, "/health", "GET", **once)  # type: ignore[no-untyped-call]
        elif uri.startswith("sqlite:") and Path(database := make_url(uri).database or "").is_file():
            with closing(sqlite3.connect(database, timeout=PROBE_SECONDS, isolation_level=None)) as connection:
                connection.execute("PRAGMA schema_version")
                _wait_for_lock(connection)


def _wait_for_lock(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        # A read-only store is sufficient for jobs that only read.
        if "readonly" not in str(error):
            raise


@contextmanager
def store_failures(uri: str | None = None) -> Iterator[None]:
    """Turn failures to reach the store into a StoreError that names it. A context manager and decorator.

    Args:
        uri: URI of the store; None: MLflow's current tracking URI.
    """
    try:
        yield
    except (MlflowException, RequestException, DatabaseError, sqlite3.DatabaseError) as error:
        reason = _failure(error)
        if reason is None:
            raise
        named = _USER_INFO.sub("", uri or mlflow.get_tracking_uri())
        raise StoreError(f"MLflow's store {named} {reason}, then run the same command again") from error


def _failure(error: BaseException | None) -> str | None:
    """Return why the store cannot be reached or used, and the remedy; None if it did answer."""
    while error is not None:
        if isinstance(error, RequestException) and error.response is None:
            # urllib3's reason: a refused connection, an unknown host, a timeout.
            met = getattr(next(iter(error.args), None), "reason", None) or error
            return f"cannot be reached ({type(met).__name__}): start it or mend tracking.uri"
        # Not subclasses such as IntegrityError: they are answers of a working database.
        if type(error) in (DatabaseError, OperationalError, sqlite3.DatabaseError, sqlite3.OperationalError):
            said = " ".join(str(getattr(error, "orig", error)).split())
            remedy = "wait for the process that holds it, or end it" if "locked" in said else "mend it"
            return f"cannot be used ({said}): {remedy}"
        error = error.__cause__ or error.__context__
    return None
