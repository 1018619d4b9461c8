"""The one thing in which the two databases differ for us: the upsert, and whether it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert(place: Connection | str, table: Table) -> sqlite.Insert:
    """An INSERT that knows ON CONFLICT, in the connection's (or named) dialect (both spell it alike)."""
    if (place if isinstance(place, str) else place.dialect.name) == "postgresql":
        return postgresql.insert(table)  # type: ignore[return-value]
    return sqlite.insert(table)


def writes(conn: Connection, statement: Insert, row: Mapping[str, Any] | None = None) -> bool:
    """Run an INSERT with ON CONFLICT; whether it wrote its row."""
    # SQLAlchemy keeps the count of an INSERT only where it is told to; psycopg has forgotten it afterwards (-1).
    return conn.execute(statement, row or {}, execution_options={"preserve_rowcount": True}).rowcount > 0
