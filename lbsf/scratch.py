"""Temporary files: a folder for this process, which a later process removes if this one was killed."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from lbsf.errors import ConfigurationError

_LOCK = "lock"


def use_scratch() -> Path:
    """Direct the temporary files of Python and of its child processes to `scratch_folder`, and return the folder."""
    folder = scratch_folder()
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    return folder


@cache
def scratch_folder() -> Path:
    """Return this process's folder for temporary files, created at the first call and removed when the process ends.

    The folder is `lbsf-UID/PID-…` in the system's temporary folder. The process holds a lock in it until it ends, in
    whatever way. A folder whose lock is free therefore belongs to a dead process and is removed here.

    Raises:
        ConfigurationError: the parent folder belongs to another user.
    """
    above = Path(tempfile.gettempdir(), f"lbsf-{os.getuid()}")
    above.mkdir(mode=0o700, exist_ok=True)
    if above.is_symlink() or above.stat().st_uid != os.getuid():
        raise ConfigurationError(f"{above} is another user's: let the environment variable TMPDIR name another folder")
    # One process at a time, so that none removes another's folder between its creation and its lock.
    with (above / _LOCK).open("w") as making:
        # Where the file system does not support locks, nothing is removed.
        for folder in above.iterdir() if _locked(making.fileno(), fcntl.LOCK_EX) else ():
            if folder.is_dir() and _is_left_behind(folder):
                shutil.rmtree(folder, ignore_errors=True)
        own = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=above))
        # Left open, so the lock is held until the process ends.
        _locked(os.open(own / _LOCK, os.O_CREAT | os.O_RDWR, 0o600), fcntl.LOCK_EX)
    atexit.register(_remove, own, os.getpid())
    return own


def _is_left_behind(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("r+") as lock:
            return _locked(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        # The folder's process ended before it took the lock, or the folder is half removed.
        return True


def _locked(file: int, how: int) -> bool:
    """Take a lock and return whether that succeeded."""
    try:
        fcntl.flock(file, how)
    except OSError:
        return False
    return True


def _remove(folder: Path, owner: int) -> None:
    # A forked child that ends must not remove its parent's folder.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
