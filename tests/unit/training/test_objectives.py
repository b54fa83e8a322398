"""What is minimised: the labels' cross-entropy, its weight, and objectives that read no labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from example_files import training_plan
from fold_rows import pack, random_rows
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lbsf.errors import InputError
from lbsf.models.batch import FoldBatch
from lbsf.models.pretraining import Pretraining
from lbsf.training.objectives import DefaultRisk, build_objective


class Fixed(nn.Module):
    """Gives the logits that it was made with."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = logits

    def forward(self, batch: FoldBatch) -> Tensor:
        return self.logits


@pytest.mark.parametrize("weight", [None, 3.0])
def test_a_defaulter_counts_as_often_as_is_asked(weight: float | None) -> None:
    logits, label = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.0, 0.0, 1.0])
    batch = replace(FoldBatch.from_packed(pack(random_rows(3, seed=1))), label=label)
    counts = torch.tensor([weight or 1.0, 1.0, weight or 1.0])
    expected = (counts * F.binary_cross_entropy_with_logits(logits, label, reduction="none")).mean()
    torch.testing.assert_close(DefaultRisk(Fixed(logits), weight)(batch), expected)


def test_the_target_lies_between_the_label_and_what_the_teacher_says() -> None:
    logits, label, teacher = torch.tensor([0.5, -1.0]), torch.tensor([1.0, 0.0]), torch.tensor([0.2, 0.3])
    batch = replace(FoldBatch.from_packed(pack(random_rows(2, seed=1))), label=label, teacher=teacher)
    expected = F.binary_cross_entropy_with_logits(logits, torch.tensor([0.4, 0.225]))
    torch.testing.assert_close(DefaultRisk(Fixed(logits), None, teacher_share=0.75)(batch), expected)


def test_a_share_for_a_teacher_that_is_not_there_is_refused(tmp_path: Path) -> None:
    plan = training_plan(tmp_path, users=20, teacher_share=0.5)
    with pytest.raises(InputError, match="teacher_share is 0.5, but the plan has no teacher"):
        build_objective(plan)
    taught = plan.splits["train"].model_copy(update={"teacher": "teacher.npy"})
    assert build_objective(plan.model_copy(update={"splits": {**plan.splits, "train": taught}}))


def test_balanced_classes_do_not_touch_an_objective_without_labels(tmp_path: Path) -> None:
    plan = training_plan(tmp_path, users=20, positive_weight="balanced")
    assert isinstance(build_objective(plan).loss, DefaultRisk)
    for split in plan.splits.values():
        pq.write_table(pq.read_table(split.files[0]).drop_columns(["label"]), split.files[0])
    assert isinstance(build_objective(plan.model_copy(update={"objective": "visits"})).loss, Pretraining)
