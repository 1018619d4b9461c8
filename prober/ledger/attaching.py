"""A sighting and its delivery: the first one decides, the others are copies or strays."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from prober import checks
from prober.clock import Instant
from prober.ledger.tables import candidates, deliveries, held, instant_of, keys, sightings, steps
from prober.ledger.totals import Rise, raise_totals
from prober.model import Check, PublishResult, StrayReason

FIRST, COPY, STRAY, CANDIDATE = "first", "copy", "stray", "candidate"

NO_DELIVERY = 0


def attach_learned(conn: Connection, location: str, values: tuple[str, ...], now: Instant) -> None:
    """Join the sightings that waited for these keys to the deliveries that the keys now name."""
    query = (
        select(sightings)
        .join(candidates, candidates.c.sighting_id == sightings.c.id)
        .where(candidates.c.value.in_(values), sightings.c.location == location, sightings.c.role == CANDIDATE)
        .distinct()
    )
    for sighting in conn.execute(query).all():
        deliveries_there = deliveries_of(conn, location, sighting.identity, values)
        texts = conn.execute(select(held.c.texts).where(held.c.sighting_id == sighting.id)).scalar_one_or_none()
        forget_candidate(conn, sighting.id)
        if not deliveries_there:
            continue
        conn.execute(delete(sightings).where(sightings.c.id == sighting.id))
        row = {column: value for column, value in sighting._mapping.items() if column != "id"}
        for delivery in deliveries_there:
            attach(conn, delivery, row, json.loads(texts or "[]"), now)


def forget_candidate(conn: Connection, sighting: int) -> None:
    """Drop what was kept only until a key might be learned."""
    conn.execute(delete(candidates).where(candidates.c.sighting_id == sighting))
    conn.execute(delete(held).where(held.c.sighting_id == sighting))


def deliveries_of(conn: Connection, location: str, identity: str, values: tuple[str, ...]) -> list[Row[Any]]:
    """The deliveries that these keys name on this channel."""
    query = (
        select(deliveries)
        .join(keys, keys.c.probe_id == deliveries.c.probe_id)
        .where(
            keys.c.value.in_(values),
            deliveries.c.location == location,
            deliveries.c.identity == identity,
            (keys.c.channel == "") | (keys.c.channel == deliveries.c.channel),
        )
        .distinct()
    )
    return list(conn.execute(query).all())


def attach(
    conn: Connection, delivery: Row[Any], sighting: dict[str, Any], texts: list[str] | tuple[str, ...], now: Instant
) -> None:
    """Put a sighting of this delivery on record: the first one, a copy, or a stray, and count it."""
    role, stray = _role(conn, delivery, sighting)
    failed: tuple[str, ...] = ()
    if role == FIRST:
        failed = checks.failed([Check(text) for text in json.loads(delivery.checks)], texts)
    values = {
        **sighting,
        "delivery_id": delivery.id,
        "role": role,
        "stray": stray.value if stray else None,
        "checks_failed": json.dumps(failed),
    }
    key = conn.execute(sightings.insert().values(values)).inserted_primary_key
    rise = Rise()
    if role == FIRST:
        conn.execute(update(deliveries).where(deliveries.c.id == delivery.id).values(sighting_id=key[0] if key else 0))
        # One channel's sighting may decide for its sisters: an unanswered publish then counts as accepted.
        conn.execute(
            update(deliveries).where(deliveries.c.probe_id == delivery.probe_id, deliveries.c.open == 1).values(dirty=1)
        )
    elif role == COPY:
        conn.execute(update(deliveries).where(deliveries.c.id == delivery.id).values(copies=deliveries.c.copies + 1))
        labels = {"scenario": delivery.scenario, "kind": delivery.kind, "channel": delivery.channel}
        rise.count("copies_total", labels)
    elif stray is not None:
        rise.count("strays_total", {"channel": delivery.channel, "reason": stray.value})
    raise_totals(conn, delivery.location, now.wall, rise)


def _role(conn: Connection, delivery: Row[Any], sighting: dict[str, Any]) -> tuple[str, StrayReason | None]:
    step = conn.execute(
        select(steps).where(steps.c.probe_id == delivery.probe_id, steps.c.number == delivery.step_number)
    ).one()
    if step.result == PublishResult.REFUSED.value:
        return STRAY, StrayReason.AFTER_REFUSAL
    known = conn.execute(
        select(sightings).where(sightings.c.delivery_id == delivery.id, sightings.c.role == FIRST)
    ).first()
    after = _after_horizon(delivery, step, sighting)
    if known is None:
        return (STRAY, StrayReason.AFTER_HORIZON) if after or delivery.outcome is not None else (FIRST, None)
    if _moved(known, sighting):
        return "moved", None
    return (STRAY, StrayReason.REPLAYED) if after else (COPY, None)


def _moved(known: Row[Any], sighting: dict[str, Any]) -> bool:
    """The same mail in another folder, or under new numbers: no copy. Two numbers in one folder are copies."""
    same = known.fingerprint == sighting["fingerprint"]
    return bool(same and known.message_id.rpartition(".")[0] != sighting["message_id"].rpartition(".")[0])


def _after_horizon(delivery: Row[Any], step: Row[Any], sighting: dict[str, Any]) -> bool:
    """Whether it certainly became visible only after the horizon: the last read before lacked it even then."""
    origin = instant_of(step, "requested") or instant_of(step, "taken")
    wall = sighting["lower_wall"]
    if origin is None or wall is None:
        return False
    lower = Instant(wall, sighting["lower_boottime"], sighting["lower_boot_id"])
    if delivery.scheduled_time is not None:
        origin = origin.at_wall(delivery.scheduled_time)
    return lower.since(origin) > float(delivery.give_up)
