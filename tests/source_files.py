"""A bank's mapping and its rows in our columns, for tests of how deliveries are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import SparkSession

from lbsf.ingest import SourceMapping, find_delivery, load_mapping, read_source
from lbsf.schemas import PAYMENTS

DELIVERIES = Path(__file__).parent / "unit" / "ingest" / "deliveries"
# Columns of the files in DELIVERIES.
COLUMNS = {
    "payment_id": "id",
    "user_id": "user",
    "merchant_id": "merchant",
    "paid_at": "to_timestamp(at, 'yyyy-MM-dd HH:mm:ss')",
    "amount": "amount",
    "currency": "'EUR'",
}
HEADER = "id,user,merchant,at,amount"


def write_mapping(folder: Path, **changes: Any) -> Path:
    """A mapping of CSV files with a header under `folder`/raw; a value `...` leaves its key out."""
    values = {"name": "bank", "table": "payments", "format": "csv", "path": f"{folder}/raw", "columns": COLUMNS}
    values |= {"options": {"header": True}} | changes
    file = folder / "conf" / "sources" / "bank.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not ...}))
    return file


def rows(spark: SparkSession, mapping: SourceMapping | Path, path: str | None = None) -> list[dict[str, Any]]:
    """All rows of a mapping's delivery, in a stable order."""
    if isinstance(mapping, Path):
        mapping = load_mapping(mapping, PAYMENTS)
    found = read_source(spark, mapping, find_delivery(spark, mapping, "/none", path)).collect()
    return sorted((row.asDict() for row in found), key=str)


def line(number: int, amount: str = "5.00", day: str = "2025-07-01") -> str:
    """A row of HEADER's columns."""
    return f"{number},u{number},m1,{day} 10:00:00,{amount}"


def write_csv(path: Path, *lines: str, header: str = HEADER) -> Path:
    """A CSV file of `header` and `lines`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path
