"""The tables of acts on the world outside, and of traces to be exported: a part of :mod:`prober.ledger.tables`."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Index, Integer, Table

from prober.ledger.columns import String, Text, metadata

acts = Table(
    "acts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("location", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # withdraw, remove, control, ...
    Column("place", String(400), nullable=False),  # whose object it is: the target, or a channel
    Column("subject", Text, nullable=False),  # what it is done to
    Column("probe_id", String(32), nullable=False),  # empty where it is no probe's
    Column("taken_by", String(80), nullable=False),  # the process
    Column("began", Float(53), nullable=False),  # wall seconds
    Column("ended", Float(53)),
    Column("answer", Text, nullable=False),  # empty until it has ended
)
Index("acts_by_time", acts.c.location, acts.c.began)
Index("acts_of_probe", acts.c.probe_id)

untraced = Table(
    "untraced",
    metadata,
    Column("probe_id", ForeignKey("probes.id"), primary_key=True),
    Column("location", String(64), nullable=False),
    Column("settled", Float(53), nullable=False),  # wall seconds
    Column("due", Float(53), nullable=False),  # of the next attempt
    Column("attempts", Integer, nullable=False),
)
Index("untraced_due", untraced.c.location, untraced.c.due)
