"""What the objectives have come to, from the totals by the hour."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, func, select

from prober.ledger.tables import totals_hourly
from prober.objectives import Counts, Objective, add_up


def objective_counts(
    conn: Connection, location: str, objectives: Sequence[Objective], kinds: Mapping[str, str], now: float
) -> dict[str, Counts]:
    """The counts of each objective over its window, all channels together; ``kinds`` says the kind of each scenario.

    The window begins with a whole hour.
    """
    return {objective.name: _counts(conn, location, objective, kinds, now) for objective in objectives}


def _counts(conn: Connection, location: str, objective: Objective, kinds: Mapping[str, str], now: float) -> Counts:
    query = (
        select(totals_hourly.c.name, totals_hourly.c.labels, func.sum(totals_hourly.c.value).label("amount"))
        .where(
            totals_hourly.c.location == location,
            totals_hourly.c.hour >= int((now - objective.window) // 3600),
            totals_hourly.c.name.in_({use.name for use in objective.uses}),
        )
        .group_by(totals_hourly.c.name, totals_hourly.c.labels)
    )
    series = ((row.name, json.loads(row.labels), float(row.amount)) for row in conn.execute(query))
    found = add_up(objective, series, kinds)
    return Counts(
        **{name: sum(getattr(counts, name) for counts in found.values()) for name in ("good", "bad", "unsure", "void")}
    )
