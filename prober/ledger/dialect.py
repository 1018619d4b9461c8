"""The one thing in which the two databases differ for us: the word for an upsert."""

from __future__ import annotations

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert(place: Connection | str, table: Table) -> sqlite.Insert:
    """An INSERT that knows ON CONFLICT, in the connection's (or named) dialect (both spell it alike)."""
    if (place if isinstance(place, str) else place.dialect.name) == "postgresql":
        return postgresql.insert(table)  # type: ignore[return-value]
    return sqlite.insert(table)
