from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
from example_files import labelled_rows, write_examples
from fold_rows import Row

from lbsf.config import load_config
from lbsf.tracking import lineage
from lbsf.tracking.lineage import code_state, environment, public_configuration, split_hash

ROWS = labelled_rows(12, seed=0)


def hash_of(folder: Path, *files: list[Row]) -> str:
    folder.mkdir(exist_ok=True)
    return split_hash([write_examples(folder / f"{n}.parquet", rows, 4) for n, rows in enumerate(files)])


def test_the_hash_of_a_split_does_not_depend_on_its_files(tmp_path: Path) -> None:
    one = hash_of(tmp_path / "one", ROWS)
    assert one == hash_of(tmp_path / "two", ROWS[:5], ROWS[5:])
    assert one == hash_of(tmp_path / "turned", ROWS[::-1])
    assert len(one) == 64


@pytest.mark.parametrize(
    ("case", "rows"),
    [
        ("a user fewer", ROWS[1:]),
        ("another user", [{**ROWS[0], "user_id": "somebody"}, *ROWS[1:]]),
        ("another outcome", [{**ROWS[0], "label": 1 - ROWS[0]["label"]}, *ROWS[1:]]),
        ("outcomes exchanged", [{**row, "label": 1 - row["label"]} for row in ROWS]),
        ("more spent", [{**ROWS[0], "cents": ROWS[0]["cents"] + 1}, *ROWS[1:]]),
        ("a user twice", [*ROWS, ROWS[0]]),
    ],
)
def test_the_hash_of_a_split_tells_its_rows_apart(case: str, rows: list[Row], tmp_path: Path) -> None:
    assert hash_of(tmp_path / "as it was", ROWS) != hash_of(tmp_path / "changed", rows), case


def test_the_hash_is_the_same_in_every_version(tmp_path: Path) -> None:
    """A hash that changes with a package would call the same split another one."""
    counts = {"fold_spec": "v2", "payments_kept": 3, "merchants_kept": 2, "cents": 450}
    rows = [{**row, **counts, "user_id": f"u{number}", "label": number} for number, row in enumerate(ROWS[:2])]
    assert hash_of(tmp_path, rows) == "977be340b5f057a8aa99fd14f7939e71d4cae2d8a33181158c1572d605f7229f"


def test_the_state_of_the_code_is_gits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "lbsf" / "__init__.py"
    code.parent.mkdir()
    code.write_text("")
    monkeypatch.setattr(lineage.lbsf, "__file__", str(code))
    nowhere = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    monkeypatch.setattr(os, "environ", nowhere)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_state() == {"git_commit": "unknown", "git_dirty": "unknown"}

    def git(*arguments: str) -> str:
        own = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *own, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    assert code_state() == {"git_commit": git("rev-parse", "HEAD"), "git_dirty": "no"}
    code.write_text("changed = True\n")
    assert code_state() == {"git_commit": git("rev-parse", "HEAD"), "git_dirty": "yes"}


def test_the_state_is_unknown_without_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_state() == {"git_commit": "unknown", "git_dirty": "unknown"}


def test_the_environment_names_what_runs() -> None:
    found = environment()
    assert found["python"] == platform.python_version()
    for package in ("torch", "mlflow", "pyarrow"):
        assert found["packages"][package] == importlib.metadata.version(package)
    assert found["processor"]
    assert json.loads(json.dumps(found)) == found


def test_the_configuration_is_told_without_secrets(tmp_path: Path) -> None:
    settings = "{fs.azure.account.key.x: k3y, spark.ui.enabled: 'false', my.PASSWORD: p4ss}"
    config = load_config(
        "conf/local.yaml",
        [f"spark.settings={settings}", "tracking.uri=https://user:s3cret@mlflow.example.org/x", "training.seed=11"],
    )
    found = public_configuration(config)
    assert found["training"]["seed"] == 11
    assert found["tracking"]["uri"] == "https://mlflow.example.org/x"
    assert found["spark"]["settings"]["spark.ui.enabled"] == "false"
    text = json.dumps(found)
    assert not any(secret in text for secret in ("k3y", "p4ss", "s3cret", "user:"))
    # Everything else stands as it was.
    whole = config.model_dump(mode="json")
    assert set(found) == set(whole)
    assert {k: v for k, v in found.items() if k not in ("spark", "tracking")} == {
        k: v for k, v in whole.items() if k not in ("spark", "tracking")
    }


def test_rows_of_wide_integers_are_hashed_as_narrow_ones(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = write_examples(tmp_path / "narrow.parquet", ROWS, 4)
    table = pq.read_table(path)
    wide = table.set_column(table.schema.get_field_index("label"), "label", table["label"].cast(pa.int64()))
    pq.write_table(wide, tmp_path / "wide.parquet")
    assert split_hash([path]) == split_hash([str(tmp_path / "wide.parquet")])
