"""What every rank of a training run is told: one JSON file, so that all ranks work from the same facts."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from lbsf.config.models import FoldConfig, ModelConfig, TrainingConfig


class Split(BaseModel):
    """One split of the examples: its Parquet files, in a fixed order, and how many users they hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[str, ...]
    users: int


class TrainingPlan(BaseModel):
    """A training run.

    Attributes:
        model: the network's sizes.
        fold: the folds that it reads.
        training: how it is trained.
        splits: by name: train, validation, and test and out_of_time where they have users.
        output: folder for the trained model and the evaluation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: ModelConfig
    fold: FoldConfig
    training: TrainingConfig
    splits: dict[str, Split]
    output: str

    @property
    def digest(self) -> str:
        """SHA-256 of the plan, by which ranks find out whether they were told the same."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def held_out(self) -> list[str]:
        """Splits that are read once, after training."""
        return [name for name in ("test", "out_of_time") if name in self.splits]

    @property
    def steps_per_epoch(self) -> int:
        """Steps of each rank in an epoch: the same for all, however the shards differ in size."""
        return max(1, self.splits["train"].users // (self.training.batch_users * self.training.ranks))

    def save(self, path: Path) -> None:
        """Writes the plan."""
        path.write_text(self.model_dump_json(indent=2), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> TrainingPlan:
        """Reads a plan."""
        return TrainingPlan.model_validate_json(path.read_text(encoding="utf-8"))
