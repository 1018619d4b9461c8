"""What a status page reads of one location: what is open, what is recent, what failed last; never history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Connection, Row, func, select, text

from prober.ledger.dependencies import dependency_rows
from prober.ledger.leases import Lease, leases_of
from prober.ledger.reading import coverage_rows, observer_rows
from prober.ledger.slots import held_back
from prober.ledger.tables import FAILED, deliveries, probes

RECENT = 30
"""Probes of each scenario that are looked at."""

MOST_FAILURES = 60
"""Deliveries that failed that are looked at; they may be much older than what is recent."""

MOST_OPEN = 12
"""Probes in flight that are named, the oldest; all of them are counted."""

_SHOWN: tuple[Column[Any], ...] = (
    deliveries.c.probe_id,
    deliveries.c.scenario,
    deliveries.c.channel,
    deliveries.c.planned_wall,
    deliveries.c.within,
    deliveries.c.give_up,
    deliveries.c.open,
    deliveries.c.timeliness,
    deliveries.c.timeliness_reason,
    deliveries.c.outcome,
    deliveries.c.outcome_reason,
    deliveries.c.latency_lower,
    deliveries.c.latency_upper,
    deliveries.c.latency_basis,
)
_OPEN = text("deliveries.open = 1")


@dataclass(frozen=True, slots=True)
class Glance:
    """One location at one moment. Rows of deliveries are those of the table, without what only the stages need.

    ``recent`` are by scenario and channel, oldest first; ``failures`` newest first; ``oldest_open`` oldest first;
    ``open_now`` counts by scenario and channel; ``errors`` publish errors one after another; ``dependencies`` are
    what the target says of its own, None where unknown; ``leases`` are by observer.
    """

    recent: Mapping[tuple[str, str], Sequence[Row[Any]]] = field(default_factory=dict)
    failures: Sequence[Row[Any]] = ()
    oldest_open: Sequence[Row[Any]] = ()
    open_now: Mapping[tuple[str, str], int] = field(default_factory=dict)
    observers: Sequence[Row[Any]] = ()
    coverage: Sequence[Row[Any]] = ()
    errors: int = 0
    dependencies: Mapping[str, bool | None] = field(default_factory=dict)
    leases: Mapping[str, Lease] = field(default_factory=dict)


def glance(conn: Connection, location: str, scenarios: Sequence[str]) -> Glance:
    """Look at these scenarios' newest probes, and at all that is open."""
    recent: dict[tuple[str, str], list[Row[Any]]] = {}
    for scenario in scenarios:
        for row in _newest(conn, location, scenario):
            recent.setdefault((row.scenario, row.channel), []).append(row)
    mine = deliveries.c.location == location
    counted = (
        select(deliveries.c.scenario, deliveries.c.channel, func.count().label("amount"))
        .where(mine, _OPEN)
        .group_by(deliveries.c.scenario, deliveries.c.channel)
    )
    failed = select(*_SHOWN).where(mine, FAILED).order_by(deliveries.c.planned_wall.desc()).limit(MOST_FAILURES)
    return Glance(
        recent=recent,
        failures=conn.execute(failed).all(),
        oldest_open=_oldest_open(conn, location),
        open_now={(row.scenario, row.channel): int(row.amount) for row in conn.execute(counted)},
        observers=observer_rows(conn, location),
        coverage=coverage_rows(conn, location),
        errors=held_back(conn, location),
        dependencies={row.name: None if row.up is None else bool(row.up) for row in dependency_rows(conn, location)},
        leases=leases_of(conn, location),
    )


def _newest(conn: Connection, location: str, scenario: str) -> Sequence[Row[Any]]:
    newest = (
        select(probes.c.id)
        .where(probes.c.location == location, probes.c.scenario == scenario, probes.c.run == "")
        .order_by(probes.c.slot.desc())
        .limit(RECENT)
        .subquery()
    )
    found = select(*_SHOWN).join(newest, newest.c.id == deliveries.c.probe_id)
    return conn.execute(found.order_by(deliveries.c.planned_wall, deliveries.c.id)).all()


def _oldest_open(conn: Connection, location: str) -> Sequence[Row[Any]]:
    mine = (deliveries.c.location == location, _OPEN)
    oldest = (
        select(deliveries.c.probe_id)
        .where(*mine)
        .group_by(deliveries.c.probe_id)
        .order_by(func.min(deliveries.c.planned_wall))
        .limit(MOST_OPEN)
        .subquery()
    )
    found = select(*_SHOWN).join(oldest, oldest.c.probe_id == deliveries.c.probe_id).where(*mine)
    return conn.execute(found.order_by(deliveries.c.planned_wall, deliveries.c.id)).all()
