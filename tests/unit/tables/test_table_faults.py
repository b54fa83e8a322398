"""What a fault of the storage is called, from the words of each library as they were seen."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lbsf.damaged import damaged, reading
from lbsf.errors import InputError
from lbsf.tables import explain


@pytest.mark.parametrize(
    ("error", "path"),
    [
        pytest.param(PermissionError(13, "Permission denied", "/data/a b/x.html"), "/data/a b/x.html", id="Python"),
        pytest.param(
            OSError("[Errno 30] Failed to open local file '/data/x.parquet'. Detail: [errno 30] Read-only file system"),
            "/data/x.parquet",
            id="PyArrow",
        ),
        pytest.param(
            OSError(
                "Generic LocalFileSystem error\n ↳ Unable to open file /data/_delta_log/00000000000000000003.json#1\n"
                " ↳ Read-only file system (os error 30)\n"
            ),
            "/data/_delta_log/00000000000000000003.json",
            id="deltalake",
        ),
        pytest.param(
            OSError("Caused by: java.io.FileNotFoundException: /data/day=1/part-0.parquet (Permission denied)"),
            "/data/day=1/part-0.parquet",
            id="Java",
        ),
    ],
)
def test_a_place_that_cannot_be_written_is_named(error: OSError, path: str) -> None:
    line = explain(error, "/data")
    assert line is not None and line.startswith(f"{path}: ")
    assert line.endswith("; the user who runs the jobs must be able to read and write there")


def test_the_cause_behind_an_error_counts(tmp_path: Path) -> None:
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("the picture cannot be drawn") from error
    except RuntimeError as error:
        line = explain(error, str(tmp_path / "not" / "there"))
    assert line is not None and line.startswith(f"no space left on the disk (storage.root {tmp_path}/not/there: ")


@pytest.mark.parametrize("root", ["/data/lbsf", "/data/a folder"])
def test_a_root_with_spaces_is_found_in_sparks_words(root: str) -> None:
    name = "scores/score_date=2025-07-30/part-0.parquet"
    error = OSError(f"File file:{root.replace(' ', '%20')}/tables/{name} does not exist")
    assert explain(error, root) == (
        f"table scores: file {root}/tables/{name} is missing; score that day anew: score_users --as-of 2025-07-30"
    )


@pytest.mark.parametrize(
    "error",
    [
        ValueError("No space left on device"),
        ConnectionRefusedError(111, "Connection refused"),
        FileNotFoundError(2, "No such file or directory", "/etc/nothing"),
    ],
)
def test_other_errors_are_left_alone(error: Exception) -> None:
    assert explain(error, "/data") is None


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("/w/tables/folds/as_of=2025-07-30/user_bucket=1/x.parquet", "fold_payments --as-of 2025-07-30 --full"),
        ("/w/tables/examples/split=train/x.parquet", "build the examples anew: build_examples"),
        ("/w/tables/band_migration/score_date=2025-07-30/x.parquet", "monitor_scores --as-of 2025-07-30"),
        ("/w/tables/labels/x.parquet", "restore it from a copy; without one, take it out of the table"),
    ],
)
def test_each_table_has_its_remedy(path: str, remedy: str) -> None:
    line = damaged(path, "is missing")
    assert line.startswith(f"table {path.split('/')[3]}: file {path} is missing; ")
    assert remedy in line


def test_reading_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    with pytest.raises(InputError, match=f"^file {file} is missing$"), reading(str(file)):
        pq.ParquetFile(file)
    file.write_bytes(b"")
    with pytest.raises(InputError, match=rf"^file {file} cannot be read \(.*\)$"), reading(str(file)):
        pq.ParquetFile(file)
    pq.write_table(pa.table({"x": [1]}), file)
    with pytest.raises(KeyError), reading(str(file)):
        pq.ParquetFile(file).read()["y"]
