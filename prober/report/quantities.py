"""Seconds and intervals as people read them."""

from __future__ import annotations

from prober.interval import Interval

NARROW = 0.6
"""Half widths up to this share of the middle are written as middle and half width."""


def seconds_text(seconds: float) -> str:
    """Seconds to the millisecond, fewer decimals where they mean nothing: ``0.142``, ``12.35``, ``123.5``."""
    return f"{seconds:.{_decimals(seconds)}f}"


def _decimals(seconds: float) -> int:
    return 3 if abs(seconds) < 10 else 2 if abs(seconds) < 100 else 1


def resolution_text(seconds: float) -> str:
    """How exact a stamp is, in the unit that suits it: ``1 s``, ``1 ms``, ``1 µs``."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.999 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def latency_text(latency: Interval) -> str:
    """An interval as ``0.142 s ± 0.021 s`` where that says something, else as ``≤ 0.042 s`` or ``0.010 to 0.142 s``."""
    half = latency.width / 2
    if latency.lower == 0 < latency.upper:
        return f"≤ {seconds_text(latency.upper)} s"
    if half <= NARROW * abs(latency.middle):
        decimals = _decimals(latency.middle)
        return f"{latency.middle:.{decimals}f} s ± {half:.{decimals}f} s"
    return f"{seconds_text(latency.lower)} to {seconds_text(latency.upper)} s"
