"""A probe's timeline -> rows with a bar or a mark each, on one axis of time. Pure; the template draws them.

Places are percentages of the axis, so that it is as wide as there is room.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from prober.interval import Interval
from prober.model import Outcome, Timeliness
from prober.report.quantities import latency_text, seconds_text
from prober.report.ruling import result_of_verdicts
from prober.report.timeline import Event, Timeline
from prober.report.values import DeliveryResult

MOST_ROWS = 300
"""Events that a page shows at the most: somebody may have sent thousands of copies."""

_BESIDE = frozenset({"planned", "coverage", "watermark", "control posted", "blind"})
_VERDICTS = frozenset({"timeliness", "outcome"})


@dataclass(frozen=True, slots=True)
class Row:
    """One event. ``x`` and ``width`` of its bar or (width 0) its mark; None where the axis does not reach it."""

    at: float
    when: str
    what: str
    channel: str
    detail: str
    tone: str
    x: float | None
    width: float
    deadlines: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The events of the probe's way, those beside it, marks on the axis, and how many were left out."""

    rows: tuple[Row, ...]
    beside: tuple[Row, ...]
    ticks: tuple[tuple[float, str], ...]
    left_out: int


def waterfall(timeline: Timeline) -> Waterfall:
    """The axis begins with the request, or what came before it, and ends with the last fact or a missed deadline."""
    events = timeline.sorted()
    ended = {event.what.removesuffix(" ended") for event in events if event.begun is not None}
    beside = [event for event in events if _is_beside(event, ended)]
    way = [event for event in events if not _is_beside(event, ended)]
    start, end = _ends(way, timeline.probe.deliveries)
    axis = _Axis(start, end)
    rows = tuple(_row(event, axis, timeline) for event in way[:MOST_ROWS])
    more = tuple(_row(event, axis, timeline) for event in beside[:MOST_ROWS])
    return Waterfall(rows, more, axis.ticks(), len(events) - len(rows) - len(more))


def _is_beside(event: Event, ended: set[str]) -> bool:
    return event.what in _BESIDE or (
        event.channel == "" and event.what.endswith((" taken", " requested")) and event.what.rsplit(" ", 1)[0] in ended
    )


def _ends(way: Iterable[Event], deliveries: Iterable[DeliveryResult]) -> tuple[float, float]:
    facts = [
        bound
        for event in way
        if event.what not in _VERDICTS
        for bound in (event.begun, _lower(event), event.upper, event.offset)
        if bound is not None
    ]
    missed = [each.within for each in deliveries if each.latency is None or each.latency.upper > each.within]
    end = max([*facts, *missed, 0.001]) * 1.06
    return max(min([*facts, 0.0]), -0.15 * end), end


def _lower(event: Event) -> float | None:
    """Since when it may have been visible: not before the request, whatever the last read before it says."""
    if event.lower is None or event.upper is None or event.upper < 0:
        return event.lower
    return max(event.lower, 0.0)


class _Axis:
    """Seconds since the request -> percentages."""

    def __init__(self, start: float, end: float) -> None:
        self._start, self._end = start, end

    def at(self, seconds: float) -> float:
        """Where that is; what lies beyond an end stands at it."""
        share = (seconds - self._start) / (self._end - self._start)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def reaches(self, seconds: float) -> bool:
        return self._start <= seconds <= self._end

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """From nothing on, every so many round seconds, four to nine of them."""
        rough = self._end / 4
        size = 10.0 ** math.floor(math.log10(rough))
        step = size * max(factor for factor in (1, 2, 5) if factor * size <= rough)
        return tuple((self.at(n * step), f"{n * step:g} s") for n in range(int(self._end / step) + 1))


def _row(event: Event, axis: _Axis, timeline: Timeline) -> Row:
    start, end = (event.begun, event.offset) if event.begun is not None else (_lower(event), event.upper)
    x, width = None if event.offset is None or not axis.reaches(event.offset) else axis.at(event.offset), 0.0
    if start is not None and end is not None:
        x = axis.at(start)
        width = max(axis.at(end) - x, 0.6)
    mine = [each for each in timeline.probe.deliveries if event.channel in {"", each.channel}]
    return Row(
        event.at,
        _when(event),
        event.what.replace("_", " "),
        event.channel,
        event.detail,
        _tone(event, mine),
        x,
        width,
        tuple(sorted({axis.at(each.within) for each in mine if axis.reaches(each.within)})),
    )


def _when(event: Event) -> str:
    if event.offset is None:
        return ""
    if event.lower is not None and event.upper is not None:
        return latency_text(Interval(_lower(event) or 0.0, event.upper, ""))
    return f"{seconds_text(event.offset)} s"


def _tone(event: Event, mine: Iterable[DeliveryResult]) -> str:
    if event.what not in _VERDICTS:
        return "step" if event.begun is not None else "seen" if event.upper is not None else "told"
    for delivery in mine:
        if event.what == "timeliness" and delivery.timeliness is not None:
            return result_of_verdicts(delivery.timeliness.verdict, Outcome.DELIVERED)[0].value
        if event.what == "outcome" and delivery.outcome is not None:
            return result_of_verdicts(Timeliness.ON_TIME, delivery.outcome.verdict)[0].value
    return "told"
