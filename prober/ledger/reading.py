"""What readers of the ledger ask for: probes with everything on record about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, exists, select, text

from prober.ledger.tables import coverage, deliveries, observers, probes, sightings, steps, waypoints


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """One probe's rows: its steps and deliveries in order, all sightings and waypoints."""

    probe: Row[Any]
    steps: tuple[Row[Any], ...]
    deliveries: tuple[Row[Any], ...]
    sightings: tuple[Row[Any], ...]
    waypoints: tuple[Row[Any], ...]


def probe_records(conn: Connection, ids: Sequence[str]) -> tuple[ProbeRecord, ...]:
    """The probes with these ids, in this order; unknown ids are left out."""
    rows = {row.id: row for row in conn.execute(select(probes).where(probes.c.id.in_(ids))).all()}
    return tuple(_record(conn, rows[name]) for name in dict.fromkeys(ids) if name in rows)


def find_probes(conn: Connection, prefix: str, limit: int = 20) -> tuple[str, ...]:
    """The ids that begin with ``prefix``, newest first."""
    query = select(probes.c.id).where(probes.c.id.startswith(prefix, autoescape=True))
    return tuple(conn.execute(query.order_by(probes.c.planned_wall.desc()).limit(limit)).scalars())


def run_probes(conn: Connection, run: str) -> tuple[str, ...]:
    """The ids of an ad hoc run's probes, in the order in which they were launched."""
    return tuple(conn.execute(select(probes.c.id).where(probes.c.run == run).order_by(probes.c.number)).scalars())


def open_probes(conn: Connection, location: str, taken_by: str = "") -> tuple[str, ...]:
    """The ids of probes that have an open delivery, where a process is named only those that it published."""
    query = select(deliveries.c.probe_id).where(deliveries.c.location == location, text("deliveries.open = 1"))
    if taken_by:
        mine = (steps.c.probe_id == deliveries.c.probe_id, steps.c.taken_by == taken_by)
        query = query.where(exists().where(*mine))
    return tuple(conn.execute(query.distinct()).scalars())


def coverage_rows(conn: Connection, location: str) -> tuple[Row[Any], ...]:
    """The coverage of every channel of a location."""
    return tuple(conn.execute(select(coverage).where(coverage.c.location == location)).all())


def observer_rows(conn: Connection, location: str) -> tuple[Row[Any], ...]:
    """Every observer's state."""
    return tuple(conn.execute(select(observers).where(observers.c.location == location)).all())


def _record(conn: Connection, probe: Row[Any]) -> ProbeRecord:
    def of_probe(table: Any, order: Any) -> tuple[Row[Any], ...]:
        return tuple(conn.execute(select(table).where(table.c.probe_id == probe.id).order_by(order)).all())

    mine = of_probe(deliveries, deliveries.c.id)
    seen = select(sightings).where(sightings.c.delivery_id.in_([row.id for row in mine])).order_by(sightings.c.id)
    return ProbeRecord(
        probe=probe,
        steps=of_probe(steps, steps.c.number),
        deliveries=mine,
        sightings=tuple(conn.execute(seen).all()),
        waypoints=of_probe(waypoints, waypoints.c.at),
    )
