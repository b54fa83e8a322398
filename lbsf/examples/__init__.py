"""Examples: labels joined to folds of the payments that were known on their day, and the splits. Pure."""

from lbsf.examples.build import build_examples, ingested_late, row_group_users
from lbsf.examples.check import SplitCount, better_shares, labels_by_fraction, unusable_split, weak_splits
from lbsf.examples.split import split_of

__all__ = [
    "SplitCount",
    "better_shares",
    "build_examples",
    "ingested_late",
    "labels_by_fraction",
    "row_group_users",
    "split_of",
    "unusable_split",
    "weak_splits",
]
