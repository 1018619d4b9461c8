"""What providers say of mail on its way: waypoints of the deliveries that it is about, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, and_, bindparam, exists, or_, select

from prober.clock import Instant
from prober.ledger.publishing import add_waypoints
from prober.ledger.tables import deliveries, keys, steps, waypoints
from prober.model import ChannelKind, Hearsay, Outcome, Timeliness, Waypoint

LEARNING = 600.0
"""Seconds for which something heard of one of our addresses may still be understood: its key may be learned yet."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Something heard, the keys that it carries, and the identities of the channels that it speaks of."""

    hearsay: Hearsay
    keys: tuple[str, ...]
    identities: tuple[str, ...]


def record_heard(
    conn: Connection, location: str, heard: Sequence[Heard], now: Instant
) -> tuple[tuple[Hearsay, ...], int]:
    """Put on record what is ours; returns what need not be heard again, and how many waypoints are new.

    What speaks of our address by no known key may have come before the answer that tells its key: it is to be heard
    again, for a while.
    """
    done: list[Hearsay] = []
    new = 0
    for one in heard:
        rows = _deliveries_of(conn, location, one)
        for row in rows:
            new += add_waypoint_once(conn, row.probe_id, row.id, one.hearsay.waypoint)
        if rows or not one.identities or now.wall - one.hearsay.waypoint.at > LEARNING:
            done.append(one.hearsay)
    return tuple(done), new


def add_waypoint_once(conn: Connection, probe: str, delivery: int, point: Waypoint) -> int:
    """Put a waypoint of a delivery on record unless the same was said before; returns how many were added."""
    same = exists().where(
        waypoints.c.probe_id == probe,
        waypoints.c.delivery_id == delivery,
        waypoints.c.name == point.name,
        waypoints.c.source == point.source,
        waypoints.c.at == point.at,
        waypoints.c.detail == point.detail,
    )
    if conn.execute(select(same)).scalar_one():
        return 0
    add_waypoints(conn, probe, delivery, (point,))
    return 1


@dataclass(frozen=True, slots=True)
class Missed:
    """A mail that was not seen in time: its delivery, and the addresses to which it may have been sent."""

    probe: str
    delivery: int
    addresses: tuple[str, ...]


def missed_mails(conn: Connection, settled: Sequence[int]) -> tuple[Missed, ...]:
    """Of deliveries with a new verdict the mails that are overdue or lost, and of which nothing was seen."""
    rows = conn.execute(_MISSED, {"settled": list(settled)}).all()
    return tuple(Missed(row.probe_id, row.id, _addresses(row.identity, row.recipient)) for row in rows)


def _addresses(identity: str, recipient: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, (identity.partition(":")[2].lower(), recipient.lower()))))


def _deliveries_of(conn: Connection, location: str, heard: Heard) -> Sequence[Row[int, str]]:
    if not heard.keys or not heard.identities:
        return ()
    about = {"values": heard.keys, "identities": heard.identities, "location": location}
    return conn.execute(_NAMED, about).all()


_NAMED = (
    select(deliveries.c.id, deliveries.c.probe_id)
    .join(keys, keys.c.probe_id == deliveries.c.probe_id)
    .where(
        keys.c.value.in_(bindparam("values", expanding=True)),
        deliveries.c.identity.in_(bindparam("identities", expanding=True)),
        deliveries.c.location == bindparam("location"),
        or_(keys.c.channel == "", keys.c.channel == deliveries.c.channel),
    )
    .distinct()
    .order_by(deliveries.c.id)
)
_MISSED = (
    select(deliveries.c.id, deliveries.c.probe_id, deliveries.c.identity, steps.c.recipient)
    .join(steps, and_(steps.c.probe_id == deliveries.c.probe_id, steps.c.number == deliveries.c.step_number))
    .where(
        deliveries.c.id.in_(bindparam("settled", expanding=True)),
        deliveries.c.channel_kind == ChannelKind.EMAIL.value,
        deliveries.c.sighting_id.is_(None),
        or_(deliveries.c.timeliness == Timeliness.OVERDUE.value, deliveries.c.outcome == Outcome.LOST.value),
    )
)
