"""A lane's last deliveries as marks against the deadline. Pure; the templates draw them.

``x`` is a percentage, so that a plot is as wide as there is room; ``y`` is pixels, on a logarithmic scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Any

from sqlalchemy import Row

from prober.durations import format_duration
from prober.interval import Interval
from prober.ledger.glance import RECENT
from prober.model import Outcome, Timeliness
from prober.report.plots import Log
from prober.report.quantities import latency_text, seconds_text
from prober.report.ruling import OPEN, result_of_verdicts
from prober.report.values import Result

HEIGHT, TOP, NEAR, FAR = 64.0, 10.0, 57.0, 23.0
"""A plot's height; where what never came stands; where the shortest and the longest latency do."""


_ABSENT = {Result.PASS: "kept", Result.FAIL: "lost", Result.VOID: "void", Result.INCONCLUSIVE: "inconclusive"}


@dataclass(frozen=True, slots=True)
class Mark:
    """One delivery. ``shape`` is the result's name, or of what did not come ``lost``, ``open``, ``kept`` or ``void``;
    ``upper`` and ``lower`` are the ends of its interval."""

    x: float
    left: float
    y: float
    shape: str
    upper: float
    lower: float
    probe: str
    title: str


@dataclass(frozen=True, slots=True)
class Plot:
    """The marks, oldest first, the deadline, and the same in words."""

    marks: tuple[Mark, ...]
    width: float
    deadline: float
    words: str


def word_of(row: Row[Any]) -> tuple[Result, str]:
    """What a delivery's row says, and the word for it."""
    timeliness = None if row.timeliness is None else Timeliness(row.timeliness)
    return result_of_verdicts(timeliness, None if row.outcome is None else Outcome(row.outcome))


def latency_of(row: Row[Any]) -> str:
    """A delivery's latency as people read it, empty where it did not come."""
    if row.latency_upper is None:
        return ""
    return latency_text(Interval(row.latency_lower, row.latency_upper, row.latency_basis))


def plot(rows: Sequence[Row[Any]], within: float) -> Plot:
    """A lane's rows, oldest first, against the deadline that holds now."""
    seen = [row.latency_upper for row in rows if row.latency_upper is not None]
    scale = Log([*(max(upper, 0.001) for upper in seen), within], NEAR, FAR)
    slots = max(len(rows), RECENT)
    step = 100 / slots
    first = slots - len(rows)
    marks = tuple(_mark(row, (first + at) * step, step, scale) for at, row in enumerate(rows))
    return Plot(marks, round(step, 2), scale.at(within), _words(rows, within))


def _mark(row: Row[Any], left: float, step: float, scale: Log) -> Mark:
    result, word = word_of(row)
    arrived = row.latency_upper is not None
    upper = scale.at(max(row.latency_upper, 0.001)) if arrived else TOP
    lower = scale.at(max(row.latency_lower, 0.001)) if arrived else TOP
    shape = result.value if arrived else "open" if word == OPEN else _ABSENT[result]
    y = NEAR if shape in {"open", "kept"} else upper
    at = datetime.fromtimestamp(row.planned_wall, UTC).strftime("%H:%M:%S")
    said = ", ".join(part for part in (at, latency_of(row), word.replace("_", " ")) if part)
    return Mark(round(left + step / 2, 2), round(left, 2), y, shape, upper, lower, row.probe_id, said)


def _words(rows: Sequence[Row[Any]], within: float) -> str:
    if not rows:
        return "No probe yet."
    uppers = [row.latency_upper for row in rows if row.latency_upper is not None]
    parts = [f"The last {len(rows)}, deadline {format_duration(within)}"]
    if uppers:
        parts.append(f"median {seconds_text(median(uppers))} s, longest {seconds_text(max(uppers))} s")
    counts: dict[str, int] = {}
    for row in rows:
        word = word_of(row)[1].replace("_", " ")
        counts[word] = counts.get(word, 0) + 1
    parts += [f"{count} {word}" for word, count in counts.items()]
    return f"{'; '.join(parts)}."
