"""What is awaited: which deliveries wait for a fact since time alone settles them no more, and when to read next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, case, func, or_, select, text, update

from prober.clock import CROSS_BOOT_UNCERTAINTY, Instant
from prober.judge import BLIND_GRACE_SHARE, MIN_BLIND_GRACE
from prober.ledger.prepared import Prepared
from prober.ledger.tables import coverage, deliveries, instant_of, steps

_GRACE = case(
    (deliveries.c.give_up * BLIND_GRACE_SHARE > MIN_BLIND_GRACE, deliveries.c.give_up * BLIND_GRACE_SHARE),
    else_=MIN_BLIND_GRACE,
)
_AFTER_DUE = _GRACE + case((deliveries.c.timeliness.is_(None), deliveries.c.give_up - deliveries.c.within), else_=0.0)

GRACE_IS_OVER = or_(
    and_(
        deliveries.c.due_boot_id == bindparam("boot"), deliveries.c.due_boottime + _AFTER_DUE <= bindparam("boottime")
    ),
    and_(deliveries.c.due_boot_id != bindparam("boot"), deliveries.c.due_wall + _AFTER_DUE <= bindparam("wall")),
)
"""Whether a blind channel's grace after the horizon has ended at the instant (boot, boottime, wall)."""

_WAITING = (deliveries.c.location == bindparam("here"), text("deliveries.open = 1 AND deliveries.dirty = 2"))

_READ = Prepared(
    update(deliveries)
    .where(
        *_WAITING,
        deliveries.c.identity == bindparam("there"),
        (deliveries.c.due_boot_id != bindparam("boot")) | (deliveries.c.due_boottime <= bindparam("boottime")),
    )
    .values(dirty=1)
)
_UNREAD = update(deliveries).where(*_WAITING, GRACE_IS_OVER).values(dirty=1)
_UNREAD_OBSERVER = Prepared(_UNREAD.where(deliveries.c.observer == bindparam("reader")))
_UNREAD_CHANNEL = Prepared(_UNREAD.where(deliveries.c.identity == bindparam("there")))


LOOK_BACK = 600.0
"""Seconds before a request at which its message is looked for: a provider's clock may be wrong by as much."""

_COVERED = Prepared(
    select(coverage.c.identity).where(
        coverage.c.location == bindparam("here"),
        coverage.c.identity.in_(bindparam("all", expanding=True)),
        coverage.c.since_wall.is_not(None),
    )
)
_REQUESTED = func.min(func.coalesce(steps.c.requested_wall, steps.c.taken_wall))
_FIRST_REQUEST = (
    select(_REQUESTED)
    .select_from(deliveries)
    .join(steps, and_(steps.c.probe_id == deliveries.c.probe_id, steps.c.number == deliveries.c.step_number))
    .where(
        deliveries.c.location == bindparam("here"),
        deliveries.c.identity.in_(bindparam("unread", expanding=True)),
        text("deliveries.open = 1"),
    )
)


def requested_unread(conn: Connection, location: str, identities: Sequence[str], now: Instant) -> Instant | None:
    """From when on channels that were never read are to be read: what is awaited there was requested since.

    None while nothing is awaited on such a channel.
    """
    covered = {row.identity for row in _COVERED.all(conn, {"here": location, "all": list(identities)})}
    unread = [identity for identity in identities if identity not in covered]
    if not unread:
        return None
    first = conn.execute(_FIRST_REQUEST, {"here": location, "unread": unread}).scalar_one()
    return None if first is None else now.plus(float(first) - LOOK_BACK - now.wall)


def wake_read(conn: Connection, location: str, identity: str, started: Instant) -> None:
    """A complete read began: it may answer for what was due by then."""
    _READ.write(conn, {"here": location, "there": identity, "boot": started.boot_id, "boottime": started.boottime})


def wake_unread(conn: Connection, location: str, now: Instant, *, observer: str = "", identity: str = "") -> None:
    """A read failed, of an observer or of one channel: it may end the grace of what is blind."""
    about = {"here": location, "boot": now.boot_id, "boottime": now.boottime, "wall": now.wall}
    if observer:
        _UNREAD_OBSERVER.write(conn, {**about, "reader": observer})
    else:
        _UNREAD_CHANNEL.write(conn, {**about, "there": identity})


_CERTAINLY = CROSS_BOOT_UNCERTAINTY + 0.01
"""Seconds after a bound by another machine's clock at which it has certainly passed, rounding included."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """Whether an observer's channels are awaited at all, and the next deadline or horizon that a read must bracket."""

    open: bool
    bound: Instant | None


def awaited(conn: Connection, location: str, observer: str, after: Instant | None, now: Instant) -> Awaited:
    """What is still to be seen through this observer; ``after`` is when its last complete read began.

    What was published on another machine, or before this one was started anew, is due by the wall clock, and is read
    for once both machines' clocks must have passed the bound.
    """
    here = {"location": location, "observer": observer, "boot": now.boot_id}
    bootless, wall = (-math.inf, -math.inf) if after is None else (after.boottime, after.wall)
    own = _NEXT_BOUND.first(conn, {**here, "after": bootless})
    others = _NEXT_ELSEWHERE.first(conn, {**here, "after": wall - _CERTAINLY})
    bounds = [
        None if own is None else instant_of(own, "due"),
        None if others is None else now.at_wall(others.due_wall + _CERTAINLY),
    ]
    if told := [bound for bound in bounds if bound is not None]:
        return Awaited(True, max(told, key=now.since))
    return Awaited(_SOME_OPEN.first(conn, here) is not None, None)


_OPEN_HERE = (
    deliveries.c.location == bindparam("location"),
    deliveries.c.observer == bindparam("observer"),
    text("deliveries.open = 1"),
)
_SOME_OPEN = Prepared(select(deliveries.c.id).where(*_OPEN_HERE).limit(1))
_NEXT_BOUND = Prepared(
    select(deliveries.c.due_wall, deliveries.c.due_boottime, deliveries.c.due_boot_id)
    .where(*_OPEN_HERE, deliveries.c.due_boot_id == bindparam("boot"), deliveries.c.due_boottime > bindparam("after"))
    .order_by(deliveries.c.due_boottime)
    .limit(1)
)
# Both sides of one value: two searches in an index, where "not equal" would walk through all that is open.
_ANOTHER_BOOT = or_(deliveries.c.due_boot_id < bindparam("boot"), deliveries.c.due_boot_id > bindparam("boot"))
_NEXT_ELSEWHERE = Prepared(
    select(deliveries.c.due_wall)
    .where(*_OPEN_HERE, _ANOTHER_BOOT, deliveries.c.due_wall > bindparam("after"))
    .order_by(deliveries.c.due_wall)
    .limit(1)
)
