"""Stage observe: sightings, cursor and coverage in one transaction, moved forward only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, exists, select, update

from prober import correlate
from prober.clean_up import carries_our_key
from prober.clock import Instant
from prober.errors import LedgerError, Unreadable
from prober.ledger.attaching import (
    BROADCAST,
    MOVED,
    NO_DELIVERY,
    STRAY,
    Entry,
    attach,
    forget_candidate,
    moved,
    put_sighting,
)
from prober.ledger.awaiting import wake_read, wake_unread
from prober.ledger.clocks import bound_clock
from prober.ledger.controls import record_posted, record_seen
from prober.ledger.dialect import insert, writes
from prober.ledger.holding import EXPIRED, keep_candidate, may_learn
from prober.ledger.leases import see_held
from prober.ledger.prepared import Prepared
from prober.ledger.publishing import add_waypoints
from prober.ledger.tables import (
    coverage,
    deliveries,
    instant_of,
    instant_values,
    keys,
    observers,
    sightings,
)
from prober.ledger.totals import Rise, raise_totals
from prober.marker import Found
from prober.model import Blindness, Channel, Control, ControlSeen, Message, Reading, StrayReason

MAX_ID = 300
"""Characters of a message's id on record."""


class CursorMoved(LedgerError):
    """Another process has moved this observer's cursor; read again from where it stands."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """A message that carries keys, and the keys. ``in_read`` is False where the complete read did not show it."""

    message: Message
    found: tuple[Found, ...]
    in_read: bool = True


@dataclass(frozen=True, slots=True)
class Observed:
    """What one observer saw: pushed (no ``cursor``) or by one complete read.

    ``trouble`` says why its pushes do not flow as they should, ``reads_per_minute`` what its provider allows.
    ``epoch`` is that of the lease under which it looked, None where observers are not leased.
    """

    observer: str
    noticed: tuple[Noticed, ...]
    channels: Mapping[str, Channel]
    expected: str | None = None
    cursor: str | None = None
    readings: Mapping[str, Reading] | None = None
    controls: tuple[Control, ...] = ()
    blind: Mapping[str, Blindness] = field(default_factory=dict)
    controls_seen: tuple[ControlSeen, ...] = ()
    trouble: str = ""
    reads_per_minute: float | None = None
    retention: float = correlate.RETENTION
    epoch: int | None = None


def cursor_of(conn: Connection, location: str, observer: str) -> str | None:
    """Where the observer's last complete read ended, None before its first."""
    row = _CURSOR.first(conn, {"location": location, "observer": observer})
    return None if row is None else row.cursor


def record(conn: Connection, location: str, observed: Observed, now: Instant) -> int:
    """Put what was seen on record; returns how many sightings were new. Raises CursorMoved and LeaseLost."""
    if observed.epoch is not None:
        see_held(conn, location, observed.observer, observed.epoch)
    if observed.cursor is not None:
        _move_cursor(conn, location, observed, now)
    readings = observed.readings or {}
    named = {*readings, *(noticed.message.channel for noticed in observed.noticed)}
    named |= {seen.channel for seen in observed.controls_seen}
    before = _coverage(conn, location, [observed.channels[name].identity for name in sorted(named)])
    entry = Entry(now)
    new = 0
    for noticed in observed.noticed:
        channel = observed.channels[noticed.message.channel]
        lower = _lower(noticed, readings.get(channel.name), before.get(channel.identity))
        new += _record_message(conn, location, channel, noticed, lower=lower, entry=entry, retention=observed.retention)
    _record_controls(conn, location, observed, before, entry.rise)
    raise_totals(conn, location, now.wall, entry.rise)
    for name, reading in readings.items():
        channel = observed.channels[name]
        _extend(conn, location, channel, before.get(channel.identity), reading)
        wake_read(conn, location, channel.identity, reading.started)
    for name, blindness in observed.blind.items():
        _record_blind(conn, location, observed.channels[name], blindness)
        wake_unread(conn, location, now, identity=observed.channels[name].identity)
    return new


def _record_controls(
    conn: Connection, location: str, observed: Observed, before: Mapping[str, Row[Any]], rise: Rise
) -> None:
    for control in observed.controls:
        bound_clock(conn, location, control, rise)
        record_posted(conn, location, observed.channels[control.channel], control, rise)
    for seen in observed.controls_seen:
        channel = observed.channels[seen.channel]
        covered = before.get(channel.identity)
        lower = None if covered is None else instant_of(covered, "watermark")
        record_seen(conn, location, channel, seen, lower=lower, rise=rise)


