"""Stage observe: sightings, cursor and coverage in one transaction, moved forward only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, or_, select, update

from prober import correlate
from prober.clock import Instant
from prober.errors import LedgerError, Unreadable
from prober.interval import Interval, offset_from_exchange
from prober.ledger.attaching import CANDIDATE, NO_DELIVERY, STRAY, attach, forget_candidate
from prober.ledger.dialect import insert
from prober.ledger.publishing import add_waypoints
from prober.ledger.tables import (
    candidates,
    coverage,
    deliveries,
    held,
    instant_of,
    instant_values,
    keys,
    observers,
    offsets,
    sightings,
    steps,
)
from prober.ledger.totals import Rise, raise_totals
from prober.marker import Found
from prober.model import Blindness, Channel, Control, Message, Reading, StepState, StrayReason

MAX_HELD_BYTES = 256 * 1024
"""Of one message's texts, kept only while a key may still be learned."""

MAX_CANDIDATES = 1000
"""Sightings that may wait for a key at once."""

LEARNING_TIME = 600.0
"""Seconds for which a sighting waits for its key."""


class CursorMoved(LedgerError):
    """Another process has moved this observer's cursor; read again from where it stands."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """A message that carries keys, and the keys."""

    message: Message
    found: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """What one observer saw: pushed (no ``cursor``) or by one complete read."""

    observer: str
    noticed: tuple[Noticed, ...]
    channels: Mapping[str, Channel]
    expected: str | None = None
    cursor: str | None = None
    readings: Mapping[str, Reading] | None = None
    controls: tuple[Control, ...] = ()
    blind: Mapping[str, Blindness] = field(default_factory=dict)


def cursor_of(conn: Connection, location: str, observer: str) -> str | None:
    """Where the observer's last complete read ended, None before its first."""
    query = select(observers.c.cursor).where(observers.c.location == location, observers.c.name == observer)
    return conn.execute(query).scalar_one_or_none()


def record(conn: Connection, location: str, observed: Observed, now: Instant) -> int:
    """Put what was seen on record; returns how many sightings were new. Raises CursorMoved."""
    if observed.cursor is not None:
        _move_cursor(conn, location, observed, now)
    before = _coverage(conn, location)
    readings = observed.readings or {}
    new = 0
    for noticed in observed.noticed:
        channel = observed.channels[noticed.message.channel]
        reading = readings.get(channel.name)
        covered = before.get(channel.identity)
        continues = reading is None or reading.continues
        lower = instant_of(covered, "watermark") if covered is not None and continues else None
        new += _record_message(conn, location, channel, noticed, lower=lower, now=now)
    for name, reading in readings.items():
        channel = observed.channels[name]
        _extend(conn, location, channel, before.get(channel.identity), reading)
    for control in observed.controls:
        _bound_clock(conn, location, control)
    for name, blindness in observed.blind.items():
        _record_blind(conn, location, observed.channels[name], blindness)
    return new


def _record_blind(conn: Connection, location: str, channel: Channel, blindness: Blindness) -> None:
    """One channel cannot be read while its observer sees others."""
    values = {"blind_reason": blindness.reason, "blind_detail": blindness.detail[:500],
              **instant_values("failed_read", blindness.begun)}  # fmt: skip
    statement = insert(conn, coverage).values(
        location=location, identity=channel.identity, channel=channel.name, **values
    )
    conn.execute(statement.on_conflict_do_update(index_elements=["location", "identity"], set_=values))


def record_unreadable(conn: Connection, location: str, observer: str, error: Unreadable, begun: Instant) -> None:
    """The observer is blind: since when, why, and when the latest failed read began."""
    values = {"blind_reason": error.reason, "blind_detail": error.detail[:500], **instant_values("failed_read", begun)}
    statement = insert(conn, observers).values(
        location=location, name=observer, **values, **instant_values("blind_since", begun)
    )
    already = and_(observers.c.location == location, observers.c.name == observer, observers.c.blind_reason != "")
    if conn.execute(update(observers).where(already).values(values)).rowcount == 0:
        conn.execute(
            statement.on_conflict_do_update(
                index_elements=["location", "name"], set_={**values, **instant_values("blind_since", begun)}
            )
        )
    # A failed read may end the grace of a blind channel: let those that wait for it be judged.
    conn.execute(
        update(deliveries)
        .where(deliveries.c.location == location, deliveries.c.observer == observer, deliveries.c.open == 1,
               deliveries.c.due_wall <= begun.wall)
        .values(dirty=1)
    )  # fmt: skip


