"""A ledger and a window -> an overview. Reads only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection

from prober.bounds import PUBLISH_BOUNDS, bound_text
from prober.burn_windows import BURN_WINDOWS, HOUR
from prober.ledger import reading, windows
from prober.ledger.controls import controls_between
from prober.ledger.windows import Group, Hourly, Series, Times, Window
from prober.model import PublishResult
from prober.objectives import INDICATORS, Counts, Objective, Standing, add_up, budget, burns
from prober.report.evidence import probe_result
from prober.report.lanes import lane, worst
from prober.report.overview import Lane, ObjectiveReport, Overview
from prober.report.provider_share import provider_shares
from prober.report.ruling import judge_counts
from prober.report.values import SummaryRow, TargetName

SAMPLE = 1500
"""Deliveries, evenly spread over the window, that stand for all in the dots and the stages."""

WORST = 10
"""Probes that a report shows whole."""

EXACT = 6 * HOUR
"""Spans shorter than this are counted from the probes themselves: totals are kept by the hour."""

STEPS = 180
"""Points of a budget's course."""


def overview(
    conn: Connection, window: Window, objectives: Sequence[Objective], target: TargetName, now: float
) -> Overview:
    """All that a report says about a window."""
    groups = windows.read_deliveries(conn, window)
    lanes, sampled = _lanes(conn, window, groups)
    result, reason = judge_counts(lanes)
    bad = windows.probes_of(conn, worst(groups, 4 * WORST))[:WORST]
    return Overview(
        window=window,
        now=now,
        target=target,
        result=result,
        reason=reason,
        lanes=lanes,
        objectives=_objectives(conn, window, objectives),
        worst=tuple(probe_result(record) for record in reading.probe_records(conn, bad)),
        summary=tuple(map(_summary, lanes)),
        sampled=sampled,
        providers=provider_shares(
            controls_between(conn, window.since, window.until, window.location), {lane.channel for lane in lanes}
        ),
    )


