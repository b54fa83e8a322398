"""The training loop of one rank: trains on its shard, evaluates over all ranks and keeps the best epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lbsf.errors import InputError
from lbsf.evaluation.metrics import Floats
from lbsf.evaluation.segments import FACTS, describe
from lbsf.folds.packed import PackedFolds
from lbsf.loading.petastorm_reader import every_user_once, train_batches
from lbsf.models.batch import FoldBatch
from lbsf.training import distributed
from lbsf.training.checkpoint import Checkpoint, Progress, Tensors, load_checkpoint, save_checkpoint
from lbsf.training.feed import Feed
from lbsf.training.inputs import data_digest
from lbsf.training.objectives import build_objective
from lbsf.training.plan import TrainingPlan
from lbsf.training.predictions import Predictions
from lbsf.training.weights import averaged_copy, starting_weights

Event = dict[str, Any]


def train_rank(plan: TrainingPlan, on_event: Callable[[Event], None]) -> None:
    """Train on this rank's shard; rank 0 writes the best epoch's model and the held-out predictions.

    A run resumes from the checkpoint in `plan.output`, if there is one. An elastic run also resumes from it
    when ranks are lost or join; shards, steps and learning rate then follow the new number of ranks.

    Args:
        plan: of the run; must be the same on all ranks.
        on_event: called on rank 0 with `start` events (the epoch and step from which training continues), `step`
            events and `epoch` events (metrics by name).

    Raises:
        InputError: ranks disagree about the plan or the data, the checkpoint belongs to another run, a split has one
            class only, or the loss is not a finite number.
    """
    rank, ranks = distributed.start()
    torch.set_num_threads(plan.training.threads_per_rank)
    if plan.training.elastic is not None:
        distributed.run_elastic(lambda let_ranks_change: _attempt(plan, on_event, let_ranks_change))
    elif ranks != plan.training.ranks:
        raise InputError(f"{ranks} ranks were started, training.ranks is {plan.training.ranks}")
    else:
        _attempt(plan, on_event, lambda: None)
    distributed.stop()


def _attempt(plan: TrainingPlan, on_event: Callable[[Event], None], let_ranks_change: Callable[[], None]) -> None:
    """Train to the end with the current ranks."""
    rank, ranks = distributed.world()
    if rank:
        on_event = _ignore
    distributed.require_agreement(plan.digest, "were given another training plan", "start all ranks from one plan")
    distributed.require_agreement(
        data_digest(plan), "see other example files", "all hosts must read the same storage, in the same state"
    )
    trainer = _Trainer(plan, rank, ranks, on_event)
    trainer.start()
    while not trainer.finished:
        trainer.epoch(let_ranks_change)
    trainer.load_best()
    trainer.objective.finish(trainer, trainer.network, plan, write=rank == 0)


def _ignore(event: Event) -> None:
    """Do nothing: ranks other than 0 report no events."""


class _Trainer:
    """One rank's model, optimizer, data and progress."""

    def __init__(self, plan: TrainingPlan, rank: int, ranks: int, on_event: Callable[[Event], None]):
        self.plan, self.rank, self.ranks, self.on_event = plan, rank, ranks, on_event
        self.steps = plan.steps(ranks)
        self.device = distributed.local_device()
        self.bfloat16 = plan.training.precision == "bfloat16"
        torch.manual_seed(plan.training.seed)
        self.objective = build_objective(plan)
        self.model = self.objective.loss
        if plan.start_from is not None:
            self.model.get_submodule("network").load_state_dict(starting_weights(plan, Path(plan.start_from)))
        self.model.to(self.device)
        self.averaged = averaged_copy(self.model, plan.training.average_steps)
        optimizer = torch.optim.AdamW(self.model.parameters(), weight_decay=plan.training.weight_decay)
        self.training = distributed.DistributedTraining(
            self.model, optimizer, plan.training.gradient_clip, plan.training.accumulate_steps
        )
        self.progress = Progress(ranks=ranks)
        self.best = self._weights()

    @property
    def network(self) -> nn.Module:
        """Return the network that predicts, with averaged weights."""
        return self.averaged.module.get_submodule("network")

    @property
    def finished(self) -> bool:
        """Return whether all epochs are done, or the last ones brought no improvement. Equal on all ranks."""
        done = self.progress.epoch
        return done >= self.plan.training.epochs or done - 1 - self.progress.best_epoch >= self.plan.training.patience

    def start(self) -> None:
        """Resume from the checkpoint that rank 0 finds in the run's folder, if there is one."""
        found = distributed.from_rank_0(lambda: load_checkpoint(Path(self.plan.output), self.plan))
        if found is not None:
            try:
                self.model.load_state_dict(found.model)
                self.averaged.load_state_dict(found.averaged)
                self.training.restore_optimizer(found.optimizer)
            except (RuntimeError, ValueError) as error:
                reason = " ".join(str(error).split())[:200]
                raise InputError(f"{self.plan.output}: the checkpoint does not fit the network: {reason}") from None
            self.best = {name: tensor.to(self.device) for name, tensor in found.best.items()}
            # With another number of ranks, an epoch has other shards and steps: the finished share of it is kept.
            step = round(found.progress.step * self.steps / self.plan.steps(found.progress.ranks))
            self.progress = replace(found.progress, step=step, ranks=self.ranks)
        where = {"epoch": self.progress.epoch, "step": self.progress.step}
        self.on_event({"event": "start", **where, "ranks": self.ranks, "steps_per_epoch": self.steps})

    def epoch(self, let_ranks_change: Callable[[], None]) -> None:
        """Train an epoch, or the rest of one, and evaluate it on the validation split."""
        self.model.train()
        begun, begun_cpu = time.monotonic(), time.process_time()
        epoch, first = self.progress.epoch, self.progress.step
        losses, every = self.progress.loss * first, self.plan.training.checkpoint_steps
        with closing(self._train_batches(epoch)) as packed:
            # The order of users depends on the seed and the epoch only, so the finished steps used the first batches.
            for _ in range(first * self.plan.training.accumulate_steps):
                next(packed)
            feed = Feed(packed, self.plan.view, self.device)
            for step in range(first, self.steps):
                loss = self._step(feed, step)
                losses += loss
                self.on_event({"event": "step", "epoch": epoch, "step": step + 1, "loss": loss})
                if every is not None and (step + 1) % every == 0 and step + 1 < self.steps:
                    self._agree_on_buffers()
                    losses = distributed.mean_over_ranks(losses, "loss")
                    self._checkpoint(replace(self.progress, step=step + 1, loss=losses / (step + 1)))
                    let_ranks_change()
        self._agree_on_buffers()
        seconds, cpu_seconds = time.monotonic() - begun, time.process_time() - begun_cpu
        mean_loss = distributed.mean_over_ranks(losses / self.steps, "loss")
        metrics = self.objective.validate(self)
        score = self.objective.score(metrics)
        progress = replace(self.progress, epoch=epoch + 1, step=0, loss=0.0)
        if progress.best_score is None or score > progress.best_score:
            progress = replace(progress, best_epoch=epoch, best_score=score)
            self.best = self._weights()
        self.on_event(
            {
                "event": "epoch",
                "epoch": epoch,
                "best": progress.best_epoch == epoch,
                "train.loss": mean_loss,
                **{f"validation.{name}": value for name, value in metrics.items()},
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "payments_per_second": feed.payments * self.ranks / seconds,
                "data_wait_share": feed.seconds / seconds,
            }
        )
        self._checkpoint(progress)
        let_ranks_change()

    def load_best(self) -> None:
        """Load the best epoch's weights into the network that predicts."""
        self.averaged.module.load_state_dict(self.best)

    def predict(self, split: str) -> Predictions:
        """Return the logits of a split, each user once, gathered from all ranks; computed in float32, as in scoring."""
        network = self.network.eval()
        columns: dict[str, list[Floats]] = {name: [np.zeros(0)] for name in ("label", "logit", *FACTS)}
        with torch.inference_mode():
            for packed in self._every_user_once(split):
                assert packed.label is not None
                batch = FoldBatch.from_packed(self.plan.view.of(packed)).to(self.device)
                logit = network(batch).double().cpu().numpy()
                for name, values in {"label": packed.label, "logit": logit, **describe(packed)}.items():
                    columns[name].append(values.astype(np.float64))
        every = {name: distributed.gather(np.concatenate(of), f"{split}.{name}") for name, of in columns.items()}
        read, planned = len(every["label"]), self.plan.splits[split].users
        if read != planned:
            raise InputError(f"split {split}: {read:,} users were read, {planned:,} were planned")
        facts = {name: every[name].astype(np.int64) for name in FACTS}
        return Predictions(every["label"], every["logit"], facts)

    def mean_loss(self, split: str) -> float:
        """Return the mean loss per user of a split, the same on all ranks."""
        objective = self.averaged.module.eval()
        torch.manual_seed(self.plan.training.seed)
        losses, users = 0.0, 0
        with torch.inference_mode():
            for packed in self._every_user_once(split):
                batch = FoldBatch.from_packed(self.plan.view.of(packed)).to(self.device)
                losses += float(objective(batch)) * len(packed)
                users += len(packed)
        total = distributed.gather(np.array([losses, users]), f"{split}.loss").reshape(-1, 2).sum(0)
        return float(total[0] / total[1])

    def _every_user_once(self, split: str) -> Iterator[PackedFolds]:
        return every_user_once(
            self.plan.splits[split].files,
            shard=self.rank,
            shards=self.ranks,
            batch_users=self.plan.training.batch_users,
            teacher=self.plan.splits[split].teacher,
        )

    def _step(self, feed: Feed, step: int) -> float:
        """Do one step together with all other ranks; return the mean loss of this rank's batches."""
        epoch, accumulate = self.progress.epoch, self.plan.training.accumulate_steps
        # Seeded from the position in the run, so that a resumed run needs no generator state.
        source = np.random.SeedSequence([self.plan.training.seed, epoch, step, self.rank])
        torch.manual_seed(int(source.generate_state(1, np.uint64)[0]))
        total = torch.zeros((), device=self.device)
        for part in range(accumulate):
            batch = feed.take()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                loss = self.model(batch)
            self.training.backward(loss)
            total += loss.detach() / accumulate
            if step + 1 < self.steps or part + 1 < accumulate:
                feed.prepare()
        try:
            self.training.step(self.plan.learning_rate(epoch * self.steps + step, self.ranks))
        except FloatingPointError:
            raise InputError(
                f"epoch {epoch + 1}, step {step + 1}: the loss or its gradient is not a finite number; "
                "try a smaller training.learning_rate, or training.precision=float32"
            ) from None
        self.averaged.update_parameters(self.model)
        return float(total)

    def _checkpoint(self, progress: Progress) -> None:
        """Set the progress, and write the checkpoint on rank 0."""
        self.progress = progress
        if self.rank == 0:
            optimizer = self.training.optimizer_state()
            averaged = self.averaged.state_dict()
            checkpoint = Checkpoint(progress, self.model.state_dict(), optimizer, averaged, self.best)
            save_checkpoint(Path(self.plan.output), checkpoint, self.plan)

    def _weights(self) -> Tensors:
        """Return a copy of the averaged weights."""
        return {name: tensor.detach().clone() for name, tensor in self.averaged.module.state_dict().items()}

    def _agree_on_buffers(self) -> None:
        """Average the batch norms' running statistics over all ranks."""
        distributed.average_buffers(self.model)
        distributed.average_buffers(self.averaged.module)

    def _train_batches(self, epoch: int) -> Generator[PackedFolds, None, None]:
        training = self.plan.training
        return train_batches(
            self.plan.splits["train"].files,
            shard=self.rank,
            shards=self.ranks,
            batch_users=training.batch_users,
            buffer_row_groups=training.shuffle_row_groups,
            seed=training.seed * 100_003 + epoch,
            teacher=self.plan.splits["train"].teacher,
        )
