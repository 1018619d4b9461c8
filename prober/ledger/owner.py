"""Whose ledger this is: one environment's, whose probes no other environment may publish or settle."""

from __future__ import annotations

from sqlalchemy import Connection, select

from prober.errors import LedgerError
from prober.ledger.dialect import insert
from prober.ledger.tables import environment


def claim_ledger(conn: Connection, name: str) -> None:
    """Make the ledger this environment's, or see that it is. Raises LedgerError when it is another's."""
    conn.execute(insert(conn, environment).values(name=name).on_conflict_do_nothing())
    see_whose(conn, name)


def see_whose(conn: Connection, name: str) -> None:
    """See that the ledger is this environment's, or nobody's yet. Raises LedgerError when it is another's."""
    names = conn.execute(select(environment.c.name)).scalars().all()
    other = next((known for known in names if known != name), None)
    if other is not None:
        raise LedgerError(f"ledger: belongs to environment {other!r}, not {name!r}; give another --ledger")
