"""Folding: a user's payments of a window, one chronological sequence a merchant. Pure, free of torch."""

from lbsf.folding.fold import fold_payments, user_bucket_of
from lbsf.folding.loss import fold_loss

__all__ = ["fold_loss", "fold_payments", "user_bucket_of"]
