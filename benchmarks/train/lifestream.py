"""pytorch-lifestream's supervised GRU on the same users, with its data structures, collate function and trainer.

Every user is one chronological sequence. Payments have the same fields as ours, but of each text only the first word,
as pytorch-lifestream reads a text as one category. All users are in memory as tensors before the clock starts.
"""

from __future__ import annotations

import time
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torchmetrics
from ptls.data_load.datasets import MemoryMapDataset
from ptls.frames import PtlsDataModule
from ptls.frames.supervised import SeqToTargetDataset, SequenceToTarget
from ptls.nn import Head, RnnSeqEncoder, TrxEncoder
from sklearn.metrics import roc_auc_score

from lbsf.config.models import FoldConfig, ModelConfig, TrainingConfig
from lbsf.folds.packed import SECONDS_PER_DAY, Ints, PackedFolds

TARGET = "target_default"


def records(packed: PackedFolds) -> list[dict[str, Any]]:
    """Convert each user's payments, in order of time, to pytorch-lifestream's format: one tensor per field."""
    merchant = np.repeat(np.arange(len(packed.merchant_len)), packed.merchant_len)
    user = np.repeat(np.arange(len(packed)), packed.merchant_count)[merchant]
    order = np.lexsort((packed.paid_at, user))
    first_of_name = _first_words(packed.merchant_token, packed.merchant_token_len)[merchant]
    first_of_text = _first_words(packed.description_token, packed.description_token_len)
    second = packed.paid_at
    fields = {
        "event_time": second / SECONDS_PER_DAY,
        "age": (packed.as_of[user] - second) / SECONDS_PER_DAY / 180.0,
        "hour": 1 + second % SECONDS_PER_DAY // 3_600,
        "weekday": 1 + (second // SECONDS_PER_DAY + 3) % 7,
        "amount": packed.amount_cents / 100.0,
        "category": packed.category,
        "channel": packed.channel,
        "merchant": first_of_name,
        "description": first_of_text,
    }
    ends = np.cumsum(np.bincount(user, minlength=len(packed)))[:-1]
    cut = {name: np.split(values[order], ends) for name, values in fields.items()}
    assert packed.label is not None
    return [
        {
            **{
                n: torch.from_numpy(v[u].astype(np.float32 if v[u].dtype.kind == "f" else np.int64))
                for n, v in cut.items()
            },
            TARGET: int(label),
        }
        for u, label in enumerate(packed.label)
    ]


def _first_words(words: Ints, lengths: Ints) -> Ints:
    """Return the first word of each text; 0 for texts without words."""
    first = np.cumsum(lengths) - lengths
    return np.where(lengths > 0, np.append(words, 0)[np.minimum(first, len(words))], 0)


def network(model: ModelConfig, fold: FoldConfig, training: TrainingConfig) -> SequenceToTarget:
    """Build a supervised GRU with LBSF's width."""
    embedded = {
        "category": (fold.category_buckets, 16),
        "channel": (fold.channel_buckets, 4),
        "hour": (25, 4),
        "weekday": (8, 4),
        "merchant": (fold.token_buckets, 16),
        "description": (fold.token_buckets, 16),
    }
    encoder = TrxEncoder(
        embeddings={name: {"in": size, "out": width} for name, (size, width) in embedded.items()},
        numeric_values={"amount": "log", "age": "identity"},
    )
    return SequenceToTarget(
        seq_encoder=RnnSeqEncoder(trx_encoder=encoder, hidden_size=model.width, type="gru"),
        head=Head(input_size=model.width, use_batch_norm=True, objective="classification", num_classes=1),
        loss=torch.nn.BCELoss(),
        metric_list=torchmetrics.AUROC(task="binary"),
        optimizer_partial=partial(torch.optim.AdamW, lr=training.learning_rate, weight_decay=training.weight_decay),
        lr_scheduler_partial=partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.9),
        # Its own training metric is effectively switched off, as it is not compared.
        train_update_n_steps=1_000_000_000,
    )


class _Watch(pl.Callback):
    """Records the training seconds of each epoch, and the AUC on held-out users after it."""

    def __init__(self, held_out: dict[str, list[dict[str, Any]]], batch_users: int):
        self.held_out, self.batch_users = held_out, batch_users
        self.epochs: list[dict[str, float]] = []
        self.started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self.started
        aucs = {split: self._auc(module, users) for split, users in self.held_out.items()}
        self.epochs.append({"seconds": seconds, **aucs})

    def _auc(self, module: pl.LightningModule, users: list[dict[str, Any]]) -> float:
        data = SeqToTargetDataset(MemoryMapDataset(users), TARGET, target_dtype="float")
        loader = torch.utils.data.DataLoader(data, batch_size=self.batch_users, collate_fn=data.collate_fn)
        module.eval()
        with torch.inference_mode():
            found = [(module(batch), label) for batch, label in loader]
        module.train()
        probability, label = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
        return float(roc_auc_score(label, probability))


def train(
    splits: dict[str, PackedFolds], model: ModelConfig, fold: FoldConfig, training: TrainingConfig
) -> dict[str, Any]:
    """Train on the split `train`; return the seconds of each epoch, and the test AUC of the best validation epoch."""
    warnings.filterwarnings("ignore")
    pl.seed_everything(training.seed)
    started = time.perf_counter()
    users = {name: records(packed) for name, packed in splits.items()}
    prepared = time.perf_counter() - started
    data = PtlsDataModule(
        train_data=SeqToTargetDataset(MemoryMapDataset(users["train"]), TARGET, target_dtype="float"),
        train_batch_size=training.batch_users,
        train_drop_last=True,
    )
    watch = _Watch({name: users[name] for name in ("validation", "test")}, training.batch_users)
    trainer = pl.Trainer(
        max_epochs=training.epochs,
        accelerator="cpu",
        callbacks=[watch],
        gradient_clip_val=training.gradient_clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(network(model, fold, training), data)
    best = max(watch.epochs, key=lambda epoch: epoch["validation"])
    return {
        "epoch_seconds": [epoch["seconds"] for epoch in watch.epochs],
        "validation_auc": best["validation"],
        "test_auc": best["test"],
        "prepare_seconds": prepared,
    }
