"""The probability that a model gives to thin files, users with too few payments or merchants."""

from __future__ import annotations

import numpy as np

from lbsf.folds.packed import Ints
from lbsf.models.artifact import ThinFile, thin_files

# Weight of the overall default rate, in users: with few thin files, their own rate is unreliable.
PRIOR_USERS = 50


def thin_file_of(label: Ints, payments: Ints, merchants: Ints, least_payments: int, least_merchants: int) -> ThinFile:
    """Estimate the default rate of thin files from labelled users, shrunk towards the overall rate.

    Args:
        label: (n,) 0 or 1, n at least one.
        payments, merchants: (n,) kept in the fold.
        least_payments, least_merchants: a user with fewer of either is a thin file.
    """
    thin = thin_files(payments, merchants, least_payments, least_merchants)
    shrunk = (label[thin].sum() + PRIOR_USERS * float(np.mean(label))) / (thin.sum() + PRIOR_USERS)
    return ThinFile(payments=least_payments, merchants=least_merchants, probability=float(shrunk))
