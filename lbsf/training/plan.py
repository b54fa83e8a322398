"""The plan of a training run: one JSON file that all ranks read."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lbsf.config.models import FoldConfig, ModelConfig, TrainingConfig
from lbsf.folds.views import View
from lbsf.models.artifact import ThinFile


class Split(BaseModel):
    """One split of the examples.

    Attributes:
        files: Parquet files, in a fixed order.
        users: number of users in the files.
        teacher: .npy file of float32 (users,), the teacher's probability of default of each user, in the files' order;
            None: there is no teacher.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[str, ...]
    users: int
    teacher: str | None = None


class TrainingPlan(BaseModel):
    """The plan of a training run.

    Attributes:
        model: sizes of the network.
        fold: settings of the folds that it reads.
        training: settings of the training.
        splits: by name: train, validation, and test and out_of_time if they have users.
        output: folder for the trained model and the evaluation.
        network: lbsf, or a network of lbsf.baselines.sequences.
        view: the part of each fold that the network reads.
        start_from: folder of a saved model whose weights training starts from.
        start_sha256: SHA-256 of its files, to check that all ranks read the same files.
        objective: default, or one of lbsf.models.pretraining, which use no labels.
        thin_file: the probability for users with too little history; None: there is none, and the model cannot be
            served.

    The plan's key leaves out the teacher, because it is trained on the same splits with the same seed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: ModelConfig
    fold: FoldConfig
    training: TrainingConfig
    splits: dict[str, Split]
    output: str
    network: str = "lbsf"
    view: View = View()
    start_from: str | None = None
    start_sha256: str | None = None
    objective: Literal["default", "visits", "masked", "teacher"] = "default"
    thin_file: ThinFile | None = None

    @staticmethod
    def in_folder(parent: Path, **settings: Any) -> TrainingPlan:
        """Return a plan whose folder under `parent` is named by its key, so the same settings use the same folder.

        Args:
            parent: folder of the training runs.
            settings: every attribute but `output`.
        """
        plan = TrainingPlan(**settings, output="")
        return plan.model_copy(update={"output": str(parent / plan.key)})

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the plan, to check that all ranks have the same plan."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def determining(self) -> dict[str, Any]:
        """Return the part of the plan that determines the result, without where it runs and writes."""
        where = {"hosts", "network_interfaces", "elastic", "rank_timeout_seconds"}
        teachers = {name: {"teacher"} for name in self.splits}
        return self.model_dump(
            mode="json", exclude={"output": True, "start_from": True, "training": where, "splits": teachers}
        )

    @property
    def key(self) -> str:
        """Return the run's key, 16 hexadecimal digits: plans with the same key train the same model."""
        return hashlib.sha256(json.dumps(self.determining(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def held_out(self) -> list[str]:
        """Return the splits that are used once, after training."""
        return [name for name in ("test", "out_of_time") if name in self.splits]

    @property
    def steps_per_epoch(self) -> int:
        """Return the steps of each rank in an epoch, with the planned number of ranks."""
        return self.steps(self.training.ranks)

    def steps(self, ranks: int) -> int:
        """Return the steps of each rank in an epoch; equal for all ranks, even if the shards differ in size."""
        users = self.training.batch_users * self.training.accumulate_steps * ranks
        return max(1, self.splits["train"].users // users)

    def learning_rate(self, step: int, ranks: int) -> float:
        """Return the learning rate of a step: linear warm-up, then cosine decay to 1 % of the peak.

        Args:
            step: number of the step since the beginning of the run, from 0.
            ranks: number of ranks, by which the rate is multiplied.
        """
        total = self.steps(ranks) * self.training.epochs
        warmup = max(1, int(total * self.training.warmup_share))
        if step < warmup:
            share = (step + 1) / warmup
        else:
            share = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))
        # Linear scaling (Goyal et al. 2017): a step averages over `ranks` times as many users as with one rank.
        return self.training.learning_rate * ranks * share

    def save(self, path: Path) -> None:
        """Write the plan as JSON."""
        path.write_text(self.model_dump_json(indent=2), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> TrainingPlan:
        """Read a plan."""
        return TrainingPlan.model_validate_json(path.read_text(encoding="utf-8"))