def expire_candidates(conn: Connection, location: str, now: Instant) -> int:
    """Count as unmatched the sightings whose key nobody can learn any more."""
    query = (
        select(sightings.c.id, sightings.c.channel)
        .join(held, held.c.sighting_id == sightings.c.id)
        .where(
            sightings.c.location == location,
            or_(
                and_(held.c.until_boot_id == now.boot_id, held.c.until_boottime <= now.boottime),
                and_(held.c.until_boot_id != now.boot_id, held.c.until_wall <= now.wall),
            ),
        )
    )
    rows = conn.execute(query).all()
    rise = Rise()
    for row in rows:
        forget_candidate(conn, row.id)
        conn.execute(
            update(sightings).where(sightings.c.id == row.id).values(role=STRAY, stray=StrayReason.UNMATCHED.value)
        )
        rise.count("strays_total", {"channel": row.channel, "reason": StrayReason.UNMATCHED.value})
    raise_totals(conn, location, now.wall, rise)
    return len(rows)


def _move_cursor(conn: Connection, location: str, observed: Observed, now: Instant) -> None:
    values = {"cursor": observed.cursor, "blind_reason": "", "blind_detail": "",
              **instant_values("blind_since", None), **instant_values("failed_read", None)}  # fmt: skip
    here = and_(observers.c.location == location, observers.c.name == observed.observer)
    expected = observers.c.cursor.is_(None) if observed.expected is None else observers.c.cursor == observed.expected
    if conn.execute(update(observers).where(here, expected).values(values)).rowcount:
        return
    fresh = insert(conn, observers).values(location=location, name=observed.observer, **values)
    if observed.expected is not None or conn.execute(fresh.on_conflict_do_nothing()).rowcount == 0:
        raise CursorMoved(f"observer {observed.observer}: another process reads the same account")


def _coverage(conn: Connection, location: str) -> dict[str, Row[Any]]:
    rows = conn.execute(select(coverage).where(coverage.c.location == location)).all()
    return {row.identity: row for row in rows}


def _extend(conn: Connection, location: str, channel: Channel, old: Row[Any] | None, reading: Reading) -> None:
    started = instant_values("watermark", reading.started)
    seeing = {"channel": channel.name, "blind_reason": "", "blind_detail": "", **instant_values("failed_read", None)}
    if old is not None and old.since_wall is not None and reading.continues:
        watermark = instant_of(old, "watermark")
        if watermark is not None and reading.started.since(watermark) < 0:
            return
        here = and_(coverage.c.location == location, coverage.c.identity == channel.identity)
        conn.execute(update(coverage).where(here).values(**started, **seeing))
        return
    values = {**started, **seeing, **instant_values("since", reading.started)}
    statement = insert(conn, coverage).values(location=location, identity=channel.identity, **values)
    conn.execute(statement.on_conflict_do_update(index_elements=["location", "identity"], set_=values))


def _bound_clock(conn: Connection, location: str, control: Control) -> None:
    """Intersect the bounds on the provider's clock; a contradiction means that a clock stepped: begin anew."""
    stamp = control.stamp
    fresh = offset_from_exchange(
        control.sent.boottime, control.answered.boottime, stamp.at, stamp.resolution, stamp.source
    )
    where = and_(
        offsets.c.location == location, offsets.c.source == stamp.source, offsets.c.boot_id == control.sent.boot_id
    )
    old = conn.execute(select(offsets).where(where)).first()
    both = fresh if old is None else (Interval(old.lower, old.upper, stamp.source).intersection(fresh) or fresh)
    values = {"lower": both.lower, "upper": both.upper, "at": control.answered.wall}
    statement = insert(conn, offsets).values(
        location=location, source=stamp.source, boot_id=control.sent.boot_id, **values
    )
    conn.execute(statement.on_conflict_do_update(index_elements=["location", "source", "boot_id"], set_=values))


def _record_message(
    conn: Connection, location: str, channel: Channel, noticed: Noticed, *, lower: Instant | None, now: Instant
) -> int:
    message = noticed.message
    if _seen_before(conn, location, channel, message):
        return 0
    values = tuple(dict.fromkeys(key.value for key in noticed.found))
    known, rows = _known_keys(conn, location, channel, values)
    attribution = correlate.attribute(
        noticed.found,
        known,
        sender_allowed=correlate.sender_allowed(message.sender, channel.senders),
        now_wall=now.wall,
    )
    row = _sighting_row(location, channel, message, lower)
    rise = Rise()
    rise.count("sightings_total", {"channel": channel.name, "how": message.how.value})
    for delivery in attribution.deliveries:
        attach(conn, rows[delivery], row, message.texts, now)
        add_waypoints(conn, rows[delivery].probe_id, delivery, message.waypoints)
    if attribution.candidates and _may_learn(conn, channel):
        _keep_candidate(conn, row, attribution.candidates, message, now)
    elif not attribution.deliveries:
        stray = attribution.stray or StrayReason.UNMATCHED
        conn.execute(sightings.insert().values({**row, "role": STRAY, "stray": stray.value}))
        rise.count("strays_total", {"channel": channel.name, "reason": stray.value})
    raise_totals(conn, location, now.wall, rise)
    return 1


