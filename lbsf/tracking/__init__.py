"""MLflow: runs, the model registry and promotion. Only this package imports mlflow."""

import os

# No telemetry may leave a bank's network. MLflow reads this setting when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Jobs print their own output.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Retries take about a minute in all: enough for a server to restart, and not long if it is gone.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")

from lbsf.tracking.registry import CHALLENGER, CHAMPION, RegisteredModel  # noqa: E402
from lbsf.tracking.run import Run  # noqa: E402
from lbsf.tracking.store import StoreError  # noqa: E402
from lbsf.tracking.tracker import Tracker  # noqa: E402

__all__ = ["CHALLENGER", "CHAMPION", "RegisteredModel", "Run", "StoreError", "Tracker"]
