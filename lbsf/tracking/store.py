"""The MLflow store: whether it can be used, and its failures as one line each."""

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

# Seconds to wait for the store before a job begins. MLflow's own retries take minutes and say nothing.
PROBE_SECONDS = 8
# What MLflow says where an experiment, a run, a model or a version is not there.
NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")

logging.getLogger("alembic").setLevel(logging.WARNING)
logging.getLogger("mlflow").setLevel(logging.ERROR)
# It logs a traceback of what it raises.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


class StoreError(InputError):
    """The MLflow store cannot be reached or used."""


def require_usable(uri: str) -> None:
    """Raises StoreError where a server gives no answer within PROBE_SECONDS, or a sqlite file stays locked as long."""
    with store_failures(uri):
        if uri.startswith(("http://", "https://")):
            # Any answer will do: not every server or proxy knows the path.
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
        # A store that may only be read is good enough for jobs that only read.
        if "readonly" not in str(error):
            raise


@contextmanager
def store_failures(uri: str | None = None) -> Iterator[None]:
    """Turns failures to reach the store into a StoreError that names it; also a decorator.

    Args:
        uri: of the store; None: the one that MLflow is pointed at.
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
    """What keeps the store from answering, in words; None where it did answer."""
    while error is not None:
        if isinstance(error, RequestException) and error.response is None:
            # What urllib3 met, as a refused connection, a name that is not known, or silence.
            met = getattr(next(iter(error.args), None), "reason", None) or error
            return f"cannot be reached ({type(met).__name__}): start it or mend tracking.uri"
        # Not their other kinds, as IntegrityError: that is an answer.
        if type(error) in (DatabaseError, OperationalError, sqlite3.DatabaseError, sqlite3.OperationalError):
            said = " ".join(str(getattr(error, "orig", error)).split())
            remedy = "wait for the process that holds it, or end it" if "locked" in said else "mend it"
            return f"cannot be used ({said}): {remedy}"
        error = error.__cause__ or error.__context__
    return None
