"""Deliveries that wait for a fact because time alone settles them no more, and which facts end that."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, case, func, or_, select, text, update

from prober.clock import Instant
from prober.judge import BLIND_GRACE_SHARE, MIN_BLIND_GRACE
from prober.ledger.prepared import Prepared
from prober.ledger.tables import coverage, deliveries, steps

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
