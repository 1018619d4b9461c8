"""What a scrape reads: the totals whole, and the state of what is open now; never history."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select, text

from prober.clock import Instant
from prober.ledger.clocks import ClockBound, clock_bounds
from prober.ledger.dependencies import dependency_rows
from prober.ledger.reading import coverage_rows, observer_rows
from prober.ledger.sweeping import backlog
from prober.ledger.tables import deliveries, exemplars, moments, probes, totals

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """An exemplar: the probe behind an observation, what was observed, and when (wall)."""

    probe: str
    trace_id: str
    value: float
    at: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One location's numbers at one moment. Series are keyed by name and sorted labels.

    ``in_flight`` counts probes by scenario, ``oldest`` is the age in seconds of the oldest of them; ``up`` says of
    each observer whether it sees; ``watermarks`` are wall times by channel; ``dependencies`` are None where unknown.
    """

    totals: Mapping[tuple[str, Labels], float] = field(default_factory=dict)
    exemplars: Mapping[tuple[str, Labels], Shown] = field(default_factory=dict)
    moments: Mapping[tuple[str, Labels], float] = field(default_factory=dict)
    in_flight: Mapping[str, int] = field(default_factory=dict)
    oldest: Mapping[str, float] = field(default_factory=dict)
    up: Mapping[str, bool] = field(default_factory=dict)
    watermarks: Mapping[str, float] = field(default_factory=dict)
    clocks: tuple[ClockBound, ...] = ()
    dependencies: Mapping[str, bool | None] = field(default_factory=dict)
    backlog: int = 0


def snapshot(conn: Connection, location: str, now: Instant) -> Snapshot:
    """Everything that a scrape shows of one location."""
    open_now = conn.execute(
        select(
            deliveries.c.scenario,
            func.count(deliveries.c.probe_id.distinct()).label("probes"),
            func.min(probes.c.planned_wall).label("oldest"),
        )
        .join(probes, probes.c.id == deliveries.c.probe_id)
        .where(deliveries.c.location == location, text("deliveries.open = 1"))
        .group_by(deliveries.c.scenario)
    ).all()
    channels = coverage_rows(conn, location)
    return Snapshot(
        totals={
            (row.name, _labels(row.labels)): float(row.value)
            for row in conn.execute(select(totals).where(totals.c.location == location))
        },
        exemplars={
            (row.name, _labels(row.labels)): Shown(row.probe_id, row.trace_id, row.value, row.at)
            for row in conn.execute(select(exemplars).where(exemplars.c.location == location))
        },
        moments={
            (row.name, _labels(row.labels)): float(row.at)
            for row in conn.execute(select(moments).where(moments.c.location == location))
        },
        in_flight={row.scenario: int(row.probes) for row in open_now},
        oldest={row.scenario: max(0.0, now.wall - row.oldest) for row in open_now},
        up={row.name: not row.blind_reason for row in observer_rows(conn, location)},
        watermarks={row.channel: float(row.watermark_wall) for row in channels if row.watermark_wall is not None},
        clocks=clock_bounds(conn, location, now),
        dependencies={row.name: None if row.up is None else bool(row.up) for row in dependency_rows(conn, location)},
        backlog=sum(backlog(conn, location, now.wall).values()),
    )


def _labels(text_: str) -> Labels:
    return tuple(sorted((str(name), str(value)) for name, value in json.loads(text_).items()))