def _record_blind(conn: Connection, location: str, channel: Channel, blindness: Blindness) -> None:
    """One channel cannot be read while its observer sees others."""
    values = {"blind_reason": blindness.reason, "blind_detail": blindness.detail[:500],
              **instant_values("failed_read", blindness.begun)}  # fmt: skip
    statement = insert(conn, coverage).values(
        location=location, identity=channel.identity, channel=channel.name, **values
    )
    conn.execute(statement.on_conflict_do_update(index_elements=["location", "identity"], set_=values))


def record_unreadable(
    conn: Connection,
    location: str,
    observer: str,
    error: Unreadable,
    begun: Instant,
    *,
    now: Instant | None = None,
    epoch: int | None = None,
) -> None:
    """The observer is blind: since when, why, and when the latest failed read began. Raises LeaseLost."""
    if epoch is not None:
        see_held(conn, location, observer, epoch)
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
    wake_unread(conn, location, now or begun, observer=observer)


def expire_candidates(conn: Connection, location: str, now: Instant) -> int:
    """Count as unmatched the sightings whose key nobody can learn any more."""
    about = {"boot": now.boot_id, "boottime": now.boottime, "wall": now.wall}
    rows = [row for row in EXPIRED.all(conn, about) if row.location == location]
    if not rows:
        return 0
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
              "trouble": observed.trouble[:500], "reads_per_minute": observed.reads_per_minute,
              **instant_values("blind_since", None), **instant_values("failed_read", None)}  # fmt: skip
    here = and_(observers.c.location == location, observers.c.name == observed.observer)
    expected = observers.c.cursor.is_(None) if observed.expected is None else observers.c.cursor == observed.expected
    if conn.execute(update(observers).where(here, expected).values(values)).rowcount:
        return
    fresh = insert(conn, observers).values(location=location, name=observed.observer, **values)
    if observed.expected is not None or not writes(conn, fresh.on_conflict_do_nothing()):
        raise CursorMoved(f"observer {observed.observer}: another process reads the same account")


def _coverage(conn: Connection, location: str, identities: Sequence[str]) -> dict[str, Row[Any]]:
    rows = _COVERAGE.all(conn, {"location": location, "identities": identities})
    return {row.identity: row for row in rows}


def _lower(noticed: Noticed, reading: Reading | None, covered: Row[Any] | None) -> Instant | None:
    """When the last complete read that lacked the message began."""
    if reading is None:
        return None if covered is None else instant_of(covered, "watermark")
    if not reading.continues:
        return None
    if not noticed.in_read and noticed.message.seen.since(reading.started) >= 0:
        return reading.started  # pushed during this very read, which did not show it
    return None if covered is None else instant_of(covered, "watermark")


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


def _record_message(
    conn: Connection,
    location: str,
    channel: Channel,
    noticed: Noticed,
    *,
    lower: Instant | None,
    entry: Entry,
    retention: float,
) -> int:
    message = noticed.message
    row = _sighting_row(location, channel, message, lower)
    if _seen_before(conn, row, message):
        return 0
    allowed = correlate.sender_allowed(message.sender, channel.senders)
    row["sweep"] = int(allowed and carries_our_key(noticed.found))
    values = tuple(dict.fromkeys(key.value for key in noticed.found))
    known, rows = _known_keys(conn, location, channel, values)
    attribution = correlate.attribute(
        noticed.found,
        known,
        sender_allowed=allowed,
        now_wall=entry.now.wall,
        retention=retention,
    )
    entry.rise.count("sightings_total", {"channel": channel.name, "how": message.how.value})
    if message.broadcast:
        for delivery in attribution.deliveries or (NO_DELIVERY,):
            put_sighting(conn, {**row, "delivery_id": delivery, "role": BROADCAST}, entry)
        return 1
    for delivery in attribution.deliveries:
        attach(conn, rows[delivery], row, message.texts, entry)
        add_waypoints(conn, rows[delivery].probe_id, delivery, message.waypoints)
    if attribution.deliveries:
        return 1
    if moved(conn, row, NO_DELIVERY, entry):
        put_sighting(conn, {**row, "role": MOVED}, entry)
    elif attribution.candidates and may_learn(conn, location, channel):
        keep_candidate(conn, row, attribution.candidates, message, entry)
    else:
        _put_stray(conn, channel, row, attribution.stray or StrayReason.UNMATCHED, entry)
    return 1


