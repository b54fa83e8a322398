"""What the simulated bank delivers: text, duplicates, late rows, broken rows."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbsf.config import load_config
from lbsf.config.models import SyntheticConfig
from lbsf.synthetic.delivery import BAD, DUPLICATE, FAULTS, MAX_DELAY_DAYS, PAYMENT, SCHEMA, decimal_text
from lbsf.synthetic.simulate import RAW_DDL, raw_chunk, simulate_chunk

CONF = Path(__file__).resolve().parents[3] / "conf" / "base.yaml"
COLUMNS = [name for name in SCHEMA.names if name not in ("delivered_on", "kind")]


def configured(**values: object) -> SyntheticConfig:
    return load_config(CONF, ["synthetic.users=250", *(f"synthetic.{k}={v}" for k, v in values.items())]).synthetic


@pytest.fixture(scope="module")
def dirty() -> SyntheticConfig:
    return configured(duplicate_share=0.05, late_share=0.1, bad_share=0.02)


@pytest.fixture(scope="module")
def rows(dirty: SyntheticConfig) -> pd.DataFrame:
    return raw_chunk(dirty, 0).to_pandas()


def paid_day(rows: pd.DataFrame) -> pd.Series:
    return pd.to_datetime(rows["booked_at"]).dt.normalize()


@settings(deadline=None)
@given(st.lists(st.integers(-(10**15), 10**15)))
def test_decimal_text(cents: list[int]) -> None:
    expected = [str(Decimal(c).scaleb(-2)) for c in cents]
    assert [Decimal(text) for text in decimal_text(np.array(cents, np.int64)).to_pylist()] == [
        Decimal(text) for text in expected
    ]


def test_small_amounts_keep_their_cents() -> None:
    assert decimal_text(np.array([5, -150, 0, 100])).to_pylist() == ["0.05", "-1.50", "0.00", "1.00"]


def test_the_declared_columns(rows: pd.DataFrame) -> None:
    assert list(rows.columns) == [part.split()[0] for part in RAW_DDL.split(", ")]


def test_every_payment_is_delivered_once_whole(dirty: SyntheticConfig, rows: pd.DataFrame) -> None:
    payments = rows[rows["kind"] == PAYMENT]
    _, _, events = simulate_chunk(dirty, 0)
    assert len(payments) == len(events) == payments["txn_id"].nunique()
    assert payments.drop(columns="mcc_text").notna().all(axis=None)
    cents = (payments["value"].astype(float) * 100).round().astype(int)
    assert np.array_equal(np.sort(cents), np.sort(events.cents))
    assert set(payments["ccy"]) == {"EUR"}


def test_shares(rows: pd.DataFrame) -> None:
    payments = rows[rows["kind"] == PAYMENT]
    n = len(payments)
    late = pd.to_datetime(payments["delivered_on"]) > paid_day(payments)
    for found, share in (
        ((rows["kind"] == DUPLICATE).sum(), 0.05),
        (late.sum(), 0.1),
        ((rows["kind"] == BAD).sum(), 0.02),
    ):
        assert found == pytest.approx(share * n, abs=4 * np.sqrt(share * n))


def test_nothing_is_delivered_before_it_was_paid_or_long_after(rows: pd.DataFrame) -> None:
    payments = rows[rows["kind"] == PAYMENT]
    delay = (pd.to_datetime(payments["delivered_on"]) - paid_day(payments)).dt.days
    assert delay.min() == 0
    assert delay.max() == MAX_DELAY_DAYS
    assert not (delay == 1).any(), "a late row is late by two days or more"


def test_a_duplicate_is_the_same_row_in_the_same_or_a_later_file(rows: pd.DataFrame) -> None:
    first = rows[rows["kind"] == PAYMENT].set_index("txn_id")
    again = rows[rows["kind"] == DUPLICATE].set_index("txn_id")
    original = first.loc[again.index]
    compared = [name for name in COLUMNS if name != "txn_id"]
    pd.testing.assert_frame_equal(again[compared], original[compared])
    later = pd.to_datetime(again["delivered_on"]) - pd.to_datetime(original["delivered_on"])
    assert set(later.dt.days) == {0, 1, 2, 3}


def test_a_bad_row_is_broken_in_one_column(rows: pd.DataFrame) -> None:
    bad = rows[rows["kind"] == BAD]
    hits = [
        (bad[column].isna() if text is None else bad[column] == text).rename(f"{column}={text}")
        for column, text in FAULTS
    ]
    assert (pd.concat(hits, axis=1).sum(axis=1) == 1).all()
    assert all(hit.any() for hit in hits), "every fault occurs"


def test_without_shares_there_is_no_dirt() -> None:
    clean = raw_chunk(configured(duplicate_share=0, late_share=0, bad_share=0), 0).to_pandas()
    assert (clean["kind"] == PAYMENT).all()
    assert (pd.to_datetime(clean["delivered_on"]) == paid_day(clean)).all()


def test_the_shares_leave_the_payments_as_they_are(rows: pd.DataFrame) -> None:
    clean = raw_chunk(configured(duplicate_share=0, late_share=0, bad_share=0), 0).to_pandas()
    payments = rows[rows["kind"] == PAYMENT]
    pd.testing.assert_frame_equal(payments[COLUMNS].reset_index(drop=True), clean[COLUMNS])
