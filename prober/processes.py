"""Which process claimed a step, and whether it still lives: a process number alone is used again after a while."""

from __future__ import annotations

import os
from pathlib import Path

from prober.clock import boot_id

_ENDED = {"Z", "X", "x"}
"""States of a process that is gone but not buried: nobody may ever bury it, e.g. in a container."""


def this_process() -> str:
    """Machine's boot, process number, start time (clock ticks since boot) and PID namespace.

    For example ``3f2a…/4711/123456/4026531836``.
    """
    return f"{boot_id()}/{os.getpid()}/{_started(os.getpid())}/{_namespace()}"


def can_tell(name: str) -> bool:
    """Whether :func:`alive` can tell of this process: of another boot, or in another container, it cannot.

    Such a process may have ended with its machine, or live on another one that shares the ledger.
    """
    _, *rest = name.split("/")
    return of_this_boot(name) and len(rest) >= 2 and rest[2:] in ([], [_namespace()])


def of_this_boot(name: str) -> bool:
    """Whether this process began on the same machine since it started, be it in another container."""
    return name.partition("/")[0] == boot_id()


def alive(name: str) -> bool:
    """Whether the process that :func:`this_process` named still runs.

    One of which this cannot be told (:func:`can_tell`) does not count as running.
    """
    if not can_tell(name):
        return False
    _, pid, started, *_ = name.split("/")
    return pid.isdigit() and _started(int(pid)) == started != ""


def _namespace() -> str:
    """The PID namespace's number: the same process number means another process in another container."""
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""


def _started(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in _ENDED else fields[19]  # proc(5): fields 3, state, and 22, starttime