def _seen_before(conn: Connection, location: str, channel: Channel, message: Message) -> bool:
    """Whether the message is on record; if so, an earlier receipt sharpens what is not judged yet."""
    same = and_(
        sightings.c.location == location,
        sightings.c.identity == channel.identity,
        sightings.c.message_id == message.id,
    )
    rows = conn.execute(select(sightings).where(same)).all()
    for row in rows:
        upper = instant_of(row, "upper")
        if upper is not None and message.seen.since(upper) < 0:
            conn.execute(
                update(sightings)
                .where(sightings.c.id == row.id)
                .values(how=message.how.value, **instant_values("upper", message.seen))
            )
    return bool(rows)


def _known_keys(
    conn: Connection, location: str, channel: Channel, values: Sequence[str]
) -> tuple[list[correlate.KnownKey], dict[int, Row[Any]]]:
    """Whose keys these are, and the deliveries that they have on this channel."""
    if not values:
        return [], {}
    found = conn.execute(select(keys).where(keys.c.value.in_(values))).all()
    probes = {row.probe_id for row in found}
    query = select(deliveries).where(
        deliveries.c.probe_id.in_(probes), deliveries.c.identity == channel.identity, deliveries.c.location == location
    )
    here = {row.probe_id: row for row in conn.execute(query).all()} if probes else {}
    known = []
    for row in found:
        delivery = here.get(row.probe_id)
        bound = row.channel in {"", delivery.channel} if delivery is not None else False
        known.append(correlate.KnownKey(row.value, row.probe_id, delivery.id if delivery and bound else None))
    return known, {row.id: row for row in here.values()}


def _may_learn(conn: Connection, channel: Channel) -> bool:
    """Whether some publication that covers this channel is not answered yet, and there is room to wait for it."""
    query = (
        select(steps.c.number)
        .join(deliveries, deliveries.c.probe_id == steps.c.probe_id)
        .where(
            deliveries.c.open == 1,
            deliveries.c.identity == channel.identity,
            steps.c.state.in_([StepState.PLANNED.value, StepState.TAKEN.value]),
        )
        .limit(1)
    )
    waiting = len(conn.execute(select(held.c.sighting_id).limit(MAX_CANDIDATES)).all())
    return waiting < MAX_CANDIDATES and conn.execute(query).first() is not None


def _keep_candidate(
    conn: Connection, row: dict[str, Any], ids: tuple[str, ...], message: Message, now: Instant
) -> None:
    key = conn.execute(sightings.insert().values({**row, "role": CANDIDATE})).inserted_primary_key
    sighting = key[0] if key else 0
    conn.execute(
        insert(conn, candidates).on_conflict_do_nothing(), [{"value": i, "sighting_id": sighting} for i in ids]
    )
    texts, room = [], MAX_HELD_BYTES
    for text in message.texts:
        texts.append(text[:room])
        room -= len(texts[-1])
        if room <= 0:
            break
    conn.execute(
        held.insert().values(sighting_id=sighting, texts=json.dumps(texts),
                             **instant_values("until", now.plus(LEARNING_TIME)))
    )  # fmt: skip


def _sighting_row(location: str, channel: Channel, message: Message, lower: Instant | None) -> dict[str, Any]:
    stamp = message.stamp
    return {
        "location": location,
        "identity": channel.identity,
        "channel": channel.name,
        "message_id": message.id[:300],
        "fingerprint": message.fingerprint[:300],
        "delivery_id": NO_DELIVERY,
        "how": message.how.value,
        "stray": None,
        "misplaced": int(message.misplaced),
        "checks_failed": "[]",
        "sender": message.sender[:320],
        "stamp_at": stamp.at if stamp else None,
        "stamp_resolution": stamp.resolution if stamp else None,
        "stamp_source": stamp.source if stamp else None,
        **instant_values("lower", lower),
        **instant_values("upper", message.seen),
    }


@dataclass(frozen=True, slots=True)
class Awaited:
    """Whether an observer's channels are awaited at all, and the next deadline or horizon that a read must bracket."""

    open: bool
    bound: Instant | None


def awaited(conn: Connection, location: str, observer: str, after: Instant | None, now: Instant) -> Awaited:
    """What is still to be seen through this observer; ``after`` is when its last complete read began."""
    here = and_(deliveries.c.location == location, deliveries.c.observer == observer, deliveries.c.open == 1)
    some = conn.execute(select(deliveries.c.id).where(here).limit(1)).first() is not None
    query = select(deliveries.c.due_wall, deliveries.c.due_boottime, deliveries.c.due_boot_id).where(
        here, deliveries.c.due_boot_id == now.boot_id
    )
    if after is not None:
        query = query.where(deliveries.c.due_boottime > after.boottime)
    row = conn.execute(query.order_by(deliveries.c.due_boottime).limit(1)).first()
    return Awaited(some, None if row is None else instant_of(row, "due"))
