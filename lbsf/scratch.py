"""Temporary files: a folder of this process's own, which its next one removes where this one was killed."""

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
    """Lets Python's temporary files, and those of processes that are started from here, go into `scratch_folder`."""
    folder = scratch_folder()
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    return folder


@cache
def scratch_folder() -> Path:
    """This process's folder for temporary files, made when first asked for and removed when the process ends.

    The folder is `lbsf-UID/PID-…` of the system's temporary folder. The process holds a lock in it as long as it lives,
    however it ends, so folders whose lock is free belong to dead processes: they are removed here.

    Raises:
        ConfigurationError: the folder above belongs to another user.
    """
    above = Path(tempfile.gettempdir(), f"lbsf-{os.getuid()}")
    above.mkdir(mode=0o700, exist_ok=True)
    if above.is_symlink() or above.stat().st_uid != os.getuid():
        raise ConfigurationError(f"{above} is another user's: let the environment variable TMPDIR name another folder")
    # One at a time: nobody takes a folder for a dead process's between its making and its lock.
    with (above / _LOCK).open("w") as making:
        # Where the file system knows no locks, nothing is removed.
        for folder in above.iterdir() if _locked(making.fileno(), fcntl.LOCK_EX) else ():
            if folder.is_dir() and _is_left_behind(folder):
                shutil.rmtree(folder, ignore_errors=True)
        own = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=above))
        # Kept open, and so locked, until the process ends.
        _locked(os.open(own / _LOCK, os.O_CREAT | os.O_RDWR, 0o600), fcntl.LOCK_EX)
    atexit.register(_remove, own, os.getpid())
    return own


def _is_left_behind(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("r+") as lock:
            return _locked(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        # Made by a process that ended before its lock, or half removed.
        return True


def _locked(file: int, how: int) -> bool:
    """Takes a lock and says whether it has it."""
    try:
        fcntl.flock(file, how)
    except OSError:
        return False
    return True


def _remove(folder: Path, owner: int) -> None:
    # A forked child that ends is not the owner.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
