"""MLflow: runs, the model registry, promotion. Nothing else imports mlflow."""

import os

# MLflow reads the first when it is imported: a bank's network is not told about each run.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# A job prints its own line.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# About a minute in all: a server that restarts is waited for, one that is gone is not waited for long.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")

from lbsf.tracking.registry import CHALLENGER, CHAMPION, RegisteredModel  # noqa: E402
from lbsf.tracking.run import Run  # noqa: E402
from lbsf.tracking.store import StoreError  # noqa: E402
from lbsf.tracking.tracker import Tracker  # noqa: E402

__all__ = ["CHALLENGER", "CHAMPION", "RegisteredModel", "Run", "StoreError", "Tracker"]
