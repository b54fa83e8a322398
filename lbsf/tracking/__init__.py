"""MLflow: runs, the model registry, promotion. Nothing else imports mlflow."""

from lbsf.tracking.tracker import RegisteredModel, Run, Tracker

__all__ = ["RegisteredModel", "Run", "Tracker"]
