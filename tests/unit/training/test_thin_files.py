"""The probability of thin files, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lbsf.training.thin_files import thin_file_of


def test_the_rate_of_thin_files_is_drawn_to_the_overall_one() -> None:
    label = np.array([1, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    payments = np.array([9, 10, 10, 10, 50, 50, 50, 50, 50, 50])
    merchants = np.array([3, 2, 3, 3, 9, 9, 9, 9, 9, 9])
    found = thin_file_of(label, payments, merchants, least_payments=10, least_merchants=3)
    # Users 0 and 1 are thin, one of them defaulted; overall two of ten did.
    assert (found.payments, found.merchants) == (10, 3)
    assert found.probability == pytest.approx((1 + 50 * 0.2) / (2 + 50))
    assert found.covers(payments, merchants).tolist() == [True, True, *[False] * 8]


def test_without_any_thin_file_the_overall_rate_stands() -> None:
    found = thin_file_of(np.array([1, 0, 0, 0]), np.full(4, 20), np.full(4, 5), 10, 3)
    assert found.probability == pytest.approx(0.25)
