"""Leases: which replica observes through which account. Each change of hands raises the epoch, which fences the old."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Integer, Table, bindparam, select, update

from prober.errors import LedgerError
from prober.ledger.columns import String, metadata
from prober.ledger.dialect import insert, writes
from prober.ledger.prepared import Prepared

leases = Table(
    "leases",
    metadata,
    Column("location", String(64), primary_key=True),
    Column("observer", String(64), primary_key=True),
    Column("holder", String(80), nullable=False),  # the process; empty: it let go
    Column("host", String(253), nullable=False),  # the machine's or the pod's name, for people
    Column("epoch", Integer, nullable=False),  # raised with each change of hands, never lowered
    Column("beat", Integer, nullable=False),  # raised by the holder again and again
)


class LeaseLost(LedgerError):
    """Another replica observes through this account now: what this one still saw is not put on record."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds an observer ('' : nobody any more), on which host, and how far its epoch and beat have come."""

    holder: str
    host: str
    epoch: int
    beat: int


@dataclass(frozen=True, slots=True)
class Replica:
    """One process among those that share a ledger: its name among processes, and its host's."""

    name: str
    host: str


def leases_of(conn: Connection, location: str) -> dict[str, Lease]:
    """Every lease of a location, by observer."""
    rows = conn.execute(select(leases).where(leases.c.location == location)).all()
    return {row.observer: Lease(row.holder, row.host, row.epoch, row.beat) for row in rows}


def keep_leases(
    conn: Connection, location: str, me: Replica, held: Mapping[str, int], wanted: Mapping[str, Lease | None]
) -> dict[str, int]:
    """Beat once for each lease of ours, and take those that are ``wanted``; returns what we hold now, by its epoch.

    ``held`` are epochs by observer. A wanted lease is taken only as it was seen: None where there was none.
    """
    kept = {name: epoch for name, epoch in held.items() if _beat(conn, location, name, epoch)}
    taken = {
        name: seen.epoch + 1 if seen else 1 for name, seen in wanted.items() if _take(conn, location, me, name, seen)
    }
    return {**kept, **taken}


def let_go(conn: Connection, location: str, held: Mapping[str, int]) -> None:
    """Let others take these leases at once; what was lost meanwhile stays with whoever has it."""
    for name, epoch in held.items():
        conn.execute(_ONE.values(holder=""), _about(location, name, epoch))


def see_held(conn: Connection, location: str, observer: str, epoch: int) -> None:
    """See that the lease is still of this epoch, in the transaction that rests on it. Raises LeaseLost."""
    row = _EPOCH.first(conn, {"here": location, "name": observer})
    if row is None or row.epoch != epoch:
        raise LeaseLost(f"observer {observer}: another replica has taken it over")


_EPOCH = Prepared(
    select(leases.c.epoch).where(leases.c.location == bindparam("here"), leases.c.observer == bindparam("name"))
)
_ONE = update(leases).where(
    leases.c.location == bindparam("here"), leases.c.observer == bindparam("name"), leases.c.epoch == bindparam("then")
)
_BEAT = _ONE.values(beat=leases.c.beat + 1)


def _about(location: str, observer: str, epoch: int) -> dict[str, str | int]:
    return {"here": location, "name": observer, "then": epoch}


def _beat(conn: Connection, location: str, observer: str, epoch: int) -> bool:
    return conn.execute(_BEAT, _about(location, observer, epoch)).rowcount > 0


def _take(conn: Connection, location: str, me: Replica, observer: str, seen: Lease | None) -> bool:
    mine = {"holder": me.name, "host": me.host}
    if seen is None:
        row = {"location": location, "observer": observer, "epoch": 1, "beat": 0, **mine}
        return writes(conn, insert(conn, leases).values(row).on_conflict_do_nothing())
    as_seen = _ONE.where(leases.c.holder == seen.holder, leases.c.beat == seen.beat)
    raised = as_seen.values(epoch=seen.epoch + 1, **mine)
    return conn.execute(raised, _about(location, observer, seen.epoch)).rowcount > 0
