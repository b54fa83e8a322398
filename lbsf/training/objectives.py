"""Objectives: the loss of a training run, how it scores an epoch, and what it saves.

The training loop uses the interface `Objective` only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lbsf.errors import InputError
from lbsf.evaluation.metrics import evaluate, fit_calibration
from lbsf.models.artifact import ModelCard, save_model
from lbsf.models.batch import FoldBatch
from lbsf.models.lbsf import LBSF
from lbsf.models.pretraining import OBJECTIVES, Pretraining
from lbsf.training.inputs import positive_weight
from lbsf.training.networks import build_network
from lbsf.training.plan import TrainingPlan
from lbsf.training.predictions import Predictions
from lbsf.training.run_folder import RunFolder


class Evaluator(Protocol):
    """The measurements over all ranks that a training run offers to its objective."""

    def predict(self, split: str) -> Predictions:
        """Return the averaged network's logits of a split, the same on all ranks."""

    def mean_loss(self, split: str) -> float:
        """Return the mean loss per user of a split, the same on all ranks."""


class Objective(ABC):
    """The objective of one kind of training run.

    Attributes:
        loss: a module that takes a batch and returns its loss, a scalar; its submodule `network` is trained
            and kept.
    """

    loss: nn.Module

    @abstractmethod
    def validate(self, run: Evaluator) -> dict[str, float]:
        """Return the metrics of the validation split."""

    @abstractmethod
    def score(self, metrics: dict[str, float]) -> float:
        """Return the score by which epochs are compared; higher is better.

        Args:
            metrics: as returned by `validate`.
        """

    @abstractmethod
    def finish(self, run: Evaluator, network: nn.Module, plan: TrainingPlan, *, write: bool) -> None:
        """Evaluate the best epoch and save the results into `plan.output`.

        Args:
            run: holds the best epoch's weights. All ranks must call it in the same way.
            network: the network with these weights.
            plan: of the run.
            write: True on the one rank that writes.
        """


class DefaultObjective(Objective):
    """Default risk: the epoch with the best validation AUC is calibrated and saved, and scores the held-out splits."""

    def __init__(self, network: nn.Module, plan: TrainingPlan):
        share = plan.training.teacher_share
        if share and plan.splits["train"].teacher is None:
            raise InputError(f"training.teacher_share is {share}, but the plan has no teacher: set it to 0")
        self.loss = DefaultRisk(network, positive_weight(plan), share)

    def validate(self, run: Evaluator) -> dict[str, float]:
        """Return lbsf.evaluation.metrics.evaluate's metrics of the validation split."""
        predictions = run.predict("validation")
        if len(np.unique(predictions.label)) < 2:
            raise InputError("the validation split has labels of one class only: take more labels or a larger split")
        return evaluate(predictions.label, 1 / (1 + np.exp(-predictions.logit)))

    def score(self, metrics: dict[str, float]) -> float:
        """Return the AUC."""
        return metrics["auc"]

    def finish(self, run: Evaluator, network: nn.Module, plan: TrainingPlan, *, write: bool) -> None:
        """Calibrate on the validation split; save the model and the predictions of every split but train."""
        validation = run.predict("validation")
        slope, intercept = fit_calibration(validation.label, validation.logit)
        card = ModelCard(model=plan.model, fold=plan.fold, slope=slope, intercept=intercept, thin_file=plan.thin_file)
        held_out = {name: run.predict(name) for name in plan.held_out}
        if write:
            _save_network(network, card, plan)
            for name, predictions in {"validation": validation, **held_out}.items():
                probability = card.probability(torch.from_numpy(predictions.logit)).numpy()
                predictions.save(RunFolder.of(plan).predictions(name), probability)


class PretrainingObjective(Objective):
    """An objective of lbsf.models.pretraining: the epoch with the lowest validation loss is saved, uncalibrated."""

    def __init__(self, loss: Pretraining):
        self.loss = loss

    def validate(self, run: Evaluator) -> dict[str, float]:
        """Return the loss of the validation split."""
        return {"loss": run.mean_loss("validation")}

    def score(self, metrics: dict[str, float]) -> float:
        """Return the negative loss."""
        return -metrics["loss"]

    def finish(self, run: Evaluator, network: nn.Module, plan: TrainingPlan, *, write: bool) -> None:
        """Save the network's weights."""
        if write:
            _save_network(network, ModelCard(model=plan.model, fold=plan.fold, slope=1.0, intercept=0.0), plan)


class DefaultRisk(nn.Module):
    """Cross-entropy against the labels, or against a weighted mean of the labels and a teacher's probabilities.

    A teacher's probability contains more information about a user than a single outcome, and includes patterns that
    the network learns slowly (knowledge distillation, Hinton et al. 2015).

    Attributes:
        network: computes the logits.
        weight: weight of a defaulter in the loss; None: 1, as for everyone else.
        teacher_share: weight of the teacher in the target; the label gets the rest. If it is not 0, batches need
            `teacher`.
    """

    def __init__(self, network: nn.Module, weight: float | None, teacher_share: float = 0.0):
        super().__init__()
        self.network = network
        self.weight = weight
        self.teacher_share = teacher_share

    def forward(self, batch: FoldBatch) -> Tensor:
        """Return the mean loss of a labelled batch, a float32 scalar."""
        assert batch.label is not None
        target = batch.label
        if self.teacher_share:
            assert batch.teacher is not None
            target = torch.lerp(batch.label, batch.teacher, self.teacher_share)
        logits = self.network(batch).float()
        weight = None if self.weight is None else logits.new_tensor(self.weight)
        return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)


def build_objective(plan: TrainingPlan) -> Objective:
    """Build the plan's objective, with a newly initialised network.

    Raises:
        InputError: the plan names a network that does not exist, pretrains another network than LBSF, balances labels
            of one class, or uses a teacher that it does not have.
    """
    network = build_network(plan.network, plan.model, plan.fold)
    if plan.objective == "default":
        return DefaultObjective(network, plan)
    if not isinstance(network, LBSF):
        raise InputError(f"only lbsf can be pretrained, not {plan.network}")
    return PretrainingObjective(OBJECTIVES[plan.objective](network, plan.fold))


def _save_network(network: nn.Module, card: ModelCard, plan: TrainingPlan) -> None:
    """Save an LBSF network. Baseline networks are not saved, as they are never served."""
    if isinstance(network, LBSF):
        save_model(RunFolder.of(plan).model, network, card)
