"""One rank's training run: epochs over its shard, evaluation over all ranks, the best epoch kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from lbsf.errors import InputError
from lbsf.loading.packed import PackedFolds
from lbsf.loading.petastorm_reader import every_user_once, train_batches
from lbsf.models.artifact import ModelCard, save_model
from lbsf.models.batch import FoldBatch
from lbsf.models.lbsf import LBSF
from lbsf.training import distributed
from lbsf.training.metrics import Floats, evaluate, fit_calibration
from lbsf.training.plan import TrainingPlan

Event = dict[str, Any]


@dataclass(frozen=True)
class Predictions:
    """Labels and logits, (n,) float64 each, of one split's users, in no particular order."""

    label: Floats
    logit: Floats


def train_rank(plan: TrainingPlan, on_event: Callable[[Event], None]) -> None:
    """Trains on this rank's shard; rank 0 writes the best epoch's model and the held-out predictions.

    Args:
        plan: the run. Must be the same on all ranks.
        on_event: rank 0 calls it with `step` events and `epoch` events (metrics by name).

    Raises:
        InputError: ranks disagree, one class only in a split, or the loss is not a number.
    """
    rank, ranks = distributed.start()
    distributed.require_agreement(plan.digest, "training plan")
    torch.set_num_threads(plan.training.threads_per_rank)
    torch.manual_seed(plan.training.seed)
    device = distributed.local_device()
    trainer = _Trainer(plan, rank, ranks, device)
    best_auc, best_epoch, best_weights = -1.0, -1, trainer.weights()
    for epoch in range(plan.training.epochs):
        metrics = trainer.epoch(epoch, on_event if rank == 0 else _ignore)
        if metrics["validation.auc"] > best_auc:
            best_auc, best_epoch, best_weights = metrics["validation.auc"], epoch, trainer.weights()
        if rank == 0:
            on_event({"event": "epoch", "epoch": epoch, "best": best_epoch == epoch, **metrics})
        # Every rank computed the metrics from the same gathered predictions, so all stop together.
        if epoch - best_epoch >= plan.training.patience:
            break
    trainer.model.load_state_dict(best_weights)
    validation = trainer.predict("validation")
    slope, intercept = fit_calibration(validation.label, validation.logit)
    card = ModelCard(model=plan.model, fold=plan.fold, slope=slope, intercept=intercept)
    held_out = {name: trainer.predict(name) for name in plan.held_out}
    if rank == 0:
        save_model(Path(plan.output) / "model", trainer.model, card)
        for name, predictions in {"validation": validation, **held_out}.items():
            probability = card.probability(torch.from_numpy(predictions.logit)).numpy()
            np.savez(Path(plan.output) / f"{name}.npz", label=predictions.label, probability=probability)
    distributed.stop()


def _ignore(event: Event) -> None:
    """Ranks other than 0 report nothing."""


class _Trainer:
    """The model, its optimizer and its data on one rank."""

    def __init__(self, plan: TrainingPlan, rank: int, ranks: int, device: torch.device):
        self.plan, self.rank, self.ranks, self.device = plan, rank, ranks, device
        self.model = LBSF(plan.model, plan.fold).to(device)
        # Linear scaling (Goyal et al. 2017): the step averages over `ranks` times as many users.
        optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=plan.training.learning_rate * ranks,
            weight_decay=plan.training.weight_decay,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        self.training = distributed.DistributedTraining(self.model, optimizer, plan.training.gradient_clip)

    def _rate(self, step: int) -> float:
        """Warm-up, then half a cosine down to a hundredth."""
        total = self.plan.steps_per_epoch * self.plan.training.epochs
        warmup = max(1, int(total * self.plan.training.warmup_share))
        if step < warmup:
            return (step + 1) / warmup
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the model's weights."""
        return {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def epoch(self, epoch: int, on_event: Callable[[Event], None]) -> dict[str, float]:
        """Trains one epoch and evaluates on the validation split; the metrics, equal on all ranks."""
        self.model.train()
        started, waited, losses, payments = time.monotonic(), 0.0, 0.0, 0
        batches = self._train_batches(epoch)
        for step in range(self.plan.steps_per_epoch):
            asked = time.monotonic()
            packed = next(batches)
            waited += time.monotonic() - asked
            batch = FoldBatch.from_packed(packed).to(self.device)
            assert batch.label is not None
            loss = F.binary_cross_entropy_with_logits(self.model(batch), batch.label)
            self.training.step(loss)
            self.schedule.step()
            losses += float(loss.detach())
            payments += packed.payments
            on_event({"event": "step", "epoch": epoch, "step": step + 1, "loss": float(loss.detach())})
        batches.close()
        distributed.average_buffers(self.model)
        seconds = time.monotonic() - started
        mean_loss = distributed.mean_over_ranks(losses / self.plan.steps_per_epoch, "loss")
        if not math.isfinite(mean_loss):
            raise InputError(f"epoch {epoch + 1}: the loss is not a number; try a smaller training.learning_rate")
        validation = self.predict("validation")
        return {
            "train.loss": mean_loss,
            **{f"validation.{k}": v for k, v in _evaluate(validation).items()},
            "seconds": seconds,
            "payments_per_second": payments * self.ranks / seconds,
            "data_wait_share": waited / seconds,
        }

    def predict(self, split: str) -> Predictions:
        """Logits of a whole split, each user read once, gathered from all ranks."""
        self.model.eval()
        label, logit = [np.zeros(0)], [np.zeros(0)]
        files = self.plan.splits[split].files
        with torch.inference_mode():
            for packed in every_user_once(
                files, shard=self.rank, shards=self.ranks, batch_users=self.plan.training.batch_users
            ):
                assert packed.label is not None
                label.append(packed.label.astype(np.float64))
                logit.append(self.model(FoldBatch.from_packed(packed).to(self.device)).double().cpu().numpy())
        gathered = Predictions(
            distributed.gather(np.concatenate(label), f"{split}.label"),
            distributed.gather(np.concatenate(logit), f"{split}.logit"),
        )
        if len(gathered.label) != self.plan.splits[split].users:
            planned = self.plan.splits[split].users
            raise InputError(f"split {split}: {len(gathered.label):,} users were read, {planned:,} were planned")
        return gathered

    def _train_batches(self, epoch: int) -> Generator[PackedFolds, None, None]:
        training = self.plan.training
        return train_batches(
            self.plan.splits["train"].files,
            shard=self.rank,
            shards=self.ranks,
            batch_users=training.batch_users,
            buffer_row_groups=training.shuffle_row_groups,
            seed=training.seed * 100_003 + epoch,
        )


def _evaluate(predictions: Predictions) -> dict[str, float]:
    if len(np.unique(predictions.label)) < 2:
        raise InputError("the validation split has labels of one class only: take more labels or a larger split")
    return evaluate(predictions.label, 1 / (1 + np.exp(-predictions.logit)))
