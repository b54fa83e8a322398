"""Names that killed writers leave, and names that only look like them."""

from __future__ import annotations

import os
from pathlib import Path

from lbsf.tables.litter import litter, remove_empty_folders

LITTER = (
    # Commits of Spark, of delta-rs, and of the object store beneath it.
    "_delta_log/.00000000000000000002.json.4c7d.tmp",
    "_delta_log/..00000000000000000002.json.4c7d.tmp.crc",
    "_delta_log/_commit_1f0a.json.tmp",
    "_delta_log/00000000000000000002.json#1",
    "_delta_log/_last_checkpoint#3",
    "day=1/part-0.parquet#2",
    # Committers of plain Parquet.
    "_temporary/0/_temporary/attempt_1/part-0.parquet",
    "_temporary/0/_temporary/attempt_1/.part-0.parquet.crc",
    "day=1/_started_123",
    "day=1/_committed_123",
    ".spark-staging-9/day=1/part-0.parquet",
    # Checksums of what has left.
    "day=1/.part-9.parquet.crc",
    "_delta_log/.00000000000000000009.json.crc",
    "_delta_log/00000000000000000009.crc",
)
KEPT = (
    "_delta_log/00000000000000000001.json",
    "_delta_log/.00000000000000000001.json.crc",
    "_delta_log/00000000000000000001.crc",
    "_delta_log/.00000000000000000001.crc.crc",
    "_delta_log/00000000000000000001.checkpoint.parquet",
    "_delta_log/_last_checkpoint",
    "day=1/part-0.parquet",
    "day=1/.part-0.parquet.crc",
    "day=1/part-0#x.parquet",
    "place=x#1/part-0.parquet",
    "_change_data/day=1/cdc-0.parquet",
    # Running now.
    "_delta_log/_commit_now.json.tmp",
    "_temporary/0/_temporary/attempt_2/part-0.parquet",
)
NOW = 1_750_000_000.0


def test_litter_is_told_from_what_belongs_to_the_table(tmp_path: Path) -> None:
    for name in (*LITTER, *KEPT):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (NOW, NOW) if "now" in name or "attempt_2" in name else (NOW - 7200, NOW - 7200))
    assert {str(path.relative_to(tmp_path)) for path in litter(str(tmp_path), NOW - 3600)} == set(LITTER)
    assert len(litter(str(tmp_path), NOW + 1)) == len(LITTER) + 2
    assert litter(str(tmp_path), NOW - 7200) == []


def test_empty_folders_go_once_they_are_old_or_were_emptied(tmp_path: Path) -> None:
    for folder in ("_delta_log", "day=1/bucket=0", "day=2/bucket=0", "day=3/bucket=0", "day=4"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "day=2/bucket=0/part-0.parquet").touch()
    for folder in ("_delta_log", "day=1/bucket=0", "day=1"):
        os.utime(tmp_path / folder, (NOW, NOW))
    remove_empty_folders(str(tmp_path), NOW + 1, [tmp_path / "day=3/bucket=0"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_delta_log", "day=2", "day=4"]
