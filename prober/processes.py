"""Which process claimed a step, and whether it still lives: a process number alone is used again after a while."""

from __future__ import annotations

import os
from pathlib import Path

from prober.clock import boot_id

_ENDED = {"Z", "X", "x"}
"""States of a process that is gone but not buried: nobody may ever bury it, e.g. in a container."""


def this_process() -> str:
    """Machine's boot, process number and start time (clock ticks since boot), e.g. ``3f2a…/4711/123456``."""
    return f"{boot_id()}/{os.getpid()}/{_started(os.getpid())}"


def alive(name: str) -> bool:
    """Whether the process that :func:`this_process` named still runs.

    A name of another boot is dead. (On a ledger that several machines share, another machine's boot cannot be told
    from an earlier one of this machine; there the lease of the shared ledger decides, not this.)
    """
    boot, _, rest = name.partition("/")
    pid, _, started = rest.partition("/")
    return boot == boot_id() and pid.isdigit() and _started(int(pid)) == started != ""


def _started(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in _ENDED else fields[19]  # proc(5): fields 3, state, and 22, starttime
