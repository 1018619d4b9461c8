"""Deliveries of a window -> lanes: counts, shares, censored quantiles, curves and courses over time."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import chain
from math import isnan
from operator import sub

from prober.ledger.windows import Course, Group, Pending, Times, Window
from prober.model import Outcome, Timeliness
from prober.report.overview import SHOWN_QUANTILES, Lane, Moment, Point, Share, Stage
from prober.statistics import kaplan_meier, quantile, survival_quantile, wilson

MOMENTS = 96
"""Stretches of time into which a window is cut."""

CURVE_POINTS = 160
"""Points of a distribution's curve."""

_ARRIVED = frozenset({Outcome.DELIVERED, Outcome.DAMAGED, Outcome.MISPLACED})
_LATE = frozenset({Timeliness.OVERDUE, Timeliness.EARLY, Timeliness.AMBIGUOUS})
_JUDGED = (Timeliness.ON_TIME, Timeliness.OVERDUE, Timeliness.EARLY, Timeliness.AMBIGUOUS)


def lane(
    name: tuple[str, str],
    groups: Mapping[Group, Times],
    awaited: Sequence[Pending],
    courses: Sequence[Course],
    window: Window,
) -> Lane:
    """All that is said about one scenario on one channel, from its groups and the courses of some of it."""
    promised = max(courses, key=lambda course: course.planned)
    timeliness: Counter[str | None] = Counter()
    outcomes: Counter[str | None] = Counter()
    unsettled = 0
    for group, times in groups.items():
        timeliness[group.timeliness] += len(times.planned)
        outcomes[group.outcome] += len(times.planned)
        unsettled += len(times.planned) if group.timeliness is None or group.outcome is None else 0
    lost = outcomes[Outcome.LOST]
    absent = Counter(each.absent for each in awaited)
    stretches = _stretches(groups, window)
    lowers = sorted(chain.from_iterable(_known(t.lower) for group, t in groups.items() if group.outcome in _ARRIVED))
    uppers = sorted(chain.from_iterable(each.latencies for each in stretches))  # runs in order: quickly sorted
    curves = [_curve(values, lost, absent) for values in (lowers, uppers)]
    return Lane(
        scenario=name[0],
        kind=promised.kind,
        channel=name[1],
        channel_kind=promised.channel_kind,
        within=promised.within,
        give_up=promised.give_up,
        expected=timeliness.total(),
        open=unsettled,
        live=bool(absent),
        by_timeliness={verdict: timeliness[verdict] for verdict in Timeliness},
        by_outcome={outcome: outcomes[outcome] for outcome in Outcome},
        share=_share(groups),
        quantiles=_quantiles(lowers, uppers, lost, absent),
        uncertainty=_widest(groups),
        curve=_band(*curves),
        moments=tuple(map(_moment, stretches)),
        points=tuple(_point(course) for course in courses),
        stages=_stages(courses),
    )


def _known(bounds: array[float]) -> array[float]:
    """Those of them that are on record: as a rule all."""
    return array("d", (b for b in bounds if not isnan(b))) if any(map(isnan, bounds)) else bounds


def _widest(groups: Mapping[Group, Times]) -> float | None:
    arrived = (times for group, times in groups.items() if group.outcome in _ARRIVED)
    widths = chain.from_iterable(map(sub, times.upper, times.lower) for times in arrived)
    return max((width for width in widths if not isnan(width)), default=None)


def _share(groups: Mapping[Group, Times]) -> Share:
    undecided = [t.planned for group, t in groups.items() if group.timeliness is None]
    edge = min((planned[0] for planned in undecided), default=math.inf)
    counts: Counter[str | None] = Counter()
    for group, times in groups.items():
        counts[group.timeliness] += len(times.planned) if edge == math.inf else bisect_left(times.planned, edge)
    good, of = counts[Timeliness.ON_TIME], sum(counts[verdict] for verdict in _JUDGED)
    best = good + counts[Timeliness.AMBIGUOUS]
    return Share(good, of, wilson(good, of), (good / of, best / of) if of else (0.0, 1.0))


def _quantiles(
    lowers: Sequence[float], uppers: Sequence[float], lost: int, absent: Mapping[float, int]
) -> dict[str, tuple[float, float]]:
    """Of all that were expected: lost ones lie at infinity, awaited ones are censored (Kaplan and Meier 1958)."""
    if not uppers and not lost:
        return {}
    found = []
    for values in (lowers, uppers):
        if absent:
            steps = kaplan_meier(Counter(values) + Counter({math.inf: lost}), absent)
            found.append({name: survival_quantile(steps, q) for name, q in SHOWN_QUANTILES.items()})
        else:
            found.append({name: _ranked(values, lost, q) for name, q in SHOWN_QUANTILES.items()})
    return {name: (found[0][name], found[1][name]) for name in SHOWN_QUANTILES}


def _ranked(values: Sequence[float], lost: int, q: float) -> float:
    """:func:`prober.statistics.quantile` of sorted values and lost ones, without a copy of a million values."""
    rank = max(math.ceil(q * (len(values) + lost) - 1e-9), 1)
    return values[rank - 1] if rank <= len(values) else math.inf