def _put_stray(conn: Connection, channel: Channel, row: dict[str, Any], stray: StrayReason, entry: Entry) -> None:
    put_sighting(conn, {**row, "role": STRAY, "stray": stray.value}, entry)
    entry.rise.count("strays_total", {"channel": channel.name, "reason": stray.value})


_CURSOR = Prepared(
    select(observers.c.cursor).where(
        observers.c.location == bindparam("location"), observers.c.name == bindparam("observer")
    )
)
_COVERAGE = Prepared(
    select(coverage).where(
        coverage.c.location == bindparam("location"), coverage.c.identity.in_(bindparam("identities", expanding=True))
    )
)
_SAME_MESSAGE = Prepared(
    select(
        sightings.c.id,
        sightings.c.upper_wall,
        sightings.c.upper_boottime,
        sightings.c.upper_boot_id,
        sightings.c.delivery_id,
    ).where(
        sightings.c.location == bindparam("location"),
        sightings.c.identity == bindparam("identity"),
        sightings.c.message_id == bindparam("message_id"),
    )
)
_SHARPEN = Prepared(
    update(sightings)
    .where(
        sightings.c.id == bindparam("sighting"),
        # What a settled verdict rests on stays as it was.
        ~exists().where(deliveries.c.id == sightings.c.delivery_id, deliveries.c.latency_upper.is_not(None)),
    )
    .values(
        how=bindparam("seen_how"),
        upper_wall=bindparam("wall"),
        upper_boottime=bindparam("boottime"),
        upper_boot_id=bindparam("boot"),
    )
)
_KNOWN = Prepared(
    select(deliveries, keys.c.value.label("key_value"), keys.c.probe_id.label("key_probe"),
           keys.c.channel.label("key_channel"))
    .select_from(keys)
    .outerjoin(
        deliveries,
        and_(
            deliveries.c.probe_id == keys.c.probe_id,
            deliveries.c.identity == bindparam("identity"),
            deliveries.c.location == bindparam("location"),
        ),
    )
    .where(keys.c.value.in_(bindparam("values", expanding=True)))
)  # fmt: skip


def _seen_before(conn: Connection, row: Mapping[str, Any], message: Message) -> bool:
    """Whether the message is on record; if so, an earlier receipt sharpens what is not judged yet."""
    about = {name: row[name] for name in ("location", "identity", "message_id")}
    known = _SAME_MESSAGE.all(conn, about)
    for sighting in known:
        upper = instant_of(sighting, "upper")
        if upper is not None and message.seen.since(upper) < 0:
            seen = message.seen
            _SHARPEN.write(conn, {"sighting": sighting.id, "seen_how": message.how.value, "wall": seen.wall,
                                  "boottime": seen.boottime, "boot": seen.boot_id})  # fmt: skip
    return bool(known)


def _known_keys(
    conn: Connection, location: str, channel: Channel, values: Sequence[str]
) -> tuple[list[correlate.KnownKey], dict[int, Row[Any]]]:
    """Whose keys these are, and the deliveries that they have on this channel."""
    if not values:
        return [], {}
    about = {"values": values, "identity": channel.identity, "location": location}
    found = _KNOWN.all(conn, about)
    known = []
    for row in found:
        bound = row.id is not None and row.key_channel in {"", row.channel}
        known.append(correlate.KnownKey(row.key_value, row.key_probe, row.id if bound else None))
    return known, {row.id: row for row in found if row.id is not None}


def _short(message_id: str) -> str:
    """The id, where it is too long for its column with a digest in the place of its middle."""
    if len(message_id) <= MAX_ID:
        return message_id
    folder, _, number = message_id.rpartition(".")
    return f"{folder[:200]}#{hashlib.sha256(folder.encode('utf-8', 'replace')).hexdigest()[:32]}.{number[-60:]}"


def _sighting_row(location: str, channel: Channel, message: Message, lower: Instant | None) -> dict[str, Any]:
    stamp = message.stamp
    return {
        "location": location,
        "identity": channel.identity,
        "channel": channel.name,
        "message_id": _short(message.id),
        "fingerprint": _short(message.fingerprint),
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
