"""Durations as people write them: ``200ms``, ``30s``, ``5m``, ``2h``."""

from __future__ import annotations

import math
import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FORM = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*(ms|s|m|h|d)")
_MEND = "write a number and a unit, such as 200ms, 30s, 5m or 2h"


def parse_duration(value: str | int | float) -> float:
    """Seconds of a duration: a number with a unit (``200ms 30s 5m 2h 1d``), or a bare number of seconds.

    Raises ValueError, with the mend, for anything else and for what is negative or not finite.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{value!r} is no duration: {_MEND}")
    if isinstance(value, str):
        match = _FORM.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"{value!r} is no duration: {_MEND}")
        return float(match[1]) * _UNITS[match[2]]
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is no duration: it must be finite and not negative; {_MEND}")
    return float(value)


def format_duration(seconds: float) -> str:
    """The shortest exact form to the millisecond, in one unit: 0.2 -> ``200ms``, 300 -> ``5m``, 90 -> ``90s``.

    Raises ValueError for what is not finite or negative.
    """
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{seconds!r} is no duration: it must be finite and not negative")
    milliseconds = round(seconds * 1000)
    if milliseconds == 0:
        return "0s"
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}".rstrip("0") + "s"