def _curve(values: Sequence[float], lost: int, absent: Mapping[float, int]) -> list[tuple[float, float]]:
    """The share visible by each time, thinned to steps that can be seen."""
    if not values:
        return []
    if absent:
        steps = kaplan_meier(Counter(values) + Counter({math.inf: lost}), absent)
        whole = [(time, 1 - share) for time, share in steps]
    else:
        total = len(values) + lost
        picks = sorted({len(values) * n // CURVE_POINTS for n in range(CURVE_POINTS)} | {len(values) - 1})
        return [(values[at], bisect_right(values, values[at]) / total) for at in picks]
    return [whole[len(whole) * n // CURVE_POINTS] for n in range(CURVE_POINTS)] + [whole[-1]]


def _band(
    lower_bounds: Sequence[tuple[float, float]], upper_bounds: Sequence[tuple[float, float]]
) -> tuple[tuple[float, float, float], ...]:
    """Both curves at the times of both: the upper bounds give the least share, the lower bounds the most."""
    times = sorted({time for time, _ in (*lower_bounds, *upper_bounds)})

    def at(curve: Sequence[tuple[float, float]], time: float) -> float:
        place = bisect_right(curve, (time, math.inf))
        return curve[place - 1][1] if place else 0.0

    return tuple((time, at(upper_bounds, time), max(at(lower_bounds, time), at(upper_bounds, time))) for time in times)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """What was planned in a stretch of time: how many, and the sorted latencies (upper bounds) of what arrived."""

    start: float
    end: float
    count: int
    lost: int
    void: int
    latencies: list[float]


def _stretches(groups: Mapping[Group, Times], window: Window) -> list[_Stretch]:
    width = (window.until - window.since) / MOMENTS
    edges = [window.since + n * width for n in range(1, MOMENTS)]
    places = {group: [0, *(bisect_left(t.planned, e) for e in edges), len(t.planned)] for group, t in groups.items()}
    found = []
    for n in range(MOMENTS):
        parts = [(group, slice(at[n], at[n + 1])) for group, at in places.items() if at[n] < at[n + 1]]
        sizes = [(group, part.stop - part.start) for group, part in parts]
        seen = [_known(groups[group].upper[part]) for group, part in parts if group.outcome in _ARRIVED]
        found.append(
            _Stretch(
                start=window.since + n * width,
                end=window.since + (n + 1) * width,
                count=sum(size for _, size in sizes),
                lost=sum(size for group, size in sizes if group.outcome == Outcome.LOST),
                void=sum(size for group, size in sizes if Outcome.VOID in {group.outcome, group.timeliness}),
                latencies=sorted(chain.from_iterable(seen)),
            )
        )
    return found


def _moment(stretch: _Stretch) -> Moment:
    some = stretch.latencies or stretch.lost
    p50, p95 = (_ranked(stretch.latencies, stretch.lost, q) if some else None for q in (0.5, 0.95))
    return Moment(stretch.start, stretch.end, stretch.count, stretch.lost, stretch.void, p50, p95)


def _point(course: Course) -> Point:
    outcome = course.outcome or "open"
    late = course.timeliness in _LATE
    word = course.timeliness if late and outcome == Outcome.DELIVERED else outcome
    seen = course.upper is not None and outcome in {*_ARRIVED, "open"}
    return Point(course.planned, course.upper if seen else None, word or outcome)


def _stages(courses: Sequence[Course]) -> tuple[Stage, ...]:
    """Quantiles of each waypoint in the order of their medians, and of what people saw last."""
    found: dict[str, list[float]] = {}
    for course in courses:
        if course.upper is not None:
            for name, seconds in {**course.stages, "visible": course.upper}.items():
                found.setdefault(name, []).append(seconds)
    stages = [Stage(name, len(v), quantile(v, 0.5), quantile(v, 0.95)) for name, v in found.items()]
    return tuple(sorted(stages, key=lambda stage: (stage.name == "visible", stage.p50)))


_BADNESS: Mapping[str, int] = {
    outcome.value: rank
    for rank, outcome in enumerate(
        (
            Outcome.DELIVERED, Outcome.UNANSWERED, Outcome.REFUSED, Outcome.MISPLACED, Outcome.DAMAGED,
            Outcome.UNWANTED, Outcome.LOST,
        )
    )
}  # fmt: skip


def worst(groups: Mapping[Group, Times], limit: int) -> list[int]:
    """Ids of the deliveries that went worst: by what became of them, then the slowest, then the newest."""
    bad = (
        (_BADNESS.get(group.outcome or "", 0), 0.0 if isnan(upper) else upper, planned, identity)
        for group, times in groups.items()
        if _BADNESS.get(group.outcome or "", 0) or group.timeliness in _LATE
        for identity, planned, upper in zip(times.ids, times.planned, times.upper, strict=True)
    )
    return [row[-1] for row in nlargest(limit, bad)]
