"""The probes whose traces are to be exported: put down as they are settled, taken off once a collector has them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, delete, func, select, update

from prober.ledger.audit_tables import untraced
from prober.ledger.dialect import insert

MOST_PASS = 50
"""Probes that one request to a collector carries at the most."""

MOST, LONGEST = 10_000, 86_400.0
"""Probes that wait for a collector at the most, and the seconds for which one does."""

LEASE = 60.0
"""Seconds for which a process may be at it: then another may try, which sends the same ids again."""

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0


def queue(conn: Connection, location: str, probes: Collection[str], now: float) -> None:
    """Let the traces of these settled probes be exported; once is enough."""
    rows = [{"probe_id": probe, "location": location, "settled": now, "due": now, "attempts": 0} for probe in probes]
    if rows:
        conn.execute(insert(conn, untraced).on_conflict_do_nothing(), rows)


def claim(conn: Connection, location: str, now: float) -> tuple[str, ...]:
    """The probes whose traces this process is to export now, and no other while the lease lasts."""
    due = (
        select(untraced.c.probe_id)
        .where(untraced.c.location == location, untraced.c.due <= now)
        .order_by(untraced.c.due, untraced.c.probe_id)
        .limit(MOST_PASS)
    )
    names = conn.execute(due).scalars().all()
    if not names:
        return ()
    # Replicas may choose the same: each is had by the one whose update finds it due.
    mine = update(untraced).where(untraced.c.probe_id.in_(names), untraced.c.due <= now).values(due=now + LEASE)
    return tuple(conn.execute(mine.returning(untraced.c.probe_id)).scalars())


def exported(conn: Connection, probes: Sequence[str]) -> None:
    """A collector has them."""
    conn.execute(delete(untraced).where(untraced.c.probe_id.in_(probes)))


def put_off(conn: Connection, location: str, probes: Sequence[str], now: float) -> int:
    """None has taken them: to be tried again later. Returns how many are given up, as too old or too many."""
    for attempts, names in _by_attempts(conn, probes).items():
        pause = min(FIRST_PAUSE * 2.0 ** min(attempts, 16), LONGEST_PAUSE)
        values = {"due": now + pause, "attempts": attempts + 1}
        conn.execute(update(untraced).where(untraced.c.probe_id.in_(names)).values(values))
    here = untraced.c.location == location
    gone = conn.execute(delete(untraced).where(here, untraced.c.settled < now - LONGEST)).rowcount
    beyond = conn.execute(select(func.count()).select_from(untraced).where(here)).scalar_one() - MOST
    if beyond > 0:
        oldest = select(untraced.c.probe_id).where(here).order_by(untraced.c.settled).limit(beyond)
        gone += conn.execute(delete(untraced).where(untraced.c.probe_id.in_(oldest))).rowcount
    return gone


def next_due(conn: Connection, location: str) -> float | None:
    """When the next is to be tried, in wall seconds; None while nothing waits."""
    due = conn.execute(select(func.min(untraced.c.due)).where(untraced.c.location == location)).scalar_one()
    return None if due is None else float(due)


def _by_attempts(conn: Connection, probes: Sequence[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    rows = conn.execute(select(untraced.c.probe_id, untraced.c.attempts).where(untraced.c.probe_id.in_(probes)))
    for row in rows.all():
        found.setdefault(row.attempts, []).append(row.probe_id)
    return found