def _lanes(conn: Connection, window: Window, groups: Mapping[Group, Times]) -> tuple[tuple[Lane, ...], int]:
    of_lane: dict[tuple[str, str], dict[Group, Times]] = {}
    for group, times in groups.items():
        of_lane.setdefault((group.scenario, group.channel), {})[group] = times
    awaited = windows.pending(conn, window)
    found, sampled = [], 0
    for name, mine in of_lane.items():
        courses = list(windows.courses(conn, _sample(mine, SAMPLE // len(of_lane))))
        sampled += len(courses)
        pending = [each for each in awaited if (each.scenario, each.channel) == name]
        found.append(lane(name, mine, pending, courses, window))
    return tuple(found), sampled


def _sample(groups: Mapping[Group, Times], size: int) -> list[int]:
    """Ids of about so many deliveries, evenly spread, and at least one of each group."""
    chosen = sum(len(times.ids) for times in groups.values())
    stride = max(1, chosen // max(size, 1))
    return [identity for times in groups.values() for identity in times.ids[::stride]]


def _summary(found: Lane) -> SummaryRow:
    ends = {
        f"latency_{name}{bound}": found.quantiles[name][at]
        for at, bound in enumerate(("_lower", ""))
        for name in ("p50", "p95", "max")
        if found.quantiles
    }
    return SummaryRow(
        found.scenario, found.channel, found.expected, found.open, found.within, found.give_up, found.by_outcome,
        found.by_timeliness, uncertainty_max=found.uncertainty, **ends,
    )  # fmt: skip


def _objectives(conn: Connection, window: Window, objectives: Sequence[Objective]) -> tuple[ObjectiveReport, ...]:
    names = sorted({use.name for uses in INDICATORS.values() for use in uses} | {"deliveries_expected_total"})
    spans = [objective.window for objective in objectives] + [pair.long for pair in BURN_WINDOWS]
    since = min([window.since, *(window.until - span for span in spans)])
    rows = _by_series(windows.hourly(conn, names, since, window.until, window.location), window)
    series = [windows.labels_of(labels) for _, labels in rows]
    kinds = {labels["scenario"]: labels["kind"] for labels in series if "kind" in labels}
    short = {span: _recent(conn, replace(window, since=window.until - span)) for span in _short_spans()}
    return tuple(_objective(objective, window, rows, kinds, short) for objective in objectives)


_Hours = Mapping[tuple[str, str], Sequence[Hourly]]
"""The hours of each series, by its name and its labels' text."""


def _by_series(rows: Iterable[Hourly], window: Window) -> _Hours:
    found: dict[tuple[str, str], list[Hourly]] = defaultdict(list)
    for row in rows:
        found[row.name, row.labels].append(row)
    return {key: hours for key, hours in found.items() if _is_chosen(windows.labels_of(key[1]), window)}


def _is_chosen(labels: Mapping[str, str], window: Window) -> bool:
    right_scenario = not window.scenario or labels.get("scenario") == window.scenario
    return right_scenario and (not window.channel or labels.get("channel", window.channel) == window.channel)


def _short_spans() -> set[float]:
    return {span for pair in BURN_WINDOWS for span in (pair.long, pair.short) if span < EXACT}


class _Event(NamedTuple):
    """What one hour adds to an objective's counts on a channel (an empty name where its counters have none)."""

    hour: int
    channel: str
    standing: Standing
    amount: float


def _events(objective: Objective, rows: _Hours, kinds: Mapping[str, str]) -> list[_Event]:
    sums: dict[tuple[int, str, Standing], float] = defaultdict(float)
    for (name, text), hours in rows.items():
        labels = windows.labels_of(text)
        standing, channel = objective.standing(name, labels, kinds), labels.get("channel", "")
        if standing is not None:
            for row in hours:
                sums[row.hour, channel, standing] += row.value
    return [_Event(*key, amount) for key, amount in sums.items()]


def _objective(
    objective: Objective,
    window: Window,
    rows: _Hours,
    kinds: Mapping[str, str],
    short: Mapping[float, Sequence[Series]],
) -> ObjectiveReport:
    events = _events(objective, rows, kinds)

    def counted(span: float) -> Counts:
        if span in short:
            return _all(add_up(objective, short[span], kinds).values())
        return _all(_by_channel(events, window.until - span).values())

    channels = _by_channel(events, window.since)
    period = counted(objective.window)
    over = {span: counted(span) for pair in BURN_WINDOWS for span in (pair.long, pair.short)}
    return ObjectiveReport(
        objective,
        _all(channels.values()),
        {channel: counts for channel, counts in channels.items() if channel},
        period,
        budget(period, objective.goal),
        burns(objective, over),
        _burn_down(objective, events, window.until, period),
    )


def _all(counts: Iterable[Counts]) -> Counts:
    return sum(counts, Counts())


def _by_channel(events: Iterable[_Event], since: float) -> dict[str, Counts]:
    first = int(since // HOUR)
    sums: dict[str, dict[str, float]] = {}
    for event in events:
        if event.hour >= first:
            mine = sums.setdefault(event.channel, dict.fromkeys(Standing, 0.0))
            mine[event.standing] += event.amount
    return {channel: Counts(**mine) for channel, mine in sorted(sums.items())}


def _burn_down(
    objective: Objective, events: Iterable[_Event], until: float, period: Counts
) -> tuple[tuple[float, float], ...]:
    """What was left of the period's budget hour by hour, if it is the budget of all the period's events."""
    if not period.valid:
        return ()
    start = until - objective.window
    spent: dict[int, float] = {}
    for event in events:
        if event.hour >= int(start // HOUR) and event.standing in {Standing.BAD, Standing.UNSURE}:
            spent[event.hour] = spent.get(event.hour, 0.0) + event.amount
    allowed, so_far, course = period.valid * (1 - objective.goal), 0.0, [(start, 1.0)]
    for hour, amount in sorted(spent.items()):
        at = min(max(hour * HOUR, start), until)
        course += [(at, 1 - so_far / allowed), (min(at + HOUR, until), 1 - (so_far + amount) / allowed)]
        so_far += amount
    course.append((until, 1 - so_far / allowed))
    kept = {len(course) * n // STEPS for n in range(STEPS)} | {len(course) - 1}
    return tuple(course[at] for at in sorted(kept))


def _recent(conn: Connection, window: Window) -> list[Series]:
    bounds = (*PUBLISH_BOUNDS, float("inf"))
    counted: Counter[tuple[str, str, str, str, str]] = Counter()
    for scenario, kind, result, seconds in windows.recent_steps(conn, window):
        counted["publish_requests_total", scenario, kind, "result", PublishResult(result).value] += 1
        if seconds is not None:
            le = bound_text(next(bound for bound in bounds if seconds <= bound))
            counted["publish_duration_seconds_bucket", scenario, kind, "le", le] += 1
    found: list[Series] = [
        (name, {"scenario": scenario, "kind": kind, label: value}, amount)
        for (name, scenario, kind, label, value), amount in counted.items()
    ]
    return [*found, *windows.recent(conn, window), *windows.recent_journeys(conn, window)]
