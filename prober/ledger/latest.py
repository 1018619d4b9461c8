"""The latest settled probe of a scenario, for whoever asks how it is now."""

from __future__ import annotations

from sqlalchemy import Connection, select, text

from prober.ledger.reading import ProbeRecord, probe_records
from prober.ledger.tables import deliveries, probes

LOOK_BACK = 200
"""Scheduled probes among which a settled one is looked for: more are never in flight for long."""


def latest_settled(conn: Connection, location: str, scenario: str) -> ProbeRecord | None:
    """The newest scheduled probe of which no delivery is open, None without one."""
    newest = (
        select(probes.c.id, probes.c.slot)
        .where(probes.c.location == location, probes.c.scenario == scenario, probes.c.run == "")
        .order_by(probes.c.slot.desc())
        .limit(LOOK_BACK)
        .subquery()
    )
    is_open = select(deliveries.c.id).where(deliveries.c.probe_id == newest.c.id, text("deliveries.open = 1")).exists()
    query = select(newest.c.id).where(~is_open).order_by(newest.c.slot.desc()).limit(1)
    found = conn.execute(query).scalar_one_or_none()
    return None if found is None else probe_records(conn, [found])[0]


def recent_probes(conn: Connection, location: str, scenario: str, limit: int) -> tuple[ProbeRecord, ...]:
    """The newest scheduled probes of a scenario, newest first."""
    query = (
        select(probes.c.id)
        .where(probes.c.location == location, probes.c.scenario == scenario, probes.c.run == "")
        .order_by(probes.c.slot.desc())
        .limit(limit)
    )
    return probe_records(conn, tuple(conn.execute(query).scalars()))
