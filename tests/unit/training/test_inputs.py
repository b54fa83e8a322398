"""What a rank finds out about its data before it trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from example_files import labelled_rows, training_plan, write_examples

from lbsf.errors import InputError
from lbsf.folds.packed import PackedFolds
from lbsf.folds.views import View
from lbsf.loading.petastorm_reader import every_user_once
from lbsf.training.feed import Feed
from lbsf.training.inputs import data_digest, positive_weight
from lbsf.training.plan import Split, TrainingPlan


@pytest.fixture
def plan(tmp_path: Path) -> TrainingPlan:
    return training_plan(tmp_path, users=40)


def test_the_same_files_give_the_same_digest_and_other_values_another(plan: TrainingPlan) -> None:
    before = data_digest(plan)
    assert data_digest(plan) == before
    path = Path(plan.splits["train"].files[0])
    write_examples(path, labelled_rows(40, seed=99), row_group_rows=20)
    assert data_digest(plan) != before


def test_other_row_groups_give_another_digest(plan: TrainingPlan) -> None:
    before = data_digest(plan)
    write_examples(Path(plan.splits["train"].files[0]), labelled_rows(40, seed=0), row_group_rows=10)
    assert data_digest(plan) != before


def test_files_that_are_not_as_planned_are_named(plan: TrainingPlan) -> None:
    path = Path(plan.splits["validation"].files[0])
    write_examples(path, labelled_rows(19, seed=1), row_group_rows=20)
    with pytest.raises(InputError, match="split validation: its files hold 19 users, 20 were planned"):
        data_digest(plan)
    path.write_bytes(b"no Parquet file")
    with pytest.raises(InputError, match=f"split validation: {path} cannot be read"):
        data_digest(plan)
    path.unlink()
    with pytest.raises(InputError, match=f"split validation: {path} cannot be read"):
        data_digest(plan)


def test_balanced_weighs_both_classes_alike(tmp_path: Path, plan: TrainingPlan) -> None:
    rows = labelled_rows(40, seed=0)
    defaulters = sum(row["label"] for row in rows)
    assert positive_weight(plan) is None
    weight = positive_weight(with_weight(plan, 3.0))
    assert weight == 3.0
    balanced = positive_weight(with_weight(plan, "balanced"))
    assert balanced == pytest.approx((40 - defaulters) / defaulters)
    good = [row for row in rows if not row["label"]]
    path = write_examples(tmp_path / "good.parquet", good, row_group_rows=20)
    one_class = plan.model_copy(update={"splits": {"train": Split(files=(path,), users=len(good))}})
    with pytest.raises(InputError, match="balanced needs training labels of both classes"):
        positive_weight(with_weight(one_class, "balanced"))


def test_a_feed_hands_out_each_batch_once_whether_asked_ahead_or_not(plan: TrainingPlan) -> None:
    def batches() -> list[PackedFolds]:
        return list(every_user_once(plan.splits["train"].files, shard=0, shards=1, batch_users=8))

    expected = batches()
    feed = Feed(iter(batches()), View(), torch.device("cpu"))
    for number, packed in enumerate(expected):
        if number % 2:
            feed.prepare()
            feed.prepare()
        batch = feed.take()
        np.testing.assert_array_equal(batch.amount_cents.numpy(), packed.amount_cents)
    assert feed.payments == sum(packed.payments for packed in expected)
    with pytest.raises(StopIteration):
        feed.take()


def with_weight(plan: TrainingPlan, weight: float | str) -> TrainingPlan:
    return plan.model_copy(update={"training": plan.training.model_copy(update={"positive_weight": weight})})


def test_what_a_teacher_says_is_part_of_the_data(plan: TrainingPlan, tmp_path: Path) -> None:
    before = data_digest(plan)
    teacher = tmp_path / "teacher.npy"
    taught = plan.splits["train"].model_copy(update={"teacher": str(teacher)})
    plan = plan.model_copy(update={"splits": {**plan.splits, "train": taught}})
    with pytest.raises(InputError, match=r"split train: .*teacher.npy cannot be read: No such file"):
        data_digest(plan)
    digests = [before]
    for said in (0.1, 0.2):
        np.save(teacher, np.full(40, said, np.float32))
        digests.append(data_digest(plan))
    assert len(set(digests)) == 3
