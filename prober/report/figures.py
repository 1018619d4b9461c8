"""Numbers of a report as people read them: shares, budgets, quantiles, spans."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from prober.durations import format_duration
from prober.objectives import Budget
from prober.report.overview import Lane
from prober.report.quantities import seconds_text


def percent(share: float | None) -> str:
    """A share with as many decimals as it takes to tell it from 100 %: ``95 %``, ``99.53 %``, ``99.9987 %``."""
    if share is None:
        return "-"
    missing = abs(1 - share) * 100
    decimals = 0 if missing in {0, 100} else min(4, max(1, 1 - math.floor(math.log10(missing)))) if missing < 100 else 1
    text = f"{share * 100:.{decimals}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def budget_text(left: Budget | None) -> str:
    """What is left of a budget; of few bad events an interval, since one number would claim too much."""
    if left is None:
        return "-"
    if left.interval is not None:
        low, high = (round(end * 100) for end in left.interval)
        return f"{low} to {high} %"
    return f"{left.remaining * 100:.0f} %"


def quantile_text(lane: Lane, name: str) -> str:
    """A quantile's upper bound, or that so many were not delivered."""
    if name not in lane.quantiles:
        return "-"
    upper = lane.quantiles[name][1]
    if math.isinf(upper):
        return f"> {format_duration(lane.within if lane.live else lane.give_up)}"
    return f"{seconds_text(upper)} s"


def band_text(lane: Lane, name: str) -> str:
    """A quantile as the band between the quantiles of the intervals' bounds."""
    if name not in lane.quantiles:
        return "-"
    lower, upper = lane.quantiles[name]
    if math.isinf(upper):
        return quantile_text(lane, name)
    return f"{seconds_text(lower)} to {seconds_text(upper)} s"


def span_text(seconds: float) -> str:
    """A length of time, days as days."""
    return f"{round(seconds / 86400, 1):g} d" if seconds >= 86400 else format_duration(seconds)


def minute_text(wall: float) -> str:
    """A wall time to the minute, in UTC."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M")


def burn_text(rate: float | None) -> str:
    """A burn rate."""
    return "-" if rate is None else f"{rate:.2g}x" if rate < 100 else f"{rate:.0f}x"
