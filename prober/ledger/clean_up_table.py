"""The table of what is swept: a part of :mod:`prober.ledger.tables`, whose metadata it joins."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Integer, Table, UniqueConstraint, text

from prober.ledger.columns import String, metadata

clean_ups = Table(
    "clean_ups",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("location", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # publication, message, leftover, control
    Column("identity", String(400), nullable=False),  # the channel's; empty for a publication
    Column("channel", String(64), nullable=False),
    Column("subject", String(300), nullable=False),  # the message's or the publication's id
    Column("probe_id", String(32), nullable=False, index=True),  # empty for what the ledger knows nothing of
    Column("due", Float(53), nullable=False),  # wall seconds, of the next attempt
    Column("attempts", Integer, nullable=False),
    Column("result", String(16), nullable=False),  # empty until it has ended
    Column("ended", Float(53)),
    UniqueConstraint("location", "identity", "subject", name="clean_up_identity"),
)
Index(
    "clean_ups_open",
    clean_ups.c.location,
    clean_ups.c.due,
    sqlite_where=text("result = ''"),
    postgresql_where=text("result = ''"),
)
