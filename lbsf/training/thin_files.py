"""What a model says of users of whom too little is known."""

from __future__ import annotations

import numpy as np

from lbsf.folds.packed import Ints
from lbsf.models.artifact import ThinFile, thin_files

# The overall default rate counts as much as so many thin files: few of them say little of their own rate.
PRIOR_USERS = 50


def thin_file_of(label: Ints, payments: Ints, merchants: Ints, least_payments: int, least_merchants: int) -> ThinFile:
    """The default rate of thin files among labelled users, drawn towards that of all.

    Args:
        label: (n,) 0 or 1, n at least one.
        payments, merchants: (n,) that the fold kept.
        least_payments, least_merchants: a user with fewer of either is a thin file.
    """
    thin = thin_files(payments, merchants, least_payments, least_merchants)
    drawn = (label[thin].sum() + PRIOR_USERS * float(np.mean(label))) / (thin.sum() + PRIOR_USERS)
    return ThinFile(payments=least_payments, merchants=least_merchants, probability=float(drawn))
