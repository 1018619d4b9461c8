"""The geometry of the plots: an overview's values -> points in a box. Pure; templates draw them.

Latencies stand on a logarithmic scale: a delivery takes from milliseconds to minutes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from prober.durations import format_duration
from prober.report.overview import Lane, ObjectiveReport, Overview

_Place = Callable[[float], float]
WIDTH, HEIGHT = 520.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 34.0, 26.0
_DECADES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0)


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A delivery."""

    x: float
    y: float
    late: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """A box: ``share`` says how full it is of what it stands for."""

    x: float
    y: float
    width: float
    height: float
    share: float
    title: str


@dataclass(frozen=True, slots=True)
class Course:
    """Latency over time: dots, the median and p95, the deadline, and what was lost or not seen along the top."""

    title: str
    dots: tuple[Dot, ...]
    median: str
    p95: str
    band: str
    deadline: float
    deadline_text: str
    lost: tuple[Bar, ...]
    void: tuple[Bar, ...]
    lost_count: int
    void_count: int
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """One channel's distribution: the band between the least and the most share, and its line."""

    name: str
    line: str
    band: str
    end_y: float
    color: int


@dataclass(frozen=True, slots=True)
class Distribution:
    """The distributions of a scenario's channels, against the deadline."""

    curves: tuple[Curve, ...]
    deadline: float
    deadline_text: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class Fall:
    """One stage of a waterfall: the stretch since the stage before it, and how far its p95 reaches."""

    name: str
    text: str
    x: float
    width: float
    reach: float
    last: bool


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Where a channel's time went, stage by stage, on a linear scale."""

    channel: str
    falls: tuple[Fall, ...]
    height: float
    x_ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class BurnDown:
    """What was left of a budget over its window, against spending it evenly."""

    line: str
    area: str
    zero: float
    even: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def course(lane: Lane, overview: Overview) -> Course:
    """A lane's latency over the window."""
    since, until = overview.window.since, overview.window.until
    seen = [p.latency for p in lane.points if p.latency is not None and p.latency > 0]
    tops = [m.p95 for m in lane.moments if m.p95 is not None and 0 < m.p95 < math.inf]
    scale = Log([*seen, *tops, lane.within], HEIGHT - BOTTOM, TOP)

    def x(wall: float) -> float:
        return _between((wall - since) / (until - since), LEFT, WIDTH - RIGHT)

    moments = [m for m in lane.moments if m.p95 is not None]
    middles = [x((m.start + m.end) / 2) for m in moments]
    medians = [scale.at(m.p50 if m.p50 is not None else math.inf) for m in moments]
    p95s = [scale.at(m.p95 if m.p95 is not None else math.inf) for m in moments]
    down, up = list(zip(middles, medians, strict=True)), list(zip(middles, p95s, strict=True))
    return Course(
        title=lane.channel,
        dots=tuple(
            Dot(x(p.planned), scale.at(p.latency), p.latency > lane.within)
            for p in lane.points
            if p.latency is not None
        ),
        median=_path(down),
        p95=_path(up),
        band=_path([*up, *reversed(down)]),
        deadline=scale.at(lane.within),
        deadline_text=f"deadline {format_duration(lane.within)}",
        lost=tuple(_lane_bars(lane, "lost", x)),
        void=tuple(_lane_bars(lane, "void", x)),
        lost_count=sum(m.lost for m in lane.moments),
        void_count=sum(m.void for m in lane.moments),
        x_ticks=_days(since, until, x),
        y_ticks=scale.ticks,
    )


def _lane_bars(lane: Lane, what: str, x: _Place) -> Iterable[Bar]:
    for moment in lane.moments:
        count = getattr(moment, what)
        if count:
            share = count / moment.count
            height = 4 + 14 * share
            title = f"{count} of {moment.count} {what} ({_stamp(moment.start)} to {_stamp(moment.end)})"
            left = x(moment.start)
            yield Bar(left, TOP - 4 - height, max(x(moment.end) - left - 0.6, 1.6), height, share, title)


def distribution(lanes: Sequence[Lane]) -> Distribution | None:
    """The curves of a scenario's channels; None where nothing arrived."""
    lanes = [lane for lane in lanes if lane.curve]
    if not lanes:
        return None
    within = max(lane.within for lane in lanes)
    times = [time for lane in lanes for time, _, _ in lane.curve if time > 0]
    scale = Log([*times, within], LEFT, WIDTH - RIGHT)

    def y(share: float) -> float:
        return _between(share, HEIGHT - BOTTOM, TOP)

    curves = []
    for number, lane in enumerate(lanes):
        least = [(scale.at(time), y(low)) for time, low, _ in lane.curve]
        most = [(scale.at(time), y(high)) for time, _, high in lane.curve]
        band = _path([*_stairs(most), *reversed(_stairs(least))])
        curves.append(Curve(lane.channel, _path(_stairs(least)), band, least[-1][1], number % 6))
    ticks = tuple(Tick(y(share), f"{share * 100:g} %") for share in (0, 0.25, 0.5, 0.75, 1))
    return Distribution(tuple(curves), scale.at(within), f"deadline {format_duration(within)}", scale.ticks, ticks)


