"""Temporary files of processes that end, are killed, or live on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small import PROJECT

from lbsf.errors import ConfigurationError
from lbsf.scratch import scratch_folder

HOLD = """
import tempfile
from lbsf.scratch import use_scratch
print(use_scratch(), flush=True)
with tempfile.NamedTemporaryFile() as file:
    print(file.name, flush=True)
    input()
"""


def process(above: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(above), "PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(
        [sys.executable, "-c", HOLD], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def lines(running: subprocess.Popen[str], count: int) -> list[Path]:
    assert running.stdout is not None
    return [Path(running.stdout.readline().strip()) for _ in range(count)]


def test_what_a_killed_process_left_goes_and_a_running_one_keeps_its_own(tmp_path: Path) -> None:
    killed, running = process(tmp_path), process(tmp_path)
    left, _ = lines(killed, 2)
    kept, of_running = lines(running, 2)
    assert left != kept
    killed.kill()
    killed.wait()
    assert left.is_dir()

    third = process(tmp_path)
    own, temporary = lines(third, 2)
    assert not left.exists()
    assert of_running.is_relative_to(kept) and of_running.exists()
    assert temporary.is_relative_to(own)
    assert own.stat().st_mode & 0o777 == own.parent.stat().st_mode & 0o777 == 0o700
    for ending in (third, running):
        ending.communicate("\n")
        assert ending.returncode == 0
    # Nothing but the lock under which folders are made.
    assert [path.name for path in (tmp_path / f"lbsf-{os.getuid()}").iterdir()] == ["lock"]


def test_another_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"lbsf-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(
        ConfigurationError, match=r"is another user's: let the environment variable TMPDIR name another"
    ):
        scratch_folder.__wrapped__()
    assert list((tmp_path / "elsewhere").iterdir()) == []
