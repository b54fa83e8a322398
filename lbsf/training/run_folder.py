"""The folder of one training run: the only place that knows the names of the files in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lbsf.training.plan import TrainingPlan


@dataclass(frozen=True)
class RunFolder:
    """A training run's folder.

    Attributes:
        path: the folder; `TrainingPlan.output` of its plan.
    """

    path: Path

    @staticmethod
    def of(plan: TrainingPlan) -> RunFolder:
        """Return the folder of a plan."""
        return RunFolder(Path(plan.output))

    @property
    def plan_file(self) -> Path:
        """Return the plan that every rank reads, a JSON file."""
        return self.path / "plan.json"

    @property
    def model(self) -> Path:
        """Return the folder of the trained model (lbsf.models.artifact)."""
        return self.path / "model"

    @property
    def checkpoint(self) -> Path:
        """Return the checkpoint to resume from (lbsf.training.checkpoint)."""
        return self.path / "checkpoint.safetensors"

    @property
    def run_id_file(self) -> Path:
        """Return the file with the id of the MLflow run of an unfinished training."""
        return self.path / "mlflow_run"

    def predictions(self, split: str) -> Path:
        """Return the file of a split's predictions (lbsf.training.predictions)."""
        return self.path / f"{split}.npz"

    def teacher(self, split: str) -> Path:
        """Return the file of a teacher's probabilities for a split (lbsf.training.teacher)."""
        return self.path / f"teacher_{split}.npy"

    @property
    def run_id(self) -> str | None:
        """Return the id of the MLflow run of an unfinished training; None if none was noted."""
        return self.run_id_file.read_text(encoding="utf-8") or None if self.run_id_file.exists() else None

    def note_run_id(self, run_id: str) -> None:
        """Write down the MLflow run that continues when the training is resumed."""
        self.run_id_file.write_text(run_id, encoding="utf-8")

    def forget_progress(self) -> None:
        """Remove the files from which a training would resume."""
        self.checkpoint.unlink(missing_ok=True)
        self.run_id_file.unlink(missing_ok=True)
