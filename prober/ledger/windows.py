"""What reports ask for: deliveries and totals of a window, each read once, in bounded memory."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import nan
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select, text

from prober.ledger.tables import coverage, deliveries, probes, steps, totals_hourly, waypoints
from prober.model import Outcome, PublishResult, Timeliness
from prober.objectives import journey

CHUNK = 400
"""Ids that one query names at the most."""


@dataclass(frozen=True, slots=True)
class Window:
    """Deliveries planned from ``since`` until before ``until`` (wall seconds), of these names (empty: all)."""

    since: float
    until: float
    scenario: str = ""
    channel: str = ""
    location: str = ""

    def chosen(self) -> ColumnElement[bool]:
        """The condition on deliveries."""
        return and_(deliveries.c.planned_wall >= self.since, deliveries.c.planned_wall < self.until, *self.named())

    def named(self) -> tuple[ColumnElement[bool], ...]:
        """The part of it that is about names."""
        names = (
            (deliveries.c.scenario, self.scenario),
            (deliveries.c.channel, self.channel),
            (deliveries.c.location, self.location),
        )
        return tuple(column == name for column, name in names if name)


class Group(NamedTuple):
    """Deliveries that differ in nothing but their times; None while a question is open."""

    scenario: str
    channel: str
    timeliness: str | None
    outcome: str | None


class Times(NamedTuple):
    """Of each delivery of a group, in the order of time: its id, when it was planned, and its latency's bounds (NaN:
    none is on record). Arrays: a million floats apart from each other take four times the memory, and long to sort."""

    ids: array[int]
    planned: array[float]
    lower: array[float]
    upper: array[float]


def read_deliveries(conn: Connection, window: Window) -> dict[Group, Times]:
    """All deliveries of a window, grouped: 32 bytes for each, read once and in the order of the index.

    Grouping in SQL would sort them once for each question (quantiles of two bounds, courses over time), and SQLite
    takes longer for one such sort than this takes for all of them.
    """
    d = deliveries.c
    query = (
        select(d.scenario, d.channel, d.timeliness, d.outcome, d.id, d.planned_wall, d.latency_lower, d.latency_upper)
        .where(window.chosen())
        .order_by(d.planned_wall)
    )
    found: dict[tuple[str, str, str | None, str | None], Times] = {}
    for scenario, channel, timeliness, outcome, identity, planned, lower, upper in _plain_rows(conn, query):
        key = scenario, channel, timeliness, outcome
        try:
            ids, walls, lowers, uppers = found[key]
        except KeyError:
            ids, walls, lowers, uppers = found[key] = Times(array("q"), array("d"), array("d"), array("d"))
        ids.append(identity)
        walls.append(planned)
        lowers.append(nan if lower is None else lower)
        uppers.append(nan if upper is None else upper)
    return {Group(*key): times for key, times in sorted(found.items(), key=lambda item: str(item[0]))}


def _plain_rows(conn: Connection, query: Select[Any]) -> Iterable[tuple[Any, ...]]:
    """The rows as the driver makes them: there may be a million, and SQLAlchemy's own take twice the time."""
    cursor = conn.execute(query).cursor
    assert cursor is not None  # noqa: S101 - a SELECT has one
    return cursor  # type: ignore[return-value] # both drivers' cursors are iterable


@dataclass(frozen=True, slots=True)
class Pending:
    """An open delivery that was not seen yet, and how long after its request it was known not to be visible."""

    scenario: str
    channel: str
    absent: float


def pending(conn: Connection, window: Window) -> tuple[Pending, ...]:
    """The deliveries of a window that are still awaited, each up to its channel's last complete read."""
    since = func.coalesce(deliveries.c.scheduled_time, steps.c.requested_wall, steps.c.taken_wall)
    query = (
        select(
            deliveries.c.scenario,
            deliveries.c.channel,
            deliveries.c.give_up,
            coverage.c.watermark_wall - since,
            deliveries.c.planned_wall,
        )
        .join(steps, and_(steps.c.probe_id == deliveries.c.probe_id, steps.c.number == deliveries.c.step_number))
        .outerjoin(
            coverage,
            and_(coverage.c.location == deliveries.c.location, coverage.c.identity == deliveries.c.identity),
        )
        # The partial index of what is open serves this; a range of time beside it would walk through the window.
        .where(text("deliveries.open = 1"), deliveries.c.outcome.is_(None), deliveries.c.arrive != "never")
        .where(deliveries.c.latency_upper.is_(None), *window.named())
    )
    return tuple(
        Pending(scenario, channel, min(max(absent or 0.0, 0.0), give_up))
        for scenario, channel, give_up, absent, planned in conn.execute(query)
        if window.since <= planned < window.until
    )


@dataclass(frozen=True, slots=True)
class Course:
    """How one delivery went: what was promised, and seconds from its origin to each waypoint and to its sighting."""

    scenario: str
    kind: str
    channel: str
    channel_kind: str
    within: float
    give_up: float
    planned: float
    timeliness: str | None
    outcome: str | None
    lower: float | None
    upper: float | None
    stages: Mapping[str, float]


def courses(conn: Connection, ids: Sequence[int]) -> Iterator[Course]:
    """The courses of these deliveries. Waypoints stand on other people's clocks, and are told as they are."""
    for at in range(0, len(ids), CHUNK):
        yield from _courses(conn, ids[at : at + CHUNK])


