"""Examples: labels joined to folds of the payments that were known on their day, and the splits. Pure."""

from lbsf.examples.build import build_examples, row_group_users
from lbsf.examples.split import split_of

__all__ = ["build_examples", "row_group_users", "split_of"]
