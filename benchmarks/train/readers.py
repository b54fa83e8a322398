"""Three ways to read the same rows, each with one decoding thread.

A pass reads all files EPOCHS times; the slow row reader reads them once. The start of the reader is timed too.

Petastorm's own batch reader does not support lists that differ in length. Its row reader does, but only for datasets in
Petastorm's own format, in which each list is stored as a NumPy array. It therefore reads a copy of the rows in that
format.
"""

from __future__ import annotations

import json
import pickle
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lbsf.folds.packed import LIST_COLUMNS

COLUMNS = ("as_of", "label", *LIST_COLUMNS)
PASSES = 3
EPOCHS = 8


def timed_passes(read: Callable[[], int]) -> dict[str, float]:
    """Time PASSES passes after a first, untimed one; return the medians.

    Args:
        read: does a pass and returns the number of payments read.
    """
    payments, seconds, cpu_seconds = read(), [], []
    for _ in range(PASSES):
        started, cpu = time.perf_counter(), time.process_time()
        if read() != payments:
            raise AssertionError("two passes read different numbers of payments")
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu)
    middle = float(np.median(seconds))
    return {
        "seconds": middle,
        "cpu_seconds": float(np.median(cpu_seconds)),
        "payments": payments,
        "payments_per_second": payments / middle,
        "payments_per_cpu_second": payments / float(np.median(cpu_seconds)),
    }


def arrow(files: Sequence[str]) -> int:
    """Decode every row group to Arrow arrays and drop them; return the number of payments."""
    payments = 0
    for path in [*files] * EPOCHS:
        file = pq.ParquetFile(path)
        for number in range(file.num_row_groups):
            rows = file.read_row_group(number, columns=list(COLUMNS), use_threads=False)
            payments += len(rows.column("paid_at").combine_chunks().flatten())
    return payments


def packed(files: Sequence[str]) -> int:
    """Read with the product's loader; return the number of payments."""
    from lbsf.loading.petastorm_reader import read_row_groups

    return sum(row_group.payments for row_group in read_row_groups(files, shard=0, shards=1, epochs=EPOCHS))


def rows(folder: Path) -> int:
    """Read the copy made by `write_rows` with Petastorm's row reader; return the number of payments."""
    warnings.filterwarnings("ignore")
    from petastorm import make_reader

    # Reads a counted number of rows instead of to the end, as Petastorm can lose rows at the end.
    users = sum(pq.read_metadata(path).num_rows for path in folder.glob("*.parquet"))
    reader = make_reader(f"file://{folder}", workers_count=1, shuffle_row_groups=False, num_epochs=None)
    try:
        return sum(len(row.paid_at) for row in islice(reader, users))
    finally:
        reader.stop()
        reader.join()


def write_rows(files: Sequence[str], folder: Path) -> None:
    """Copy the rows to a dataset in the format of Petastorm's materialize_dataset, without Spark."""
    warnings.filterwarnings("ignore")
    from petastorm import utils
    from petastorm.codecs import NdarrayCodec, ScalarCodec
    from petastorm.etl.dataset_metadata import ROW_GROUPS_PER_FILE_KEY, UNISCHEMA_KEY
    from petastorm.unischema import Unischema, UnischemaField
    from pyspark.sql.types import LongType

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    dtypes = {name: np.int64 if name in ("paid_at", "amount_cents") else np.int32 for name in LIST_COLUMNS}
    lists = [UnischemaField(name, dtype, (None,), NdarrayCodec(), False) for name, dtype in dtypes.items()]
    scalars = [UnischemaField(name, np.int64, (), ScalarCodec(LongType()), False) for name in ("as_of", "label")]
    row_groups = {}
    for path in files:
        table = pq.read_table(path, columns=list(COLUMNS), partitioning=None)
        columns = {
            "as_of": table["as_of"].cast(pa.int32()).cast(pa.int64()),
            "label": table["label"].cast(pa.int64()),
        }
        for field in lists:
            cells = table[field.name].to_pandas()
            columns[field.name] = pa.array([bytes(field.codec.encode(field, cell)) for cell in cells], pa.binary())
        copy = folder / Path(path).name
        pq.write_table(pa.table(columns), copy, row_group_size=pq.ParquetFile(path).metadata.row_group(0).num_rows)
        row_groups[copy.name] = pq.read_metadata(copy).num_row_groups
    dataset = pq.ParquetDataset(str(folder), use_legacy_dataset=True, validate_schema=False)
    schema = Unischema("examples", [*scalars, *lists])
    utils.add_to_dataset_metadata(dataset, UNISCHEMA_KEY, pickle.dumps(schema))
    utils.add_to_dataset_metadata(dataset, ROW_GROUPS_PER_FILE_KEY, json.dumps(row_groups).encode())
