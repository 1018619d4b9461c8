"""Whether this machine's own clock is kept right: the kernel's word for it, and chrony's where it runs."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

from prober.findings import Finding, ok, unknown, warning

_TIME_ERROR = 5
_WITHIN = 2.0
_MEND = "let chrony or systemd-timesyncd keep it"
_FAR = 0.1
"""Seconds of chrony's own offset above which a latency of a second says little."""


class _Timex(ctypes.Structure):
    """``struct timex`` of Linux on 64 bits (adjtimex(2)); what is not used here is only room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("room", ctypes.c_byte * 512),
    )


def examine_own_clock() -> Finding:
    """Blocks for up to two seconds where chrony is asked. Changes nothing."""
    return _chrony() or _kernel()


def _kernel() -> Finding:
    state = _Timex()
    try:
        clock_state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    except (OSError, AttributeError):
        return unknown("synchronised", "this system does not tell")
    if clock_state < 0:
        return unknown("synchronised", f"the kernel does not tell: {os.strerror(ctypes.get_errno())}")
    if clock_state == _TIME_ERROR:
        return warning("synchronised", "the kernel says that nothing keeps this clock right", _MEND)
    return ok("synchronised", f"the kernel says so, to {state.maxerror / 1e6:.3f} s")


def _chrony() -> Finding | None:
    """What ``chronyc tracking`` tells; None where there is no chrony that answers."""
    program = shutil.which("chronyc")
    if program is None:
        return None
    try:
        told = subprocess.run(  # noqa: S603 - a fixed command
            [program, "-n", "-c", "tracking"], capture_output=True, text=True, timeout=_WITHIN, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return read_tracking(told.stdout)


def read_tracking(line: str) -> Finding | None:
    """``chronyc -c tracking``: seconds of the system's offset fifth, the leap status last. None for anything else."""
    fields = line.strip().split(",")
    try:
        offset = abs(float(fields[4]))
    except (IndexError, ValueError):
        return None
    if fields[-1] == "Not synchronised":
        return warning("synchronised", "chrony runs and is not synchronised", "check chrony's sources: chronyc sources")
    if offset > _FAR:
        return warning("synchronised", f"chrony is still {offset:.3f} s off", "wait, or let it step: chronyc makestep")
    return ok("synchronised", f"by chrony, to {offset:.6f} s")
