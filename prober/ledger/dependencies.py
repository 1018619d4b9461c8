"""What the target said last about its dependencies; asked once a minute by all processes of a location together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Connection, Float, Integer, Row, Table, delete, or_, select, update

from prober.ledger.columns import String, metadata
from prober.ledger.dialect import insert, writes

ASK_EVERY = 60.0
"""Seconds between two questions after health: it is expensive for the target."""

dependencies = Table(
    "dependencies",
    metadata,
    Column("location", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),  # empty: the row of the asking itself
    Column("up", Integer),  # 1 up, 0 down, null unknown; of the asking: whether it was answered
    Column("at", Float(53), nullable=False),  # wall seconds
)
_ASKING = dependencies.c.name == ""


def claim_health(conn: Connection, location: str, wall: float) -> float:
    """Claim the next question after health: 0 when it is ours to ask, else the seconds until somebody may ask."""
    at = dependencies.c.at
    due = or_(at <= wall - ASK_EVERY, at > wall)  # a clock that was set back must not end the asking
    claim = insert(conn, dependencies).values(location=location, name="", up=None, at=wall)
    claim = claim.on_conflict_do_update(
        index_elements=["location", "name"], set_={"up": None, "at": wall}, where=due
    )  # fmt: skip
    if writes(conn, claim):
        return 0.0
    asked: float = conn.execute(select(at).where(dependencies.c.location == location, _ASKING)).scalar_one()
    return asked + ASK_EVERY - wall


def record_health(conn: Connection, location: str, wall: float, states: Mapping[str, bool | None] | None) -> None:
    """Put what the target said on record, in place of what it said before; None: it said nothing, so nothing is known
    of the dependencies that it had named."""
    here = dependencies.c.location == location
    conn.execute(update(dependencies).where(here, _ASKING).values(up=int(states is not None)))
    if states is None:
        conn.execute(update(dependencies).where(here, ~_ASKING).values(up=None, at=wall))
        return
    conn.execute(delete(dependencies).where(here, ~_ASKING))
    rows = [
        {"location": location, "name": name, "up": None if up is None else int(up), "at": wall}
        for name, up in states.items()
        if name
    ]
    if rows:
        conn.execute(dependencies.insert(), rows)


def dependency_rows(conn: Connection, location: str) -> tuple[Row[Any], ...]:
    """Every dependency's ``name``, ``up`` and ``at``, for readers: by name, without the row of the asking."""
    query = select(dependencies).where(dependencies.c.location == location, ~_ASKING).order_by(dependencies.c.name)
    return tuple(conn.execute(query).all())
