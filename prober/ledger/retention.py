"""Retention: settled probes leave the ledger with all that hangs on them, failures last; the totals stay."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Select, and_, bindparam, delete, exists, or_, select

from prober.clean_up import Retention
from prober.ledger.audit_tables import acts, untraced
from prober.ledger.clean_up_table import clean_ups
from prober.ledger.tables import (
    candidates,
    deliveries,
    held,
    keys,
    probes,
    sightings,
    steps,
    totals_hourly,
    waypoints,
)
from prober.model import Outcome, Timeliness

MAX_PASS = 200
"""Probes, and strays, that one transaction removes at the most: others wait for it."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What one pass took from the ledger; ``more`` says that there may be more."""

    probes: int
    strays: int
    hours: int
    more: bool


_of_probe = deliveries.c.probe_id == probes.c.id


def _later_than(bound: str) -> Select[tuple[int]]:
    """A delivery that is open, or was settled after the bound."""
    settled = or_(deliveries.c.timeliness_at > bindparam(bound), deliveries.c.outcome_at > bindparam(bound))
    return select(deliveries.c.id).where(_of_probe, or_(deliveries.c.open == 1, settled))


_GOOD = or_(
    and_(deliveries.c.timeliness == Timeliness.ON_TIME.value, deliveries.c.outcome == Outcome.DELIVERED.value),
    and_(deliveries.c.timeliness == Timeliness.MOOT.value, deliveries.c.outcome == Outcome.WITHHELD.value),
)
_OLD = (
    select(probes.c.id)
    .where(
        probes.c.location == bindparam("location"),
        # No question is settled before its probe was planned.
        probes.c.planned_wall <= bindparam("success"),
        ~_later_than("success").exists(),
        or_(~_later_than("failure").exists(), ~exists().where(_of_probe, ~_GOOD)),
    )
    .order_by(probes.c.planned_wall)
    .limit(MAX_PASS)
)
_OLD_STRAYS = (
    select(sightings.c.id)
    .where(
        sightings.c.location == bindparam("location"),
        sightings.c.delivery_id == 0,
        sightings.c.upper_wall <= bindparam("failure"),
    )
    .order_by(sightings.c.id)
    .limit(MAX_PASS)
)


def remove_old(conn: Connection, location: str, retention: Retention, now: float) -> Removed:
    """Remove what is older than its retention at wall time ``now``, at most MAX_PASS of each; totals stay."""
    bounds = {
        "location": location,
        "success": now - retention.success,
        "failure": now - max(retention.success, retention.failure),
    }
    names = conn.execute(_OLD, bounds).scalars().all()
    numbers = conn.execute(select(deliveries.c.id).where(deliveries.c.probe_id.in_(names))).scalars().all()
    seen = conn.execute(select(sightings.c.id).where(sightings.c.delivery_id.in_(numbers))).scalars().all()
    strays = conn.execute(_OLD_STRAYS, bounds).scalars().all()
    for table in (candidates, held):
        conn.execute(delete(table).where(table.c.sighting_id.in_([*seen, *strays])))
    conn.execute(delete(sightings).where(sightings.c.id.in_([*seen, *strays])))
    for table in (waypoints, keys, deliveries, steps, clean_ups, acts, untraced):
        conn.execute(delete(table).where(table.c.probe_id.in_(names)))
    conn.execute(delete(probes).where(probes.c.id.in_(names)))
    hours = conn.execute(
        delete(totals_hourly).where(
            totals_hourly.c.location == location, totals_hourly.c.hour < int((now - retention.hourly) // 3600)
        )
    ).rowcount
    _forget_leftovers(conn, bounds)
    return Removed(len(names), len(strays), hours, MAX_PASS in {len(names), len(strays)})


def _forget_leftovers(conn: Connection, bounds: dict[str, object]) -> None:
    """Clean-ups of no probe here, once they have ended long ago, and the acts of none."""
    conn.execute(
        delete(clean_ups).where(
            clean_ups.c.probe_id == "",
            clean_ups.c.location == bounds["location"],
            clean_ups.c.result != "",
            clean_ups.c.ended <= bounds["failure"],
        )
    )
    conn.execute(
        delete(acts).where(
            acts.c.probe_id == "", acts.c.location == bounds["location"], acts.c.began <= bounds["failure"]
        )
    )
