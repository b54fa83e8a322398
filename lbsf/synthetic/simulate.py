"""Simulation of one chunk, from the seed to raw rows, and of all chunks in Spark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lbsf.config.models import SyntheticConfig
from lbsf.synthetic.bills import simulate_bills, simulate_loans
from lbsf.synthetic.delivery import deliver, user_ids
from lbsf.synthetic.events import Events, concatenate
from lbsf.synthetic.health import (
    BEHAVIOUR_STREAM,
    DELIVERY_STREAM,
    Truth,
    chunk_count,
    generator,
    simulate_truth,
)
from lbsf.synthetic.merchants import Merchants, make_merchants
from lbsf.synthetic.people import draw_people
from lbsf.synthetic.visits import simulate_visits

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

RAW_DDL = (
    "txn_id string, customer string, payee_id string, payee_name string, booked_at string, value string, "
    "ccy string, mcc_text string, channel string, memo string, delivered_on date, kind int"
)
TRUTH_DDL = "user_id string, observed_on date, matured_on date, label int, default_probability double"
ROWS_A_BATCH = 50_000


def simulate_chunk(config: SyntheticConfig, chunk: int) -> tuple[Truth, Merchants, Events]:
    """Simulate all payments of one chunk's users, ordered by user and time. Depends on its arguments only."""
    truth = simulate_truth(config, chunk)
    merchants = make_merchants(config.seed, config.merchants, config.days)
    rng = generator(config.seed, chunk, BEHAVIOUR_STREAM)
    people = draw_people(rng, config, truth)
    events = concatenate(
        [
            simulate_bills(rng, people, merchants, config.start_on, config.days),
            simulate_loans(rng, people, merchants, config.days),
            simulate_visits(rng, people, merchants, config.start_on, config.days),
        ]
    )
    return truth, merchants, events.take(np.lexsort((events.second, events.user)))


def raw_chunk(config: SyntheticConfig, chunk: int) -> pa.Table:
    """Return the chunk's rows as delivered, with the columns of lbsf.synthetic.delivery.SCHEMA."""
    truth, merchants, events = simulate_chunk(config, chunk)
    return deliver(generator(config.seed, chunk, DELIVERY_STREAM), config, merchants, chunk, truth.user, events)


def truth_chunk(config: SyntheticConfig, chunk: int) -> pa.Table:
    """Return the chunk's labels with their true probabilities, with the columns of TRUTH_DDL."""
    truth = simulate_truth(config, chunk)
    start = np.datetime64(config.start_on, "D")
    observed = start + truth.observed_day
    return pa.table(
        {
            "user_id": user_ids(truth.user),
            "observed_on": pa.array(observed),
            "matured_on": pa.array(observed + config.label_horizon_days),
            "label": pa.array(truth.label.astype(np.int32)),
            "default_probability": pa.array(truth.probability),
        }
    )


def raw_payments(spark: SparkSession, config: SyntheticConfig, tasks: int | None = None) -> DataFrame:
    """Return the raw rows of all users, with RAW_DDL's columns: the files', the day of delivery, the kind of row.

    Args:
        spark: the session.
        config: users, days and shares.
        tasks: Spark tasks, at most one per chunk; None: four per core. The rows do not depend on it.
    """

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for chunk in batch.column(0).to_pylist():
                yield from raw_chunk(config, chunk).to_batches(max_chunksize=ROWS_A_BATCH)

    return _chunks(spark, config, tasks).mapInArrow(rows, RAW_DDL)


def true_outcomes(spark: SparkSession, config: SyntheticConfig, tasks: int | None = None) -> DataFrame:
    """Return each user's label, its days and its true probability, with TRUTH_DDL's columns.

    Args:
        spark, config, tasks: as for `raw_payments`.
    """

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for chunk in batch.column(0).to_pylist():
                yield from truth_chunk(config, chunk).to_batches()

    return _chunks(spark, config, tasks).mapInArrow(rows, TRUTH_DDL)


def _chunks(spark: SparkSession, config: SyntheticConfig, tasks: int | None) -> DataFrame:
    chunks = chunk_count(config.users)
    wanted = tasks or 4 * spark.sparkContext.defaultParallelism
    return spark.range(0, chunks, 1, numPartitions=min(chunks, wanted))
