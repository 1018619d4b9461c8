"""A sighting and its delivery: the first one decides, the others are copies or strays."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, delete, or_, select, text, update

from prober import checks, correlate
from prober.clock import Instant
from prober.ledger.prepared import Prepared
from prober.ledger.step_facts import step_facts
from prober.ledger.tables import candidates, deliveries, held, keys, sightings
from prober.ledger.totals import Rise, raise_totals
from prober.model import Check, PublishResult, StrayReason

FIRST, COPY, MOVED, STRAY, CANDIDATE = "first", "copy", "moved", "stray", "candidate"

BROADCAST = "broadcast"
"""The role of what repeats on a channel what was said in a thread: neither a first sighting nor a copy."""

NO_DELIVERY = 0


@dataclass(slots=True)
class Entry:
    """What one transaction puts on record at ``now``: what it raises, and the sightings that it has made itself."""

    now: Instant
    rise: Rise = field(default_factory=Rise)
    made: set[int] = field(default_factory=set)


_INSERT = Prepared(sightings.insert())
_WAITING = Prepared(
    select(sightings)
    .join(candidates, candidates.c.sighting_id == sightings.c.id)
    .where(
        candidates.c.value.in_(bindparam("told", expanding=True)),
        sightings.c.location == bindparam("here"),
        sightings.c.role == CANDIDATE,
    )
    .distinct()
    .order_by(sightings.c.id)
)
_OWN = Prepared(select(candidates.c.value).where(candidates.c.sighting_id == bindparam("sighting")))
_SAME_MAIL = Prepared(
    select(sightings.c.id, sightings.c.message_id).where(
        sightings.c.location == bindparam("location"),
        sightings.c.identity == bindparam("identity"),
        sightings.c.fingerprint == bindparam("fingerprint"),
        sightings.c.delivery_id == bindparam("delivery"),
    )
)
_FIRST_SEEN = Prepared(
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery"))
    .values(dirty=case((text("deliveries.open = 1"), 1), else_=deliveries.c.dirty), sighting_id=bindparam("sighting"))
)
# One channel's sighting may decide for its sisters: a publish that was not accepted then counts as accepted.
_FIRST_SEEN_OF_ALL = Prepared(
    update(deliveries)
    .where(
        deliveries.c.probe_id == bindparam("probe"),
        or_(text("deliveries.open = 1"), deliveries.c.id == bindparam("delivery")),
    )
    .values(
        dirty=case((text("deliveries.open = 1"), 1), else_=deliveries.c.dirty),
        sighting_id=case(
            (deliveries.c.id == bindparam("delivery"), bindparam("sighting")), else_=deliveries.c.sighting_id
        ),
    )
)
_ONE_COPY_MORE = Prepared(
    update(deliveries).where(deliveries.c.id == bindparam("delivery")).values(copies=deliveries.c.copies + 1)
)


def attach_learned(conn: Connection, location: str, values: tuple[str, ...], now: Instant) -> None:
    """Join the sightings that waited for these keys to the deliveries that the keys now name."""
    entry = Entry(now)
    for sighting in _WAITING.all(conn, {"told": values, "here": location}):
        own = {row.value for row in _OWN.all(conn, {"sighting": sighting.id}) if row.value in values}
        deliveries_there = deliveries_of(conn, location, sighting.identity, tuple(sorted(own)))
        if not deliveries_there:
            continue  # told of another channel: it waits on, for its own key or its end
        texts = conn.execute(select(held.c.texts).where(held.c.sighting_id == sighting.id)).scalar_one_or_none()
        forget_candidate(conn, sighting.id)
        conn.execute(delete(sightings).where(sightings.c.id == sighting.id))
        row = {column: getattr(sighting, column) for column in sightings.c.keys() if column != "id"}  # noqa: SIM118
        for delivery in deliveries_there:
            attach(conn, delivery, row, json.loads(texts or "[]"), entry)
    raise_totals(conn, location, now.wall, entry.rise)


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
    conn: Connection, delivery: Row[Any], sighting: dict[str, Any], texts: list[str] | tuple[str, ...], entry: Entry
) -> None:
    """Put a sighting of this delivery on record: the first one, a copy, or a stray, and count it."""
    step = step_facts(conn, [delivery.probe_id])[delivery.probe_id, delivery.step_number]
    role, stray = _role(conn, delivery, sighting, step, entry)
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
    key = put_sighting(conn, values, entry)
    if role == FIRST:
        about = {"delivery": delivery.id, "sighting": key}
        if step.result is PublishResult.ACCEPTED:
            _FIRST_SEEN.write(conn, about)
        else:
            _FIRST_SEEN_OF_ALL.write(conn, {"probe": delivery.probe_id, **about})
    elif role == COPY:
        _ONE_COPY_MORE.write(conn, {"delivery": delivery.id})
        labels = {"scenario": delivery.scenario, "kind": delivery.kind, "channel": delivery.channel}
        entry.rise.count("copies_total", labels)
    elif stray is not None:
        entry.rise.count("strays_total", {"channel": delivery.channel, "reason": stray.value})


def put_sighting(conn: Connection, row: dict[str, Any], entry: Entry) -> int:
    """Insert one sighting; returns its id."""
    key = _INSERT.insert(conn, row)
    entry.made.add(key)
    return key


def _role(
    conn: Connection, delivery: Row[Any], sighting: dict[str, Any], step: correlate.StepFact, entry: Entry
) -> tuple[str, StrayReason | None]:
    if moved(conn, sighting, delivery.id, entry):
        return MOVED, None
    if step.result is PublishResult.REFUSED:
        return STRAY, StrayReason.AFTER_REFUSAL
    after = correlate.after_horizon(step, delivery.scheduled_time, delivery.give_up, _lower(sighting))
    if delivery.sighting_id is None:
        return (STRAY, StrayReason.AFTER_HORIZON) if after or delivery.outcome is not None else (FIRST, None)
    return (STRAY, StrayReason.REPLAYED) if after else (COPY, None)


def moved(conn: Connection, sighting: dict[str, Any], delivery: int, entry: Entry) -> bool:
    """Whether a mail on record lies in another folder now, or under new numbers: no copy.

    Two numbers in one folder are copies, and so are two folders that one read shows at once.
    """
    if sighting["fingerprint"] == sighting["message_id"]:
        return False  # not a mail: elsewhere nothing is moved
    about = {name: sighting[name] for name in ("location", "identity", "fingerprint")} | {"delivery": delivery}
    here = _folder(sighting["message_id"])
    folders = Counter(
        _folder(row.message_id)
        for row in _SAME_MAIL.all(conn, about)
        if row.id not in entry.made or _folder(row.message_id) == here
    )
    return folders[here] < max(folders.values(), default=0)


def _folder(message_id: str) -> str:
    """Folder and UIDVALIDITY of a mail's id."""
    return message_id.rpartition(".")[0]


def _lower(sighting: dict[str, Any]) -> Instant | None:
    wall = sighting["lower_wall"]
    return None if wall is None else Instant(wall, sighting["lower_boottime"], sighting["lower_boot_id"])
