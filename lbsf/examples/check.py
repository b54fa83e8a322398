"""Whether the splits of the labels can train and judge a model, and which shares would do where they cannot. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lbsf.config.models import ExamplesConfig
from lbsf.examples.split import user_fraction

# Users are counted in as many parts of their fractions, and other shares are looked for in steps of STEP of them.
PARTS = 1000
STEP = 10
# A remedy leaves at least half of the labels for training.
_MOST_HELD_OUT = PARTS // 2
# A remedy gives validation and test one in so many of the rarer class each.
_RARER_SHARE = 6


class SplitCount(NamedTuple):
    """Labels of one split."""

    labels: int
    defaults: int
    first_observed_on: date
    last_observed_on: date

    def __str__(self) -> str:
        return f"{self.labels:,} ({100 * self.defaults / self.labels:.1f} %)"

    @property
    def rarer(self) -> int:
        """Labels of the class that has fewer."""
        return min(self.defaults, self.labels - self.defaults)


Counts = Mapping[str | None, SplitCount]


def unusable_split(counts: Counts) -> tuple[str, str] | None:
    """The split that no model can be trained with, and why; None where one can be.

    Training needs labels in train and validation, and both classes in every split that there is: the validation AUC
    chooses the epoch, calibration is fitted on validation, and the held-out splits are measured alike.

    Args:
        counts: by split; None stands for labels that are left out.
    """
    found = ", ".join(sorted(f"{split or 'left out'} {count}" for split, count in counts.items()))
    for split in ("train", "validation", "test", "out_of_time"):
        if split not in counts:
            if split in ("train", "validation"):
                return split, f"no label falls into the {split} split (labels, default rate: {found})"
        elif not counts[split].rarer:
            count = counts[split]
            return split, (
                f"all {count.labels:,} labels of the {split} split are {int(count.defaults > 0)}: a model needs both "
                f"defaults and non-defaults (labels, default rate: {found})"
            )
    return None


def weak_splits(counts: Counts, min_defaults: int) -> list[str]:
    """What is too small to be relied on, or missing, in splits that a model can be trained on; a sentence each."""
    said = []
    if counts["validation"].rarer < min_defaults:
        said.append(
            f"validation holds {_classes(counts['validation'])}: with fewer than {min_defaults} of each "
            "(promotion.min_defaults) the choice of the epoch and the calibration owe much to chance"
        )
    judge = next((split for split in ("out_of_time", "test") if split in counts), None)
    if judge is None:
        said.append(
            "no labels are held out, so validate_model has nothing to judge a model on: "
            "set examples.test_share or examples.out_of_time_from"
        )
    elif counts[judge].rarer < min_defaults:
        said.append(
            f"{judge} holds {_classes(counts[judge])}: validate_model refuses a model that it cannot judge on "
            f"{min_defaults} of each (promotion.min_defaults)"
        )
    return said


def _classes(count: SplitCount) -> str:
    return f"{count.defaults:,} defaults and {count.labels - count.defaults:,} others"


def labels_by_fraction(labels: DataFrame) -> npt.NDArray[np.int64]:
    """How many labels lie in each part of the users' fractions, those of out_of_time and those left out aside.

    Args:
        labels: user_id, label, split.

    Returns:
        (PARTS, 2): part of user_fraction() from 0 to 1; labels of 0 and of 1.
    """
    part = F.floor(user_fraction() * PARTS).cast("int")
    counted = labels.where("split != 'out_of_time'").groupBy(part.alias("part"), "label").count().collect()
    found = np.zeros((PARTS, 2), np.int64)
    for row in counted:
        found[row["part"], row["label"]] = row["count"]
    return found


def better_shares(
    by_fraction: npt.NDArray[np.int64], config: ExamplesConfig, min_defaults: int
) -> tuple[ExamplesConfig, str] | None:
    """The smallest shares that give train, validation and test enough of both classes, and what these would give.

    Users keep their place: which of them are held out is not to be chosen, only how many.

    Args:
        by_fraction: of `labels_by_fraction`.
        config: its shares are the least.
        min_defaults: labels of each class that are enough for any purpose.

    Returns:
        None where no shares give that. A test_share of 0 stays 0.
    """
    below = np.concatenate([np.zeros((1, 2), np.int64), np.cumsum(by_fraction, axis=0)])
    wanted = min(max(1, int(below[-1].min()) // _RARER_SHARE), min_defaults)
    least_test, least_validation = (round(share * PARTS) for share in (config.test_share, config.validation_share))
    for test in _wider(least_test) if least_test else [0]:
        for validation in _wider(least_validation):
            end = test + validation
            if end > _MOST_HELD_OUT:
                continue
            tested, validated, trained = below[test], below[end] - below[test], below[-1] - below[end]
            judged = [tested, validated, trained] if least_test else [validated, trained]
            if min(int(of.min()) for of in judged) < wanted:
                continue
            shares = {"validation_share": validation / PARTS} | ({"test_share": test / PARTS} if least_test else {})
            return config.model_copy(update=shares), "; ".join(
                f"examples.{name}={share:g} would hold {int(of[1]):,} defaults and {int(of[0]):,} others"
                for (name, share), of in zip(shares.items(), (validated, tested), strict=False)
            )
    return None


def _wider(least: int) -> list[int]:
    """A share, and larger ones in whole steps."""
    return [least, *range((least // STEP + 1) * STEP, _MOST_HELD_OUT + 1, STEP)]
