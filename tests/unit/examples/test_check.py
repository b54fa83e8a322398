"""Splits that can train and judge a model, and shares that would."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from lbsf.config.models import ExamplesConfig
from lbsf.examples import SplitCount, better_shares, unusable_split, weak_splits
from lbsf.examples.check import PARTS

CONFIG = ExamplesConfig(validation_share=0.1, test_share=0.1, out_of_time_from=None)
GOOD = {"train": (280, 28), "validation": (35, 30), "test": (70, 30)}


def counts(**splits: tuple[int, int]) -> dict[str | None, SplitCount]:
    day = date(2025, 6, 1)
    return {name: SplitCount(labels, defaults, day, day) for name, (labels, defaults) in splits.items()}


@pytest.mark.parametrize(
    ("changed", "split", "why"),
    [
        ({"validation": (35, 0)}, "validation", "all 35 labels of the validation split are 0: a model needs both"),
        ({"validation": (35, 35)}, "validation", "all 35 labels of the validation split are 1: a model needs both"),
        ({"train": (280, 0)}, "train", "all 280 labels of the train split are 0"),
        ({"test": (70, 0)}, "test", "all 70 labels of the test split are 0"),
        ({"out_of_time": (9, 0)}, "out_of_time", "all 9 labels of the out_of_time split are 0"),
    ],
)
def test_a_split_of_one_class_is_unusable(changed: dict[str, tuple[int, int]], split: str, why: str) -> None:
    assert unusable_split(counts(**GOOD)) is None
    found = unusable_split(counts(**{**GOOD, **changed}))
    assert found is not None
    assert found[0] == split and found[1].startswith(why)


def test_a_split_without_labels() -> None:
    for missing in ("train", "validation"):
        found = unusable_split(counts(**{name: of for name, of in GOOD.items() if name != missing}))
        assert found is not None and found[1].startswith(f"no label falls into the {missing} split (labels, default")
    # The tests may be left out; what cannot be judged then is said.
    without_test = counts(**{name: of for name, of in GOOD.items() if name != "test"})
    assert unusable_split(without_test) is None
    (said,) = weak_splits(without_test, 5)
    assert "no labels are held out" in said


def test_weak_splits_are_named() -> None:
    assert weak_splits(counts(**GOOD), 5) == []
    (validation,) = weak_splits(counts(**GOOD), 6)
    assert validation.startswith("validation holds 30 defaults and 5 others: with fewer than 6 of each")
    # The gate judges on the out-of-time test where there is one.
    (judge,) = weak_splits(counts(**GOOD, out_of_time=(50, 4)), 5)
    assert judge.startswith("out_of_time holds 4 defaults and 46 others: validate_model refuses")


def test_better_shares_are_the_smallest_that_hold_enough() -> None:
    by_fraction = np.zeros((PARTS, 2), np.int64)
    by_fraction[:, 0] = 1
    # 12 defaults: 2 in [0, 0.1), none up to 0.235, then one every 0.05 or so.
    by_fraction[[10, 50, 235, 290, 350, 420, 480, 550, 600, 700, 800, 900], 1] = 1
    found = better_shares(by_fraction, CONFIG, 30)
    assert found is not None
    # A sixth of the defaults, two: those of 0.235 and 0.29.
    assert found[0] == CONFIG.model_copy(update={"validation_share": 0.2})
    assert found[1] == (
        "examples.validation_share=0.2 would hold 2 defaults and 200 others; "
        "examples.test_share=0.1 would hold 2 defaults and 100 others"
    )
    # Without a test split the validation begins at 0.
    no_test = CONFIG.model_copy(update={"test_share": 0.0})
    assert better_shares(by_fraction, no_test, 30) == (
        no_test,
        "examples.validation_share=0.1 would hold 2 defaults and 100 others",
    )
    # Enough for any purpose is enough: one of each.
    few = better_shares(by_fraction, CONFIG, 1)
    assert few is not None and few[0].validation_share == 0.14


def test_no_shares_help_too_few_defaults() -> None:
    by_fraction = np.zeros((PARTS, 2), np.int64)
    by_fraction[:, 0] = 1
    assert better_shares(by_fraction, CONFIG, 30) is None
    by_fraction[[300, 700], 1] = 1
    # One for train, one for validation, none for the test.
    assert better_shares(by_fraction, CONFIG, 30) is None
    without_test = better_shares(by_fraction, CONFIG.model_copy(update={"test_share": 0.0}), 30)
    assert without_test is not None and without_test[0].validation_share == 0.31
