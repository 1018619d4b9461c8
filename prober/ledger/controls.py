"""Control messages on record: when each was posted and seen, which is what the provider itself took."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, select, update

from prober.bounds import CONTROL_BOUNDS
from prober.clock import Instant
from prober.ledger.dialect import insert
from prober.ledger.tables import controls, coverage, instant_of, instant_values
from prober.ledger.totals import Rise
from prober.model import Channel, Control, ControlSeen, How

LOST, UNSEEN = "lost", "unseen"
"""How a control message was seen that was not: complete reads lacked it, or there were none."""

GIVE_UP = 600.0
"""Seconds after which a control message that no complete read has shown counts as lost."""

KEPT = 30 * 86400.0
"""Seconds for which control messages are kept."""

_PENDING = controls.c.how == ""


@dataclass(frozen=True, slots=True)
class ControlFact:
    """One control message: ``lower`` and ``upper`` bound the seconds from its posting to its being seen.

    ``upper`` is None where it was lost; ``sent_at`` is wall seconds, ``source`` the provider.
    """

    channel: str
    source: str
    sent_at: float
    lower: float
    upper: float | None
    how: str


def record_posted(conn: Connection, location: str, channel: Channel, control: Control, rise: Rise) -> None:
    """A control message was posted; what was posted long before and never seen is given up."""
    if not control.id:
        return
    _give_up(conn, location, channel, control.sent, rise)
    here = and_(controls.c.location == location, controls.c.identity == channel.identity)
    conn.execute(delete(controls).where(here, controls.c.sent_wall < control.sent.wall - KEPT))
    stamp = control.stamp
    fresh = insert(conn, controls).values(
        location=location, identity=channel.identity, channel=channel.name, message_id=control.id, how="",
        stamp_at=stamp.at, stamp_resolution=stamp.resolution, stamp_source=stamp.source,
        **instant_values("sent", control.sent), **instant_values("answered", control.answered),
    )  # fmt: skip
    conn.execute(fresh.on_conflict_do_nothing())
    if control.shown is not None:
        record_seen(conn, location, channel, control.shown, lower=None, rise=rise)


def record_seen(
    conn: Connection, location: str, channel: Channel, seen: ControlSeen, *, lower: Instant | None, rise: Rise
) -> None:
    """A control message was seen, for the first time or again. ``lower``: the last complete read that lacked it."""
    mine = and_(
        controls.c.location == location, controls.c.identity == channel.identity, controls.c.message_id == seen.id
    )
    row = conn.execute(select(controls).where(mine, _PENDING)).first()
    sent = None if row is None else instant_of(row, "sent")
    if sent is None:
        return
    if lower is not None and (lower.since(sent) < 0 or seen.seen.since(lower) < 0):
        lower = None
    values = {"how": seen.how.value, **instant_values("seen", seen.seen), **instant_values("lower", lower)}
    conn.execute(update(controls).where(mine).values(values))
    if seen.how is not How.HISTORY:  # found after we had been away: its upper bound says nothing of the provider
        latency = max(0.0, seen.seen.since(sent))
        rise.observe("control_latency_seconds", {"channel": channel.name}, latency, CONTROL_BOUNDS)


def _give_up(conn: Connection, location: str, channel: Channel, now: Instant, rise: Rise) -> None:
    here = and_(controls.c.location == location, controls.c.identity == channel.identity)
    covered = conn.execute(
        select(coverage).where(coverage.c.location == location, coverage.c.identity == channel.identity)
    ).first()
    for row in conn.execute(select(controls).where(here, _PENDING)).all():
        sent = instant_of(row, "sent")
        if sent is None or now.since(sent) < GIVE_UP:
            continue
        lost = _lacked(covered, sent)
        conn.execute(update(controls).where(controls.c.id == row.id).values(how=LOST if lost else UNSEEN))
        if lost:
            labels = {"channel": channel.name}
            rise.observe_in("control_latency_seconds", labels, GIVE_UP, float("inf"))


def _lacked(covered: Row[Any] | None, sent: Instant) -> bool:
    """Whether complete reads from before it was posted until its giving up lacked it."""
    since, watermark = (None, None) if covered is None else (instant_of(covered, n) for n in ("since", "watermark"))
    return since is not None and watermark is not None and since.since(sent) <= 0 and watermark.since(sent) >= GIVE_UP


def latest_controls(conn: Connection, location: str, identities: Collection[str]) -> Mapping[str, Instant]:
    """When the latest control message was posted to each channel that has one."""
    found: dict[str, Instant] = {}
    for identity in identities:
        here = and_(controls.c.location == location, controls.c.identity == identity)
        row = conn.execute(select(controls).where(here).order_by(controls.c.sent_wall.desc()).limit(1)).first()
        sent = None if row is None else instant_of(row, "sent")
        if sent is not None:
            found[identity] = sent
    return found


def controls_around(
    conn: Connection, location: str, identity: str, begin: float, end: float
) -> tuple[ControlFact, ...]:
    """What is known of a channel's control messages that were posted between two instants (wall seconds)."""
    query = select(controls).where(
        controls.c.location == location,
        controls.c.identity == identity,
        controls.c.sent_wall >= begin,
        controls.c.sent_wall <= end,
        controls.c.how.not_in(["", UNSEEN]),
    )
    return tuple(_fact(row) for row in conn.execute(query.order_by(controls.c.sent_wall)).all())


def controls_between(conn: Connection, since: float, until: float, location: str = "") -> tuple[ControlFact, ...]:
    """The control messages posted in a span (wall seconds) whose end says something of their provider: what was found
    only after we had been away says nothing."""
    query = select(controls).where(
        controls.c.sent_wall >= since,
        controls.c.sent_wall < until,
        controls.c.how.not_in(["", UNSEEN, How.HISTORY.value]),
    )
    here = query.where(controls.c.location == location) if location else query
    return tuple(_fact(row) for row in conn.execute(here.order_by(controls.c.sent_wall)).all())


def _fact(row: Row[Any]) -> ControlFact:
    sent, lower, seen = (instant_of(row, name) for name in ("sent", "lower", "seen"))
    assert sent is not None  # noqa: S101 - written with the row
    upper = None if seen is None else max(0.0, seen.since(sent))
    floor = GIVE_UP if upper is None else 0.0 if lower is None else lower.since(sent)
    return ControlFact(row.channel, row.stamp_source, sent.wall, floor, upper, row.how)
