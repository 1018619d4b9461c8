"""A place for the ledger whose disk can be filled, and whose lock can be held from outside."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

DISK = 64 * 1024 * 1024
_BLOCK = b"\0" * 65536
_SMALL = 8192
"""Bytes beyond which a prober may write no file where no disk can be mounted: less than any ledger has."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A disk of its own at ``folder``; None where this user may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


class Filler:
    """Leaves no room on a disk, or where there is none of its own forbids the probers to write."""

    def __init__(self, disk: Path | None) -> None:
        self._disk = disk

    def fill(self, pids: Sequence[int]) -> None:
        """From now on nothing can be written."""
        if self._disk is None:
            _limit(pids, _SMALL)
            return
        with contextlib.suppress(OSError), (self._disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(_BLOCK if _room(self._disk) > len(_BLOCK) else b"\0")

    def free(self, pids: Sequence[int]) -> None:
        """Writing works again."""
        if self._disk is None:
            _limit(pids, resource.RLIM_INFINITY)
        else:
            (self._disk / "filler").unlink(missing_ok=True)


def _room(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize


def _limit(pids: Sequence[int], most: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def take_lock(place: str) -> sqlite3.Connection | None:
    """Hold the ledger's write lock until the connection is closed; None where it cannot be had."""
    connection = sqlite3.connect(place, timeout=5.0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        connection.close()
        return None
    return connection