def _courses(conn: Connection, ids: Sequence[int]) -> Iterator[Course]:
    query = (
        select(deliveries, steps.c.requested_wall, steps.c.ended_wall, steps.c.status)
        .join(steps, and_(steps.c.probe_id == deliveries.c.probe_id, steps.c.number == deliveries.c.step_number))
        .where(deliveries.c.id.in_(ids))
        .order_by(deliveries.c.id)
    )
    rows = conn.execute(query).all()
    points: dict[str, list[Any]] = {}
    for point in conn.execute(
        select(waypoints.c.probe_id, waypoints.c.delivery_id, waypoints.c.name, waypoints.c.at).where(
            waypoints.c.probe_id.in_({row.probe_id for row in rows})
        )
    ):
        points.setdefault(point.probe_id, []).append(point)
    for row in rows:
        origin = row.scheduled_time if row.scheduled_time is not None else row.requested_wall
        stages: dict[str, float] = {}
        if origin is not None:
            if row.status is not None and row.ended_wall is not None:
                stages["answered"] = row.ended_wall - origin
            for point in points.get(row.probe_id, ()):
                if point.delivery_id in {None, row.id}:
                    stages[point.name] = point.at - origin
        yield Course(
            row.scenario, row.kind, row.channel, row.channel_kind, row.within, row.give_up, row.planned_wall,
            row.timeliness, row.outcome, row.latency_lower, row.latency_upper, stages,
        )  # fmt: skip


def probes_of(conn: Connection, ids: Sequence[int]) -> tuple[str, ...]:
    """The probes of these few deliveries, in their order."""
    query = select(deliveries.c.id, deliveries.c.probe_id).where(deliveries.c.id.in_(ids))
    found = {row.id: row.probe_id for row in conn.execute(query)}
    return tuple(dict.fromkeys(found[identity] for identity in ids))


class Hourly(NamedTuple):
    """What one hour added to one series; ``labels`` as they stand in the row."""

    hour: int
    name: str
    labels: str
    value: float


def hourly(conn: Connection, names: Sequence[str], since: float, until: float, location: str) -> Iterator[Hourly]:
    """The totals of the hours that a span touches."""
    t = totals_hourly.c
    here = [location] if location else conn.execute(select(t.location).distinct()).scalars().all()
    query = (
        select(t.hour, t.name, t.labels, func.sum(t.value))
        .where(t.location.in_(here), t.hour >= int(since // 3600), t.hour < -int(-until // 3600), t.name.in_(names))
        .group_by(t.hour, t.name, t.labels)
    )
    return map(Hourly._make, _plain_rows(conn, query))


Series = tuple[str, Mapping[str, str], float]


def recent(conn: Connection, window: Window) -> Iterator[Series]:
    """What the totals count, of the probes planned in a short window: for spans that hours are too coarse for."""
    d = deliveries.c
    for name, label, column in (
        ("timeliness_total", "verdict", d.timeliness),
        ("deliveries_total", "outcome", d.outcome),
    ):
        query = select(d.scenario, d.kind, d.channel, column, func.count()).where(window.chosen(), column.is_not(None))
        for scenario, kind, channel, value, count in conn.execute(
            query.group_by(d.scenario, d.kind, d.channel, column)
        ):
            yield name, {"scenario": scenario, "kind": kind, "channel": channel, label: value}, count


def recent_journeys(conn: Connection, window: Window) -> Iterator[Series]:
    """The journeys of the probes planned in a short window that are settled on every channel."""
    d = deliveries.c
    query = select(d.probe_id, d.scenario, d.kind, d.timeliness, d.outcome).where(replace(window, channel="").chosen())
    found: dict[tuple[str, str, str], list[tuple[str | None, str | None]]] = {}
    for probe, scenario, kind, timeliness, outcome in conn.execute(query):
        found.setdefault((probe, scenario, kind), []).append((timeliness, outcome))
    for (_, scenario, kind), pairs in found.items():
        settled = [(Timeliness(one), Outcome(other)) for one, other in pairs if one and other]
        if len(settled) == len(pairs):
            yield "journeys_total", {"scenario": scenario, "kind": kind, "result": journey(settled).value}, 1.0


def recent_steps(conn: Connection, window: Window) -> Iterator[tuple[str, str, str, float | None]]:
    """Scenario, kind, result and seconds until the answer of each publishing step of a short window."""
    here = [window.location] if window.location else conn.execute(select(probes.c.location).distinct()).scalars().all()
    query = (
        select(
            probes.c.scenario, probes.c.kind, steps.c.result, steps.c.status, steps.c.requested_boottime,
            steps.c.ended_boottime,
        )
        .join(steps, steps.c.probe_id == probes.c.id)
        .where(
            probes.c.location.in_(here), probes.c.planned_wall >= window.since, probes.c.planned_wall < window.until,
            steps.c.taken_wall.is_not(None), steps.c.result.is_not(None),
        )
    )  # fmt: skip
    if window.scenario:
        query = query.where(probes.c.scenario == window.scenario)
    for scenario, kind, result, status, requested, ended in conn.execute(query):
        answered = status is not None and requested is not None and result != PublishResult.INTERRUPTED
        yield scenario, kind, result, ended - requested if answered else None


@cache
def labels_of(text: str) -> Mapping[str, str]:
    """The labels of a series of the totals."""
    found: dict[str, str] = json.loads(text)
    return found
