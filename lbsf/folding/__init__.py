"""Folding: groups a user's payments of a window into one chronological sequence per merchant. Pure, without torch."""

from lbsf.folding.fold import fold_payments, user_bucket_of
from lbsf.folding.truncation import fold_loss

__all__ = ["fold_loss", "fold_payments", "user_bucket_of"]
