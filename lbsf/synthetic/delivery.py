"""Simulated payments as a bank delivers them: its column names, all values as text, duplicate, late and bad rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lbsf.config.models import SyntheticConfig
from lbsf.synthetic.catalogue import CHANNELS
from lbsf.synthetic.events import MEMOS, Events
from lbsf.synthetic.merchants import Merchants

# Kinds of raw rows, for counting; the delivered files do not contain them.
PAYMENT, DUPLICATE, BAD = 0, 1, 2
CURRENCY = "EUR"
MAX_DELAY_DAYS = 15

SCHEMA = pa.schema(
    [
        ("txn_id", pa.string()),
        ("customer", pa.string()),
        ("payee_id", pa.string()),
        ("payee_name", pa.string()),
        ("booked_at", pa.string()),
        ("value", pa.string()),
        ("ccy", pa.string()),
        ("mcc_text", pa.string()),
        ("channel", pa.string()),
        ("memo", pa.string()),
        ("delivered_on", pa.date32()),
        ("kind", pa.int32()),
    ]
)

# A bad row has one of these faults: a column and the invalid value in it.
FAULTS: tuple[tuple[str, str | None], ...] = (
    ("txn_id", None),
    ("customer", None),
    ("payee_id", None),
    ("booked_at", "00.00.0000"),
    ("booked_at", "2099-01-01 12:00:00"),
    ("value", "n/a"),
    ("value", "99999999999.99"),
    ("ccy", "XXX"),
)


def deliver(
    rng: np.random.Generator,
    config: SyntheticConfig,
    merchants: Merchants,
    chunk: int,
    users: NDArray[np.int64],
    events: Events,
) -> pa.Table:
    """Return the raw rows of one chunk, with SCHEMA's columns.

    A duplicate is the same row again, in the file of the same or a later day. A bad row is a copy of a payment
    with one invalid field. The valid payment is delivered too, so the rows that ingest should keep do not
    depend on config.duplicate_share and config.bad_share.

    Args:
        rng: draws delays, duplicates and faults.
        config: the shares of late, duplicate and bad rows, and the first day.
        merchants: ids, names and category texts.
        chunk: the chunk's number; part of each txn_id.
        users: (users,) index of the chunk's users, over all chunks.
        events: the payments; their order determines their txn_id.
    """
    n = len(events)
    delay = np.where(rng.random(n) < config.late_share, rng.integers(2, MAX_DELAY_DAYS + 1, n), 0)
    delivered = events.second // 86400 + delay
    again = np.flatnonzero(rng.random(n) < config.duplicate_share)
    broken = np.flatnonzero(rng.random(n) < config.bad_share)
    rows = np.concatenate([np.arange(n), again])
    delivered_rows = np.concatenate([delivered, delivered[again] + rng.integers(0, 4, len(again))])
    kind = np.repeat([PAYMENT, DUPLICATE], [n, len(again)])
    faults = rng.integers(0, len(FAULTS), len(broken))

    parts = [_raw_rows(config, merchants, chunk, users, events, rows, delivered_rows, kind)]
    for number, (column, text) in enumerate(FAULTS):
        hit = broken[faults == number]
        copies = _raw_rows(config, merchants, chunk, users, events, hit, delivered[hit], np.full(len(hit), BAD))
        position = SCHEMA.get_field_index(column)
        parts.append(copies.set_column(position, SCHEMA.field(position), pa.array([text] * len(hit), pa.string())))
    return pa.concat_tables(parts)


def _raw_rows(
    config: SyntheticConfig,
    merchants: Merchants,
    chunk: int,
    users: NDArray[np.int64],
    events: Events,
    rows: NDArray[np.int64],
    delivered: NDArray[np.int64],
    kind: NDArray[np.int64],
) -> pa.Table:
    chosen = events.take(rows)
    merchant = pa.array(chosen.merchant)
    first = np.datetime64(config.start_on, "s").astype(np.int64)
    booked_at = pa.array(chosen.second + first).cast(pa.timestamp("s")).cast(pa.string())
    columns = [
        _numbered("T", 10**15 + chunk * 10**8 + rows),
        user_ids(users).take(pa.array(chosen.user)),
        merchants.ids.take(merchant),
        merchants.names.take(merchant),
        booked_at,
        decimal_text(chosen.cents),
        pa.array([CURRENCY]).take(pa.array(np.zeros(len(rows), np.int64))),
        merchants.category_text.take(merchant),
        pa.array(CHANNELS).take(pa.array(chosen.channel)),
        pa.array(MEMOS).take(pa.array(chosen.memo)),
        pa.array((delivered + first // 86400).astype(np.int32)).cast(pa.date32()),
        pa.array(kind.astype(np.int32)),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def decimal_text(cents: NDArray[np.int64]) -> pa.StringArray:
    """Return cents as decimal text, (n,): 5 -> '0.05', -150 -> '-1.50'."""
    # A 128-bit decimal is stored as its low and its high 64 bits; the high ones only extend the sign.
    words = np.ascontiguousarray(np.stack([cents, cents >> 63], axis=1))
    decimals = pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), [None, pa.py_buffer(words)])
    return decimals.cast(pa.string())


def user_ids(users: NDArray[np.int64]) -> pa.StringArray:
    """Return the bank's customer ids, (n,)."""
    return _numbered("C", 10**9 + users)


def _numbered(letter: str, numbers: NDArray[np.int64]) -> pa.StringArray:
    return pc.binary_join_element_wise(letter, pa.array(numbers).cast(pa.string()), "")
