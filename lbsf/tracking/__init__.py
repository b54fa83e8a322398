"""MLflow: runs, the model registry, promotion. Nothing else imports mlflow."""

from lbsf.tracking.tracker import CHALLENGER, CHAMPION, RegisteredModel, Run, Tracker

__all__ = ["CHALLENGER", "CHAMPION", "RegisteredModel", "Run", "Tracker"]