def waterfall(lane: Lane) -> Waterfall | None:
    """A lane's stages; None where none is on record."""
    if not lane.stages:
        return None
    left, room = 132.0, WIDTH - RIGHT - 132.0 - 56.0
    most = max(*(stage.p95 for stage in lane.stages), 0.001)
    falls, before = [], 0.0
    for stage in lane.stages:
        start, end = sorted((max(before, 0.0), max(stage.p50, 0.0)))
        place = left + room * start / most
        falls.append(
            Fall(
                stage.name.replace("_", " "),
                _short(stage.p50),
                place,
                max(room * (end - start) / most, 1.5),
                left + room * max(stage.p95, 0.0) / most,
                stage.name == "visible",
            )
        )
        before = stage.p50
    ticks = tuple(Tick(left + room * n / 4, _short(most * n / 4)) for n in range(5))
    return Waterfall(lane.channel, tuple(falls), 34.0 + 24.0 * len(falls), ticks)


def burn_down(report: ObjectiveReport) -> BurnDown | None:
    """An objective's budget over its window; None without events."""
    if not report.burn_down:
        return None
    course = report.burn_down
    since, until = course[0][0], course[-1][0]
    least = min(0.0, *(left for _, left in course))
    floor = max(least, -2.0)

    def x(wall: float) -> float:
        return _between((wall - since) / (until - since), LEFT, WIDTH - RIGHT)

    def y(left: float) -> float:
        return _between((max(left, floor) - floor) / (1 - floor), HEIGHT - BOTTOM, 12.0)

    points = [(x(wall), y(left)) for wall, left in course]
    marks = [1.0, 0.5, 0.0] + ([floor] if floor < -0.2 else [])
    return BurnDown(
        _path(points),
        _path([*points, (points[-1][0], y(floor)), (points[0][0], y(floor))]),
        y(0.0),
        _path([(x(since), y(1.0)), (x(until), y(0.0))]),
        _days(since, until, x),
        tuple(Tick(y(mark), f"{mark * 100:.0f} %") for mark in marks),
    )


class Log:
    """A logarithmic scale over positive values; what never came lies at its far end."""

    def __init__(self, values: Iterable[float], near: float, far: float) -> None:
        known = [value for value in values if 0 < value < math.inf] or [1.0]
        self._low, self._high = math.log10(min(known) / 1.3), math.log10(max(known) * 1.6)
        self._near, self._far = near, far
        marks = [d * n for d in _DECADES for n in (1, 3)] if self._high - self._low < 2.2 else list(_DECADES)
        inside = [mark for mark in marks if self._low <= math.log10(mark) <= self._high]
        self.ticks = tuple(Tick(self.at(mark), _short(mark)) for mark in inside)

    def at(self, value: float) -> float:
        """Where a value lies."""
        if math.isinf(value):
            return self._far
        place = (math.log10(max(value, 1e-9)) - self._low) / (self._high - self._low)
        return round(_between(place, self._near, self._far), 1)


def _between(share: float, start: float, end: float) -> float:
    return round(start + (end - start) * min(max(share, 0.0), 1.0), 1)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{'L' if n else 'M'}{x:g} {y:g}" for n, (x, y) in enumerate(points))


def _stairs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    found = [points[0]]
    for (_, before), (x, y) in pairwise(points):
        found += [(x, before), (x, y)]
    return found


def _short(seconds: float) -> str:
    if seconds == 0:
        return "0"
    if seconds >= 60:
        return format_duration(round(seconds)) if round(seconds) % 60 == 0 else f"{seconds / 60:.1f}m"
    if seconds >= 1:
        return f"{seconds:.3g}s"
    return f"{seconds * 1000:.3g}ms"


def _stamp(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%b %d %H:%M")


def _days(since: float, until: float, x: _Place) -> tuple[Tick, ...]:
    form = "%b %d" if until - since > 2 * 86400 else "%H:%M"
    walls = [since + (until - since) * n / 4 for n in range(5)]
    return tuple(Tick(x(wall), datetime.fromtimestamp(wall, UTC).strftime(form)) for wall in walls)
