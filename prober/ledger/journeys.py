"""Stage settle: a probe's journey is counted once, in the transaction that settles its last delivery."""

from __future__ import annotations

from collections.abc import Set
from itertools import groupby

from sqlalchemy import Connection, bindparam, select

from prober.ledger.prepared import Prepared
from prober.ledger.tables import deliveries, probes
from prober.ledger.totals import Rise
from prober.model import Outcome, Timeliness
from prober.objectives import journey

# Of two transactions that each settle a delivery of one probe, the second must see what the first wrote.
_LOCK = (
    select(probes.c.id)
    .where(probes.c.id.in_(bindparam("probes", expanding=True)))
    .order_by(probes.c.id)
    .with_for_update()
)
_SETTLED = Prepared(
    select(
        deliveries.c.probe_id,
        deliveries.c.scenario,
        deliveries.c.kind,
        deliveries.c.open,
        deliveries.c.timeliness,
        deliveries.c.outcome,
    )
    .where(deliveries.c.probe_id.in_(bindparam("probes", expanding=True)))
    .order_by(deliveries.c.probe_id)
)


def count_journeys(conn: Connection, closed: Set[str], rise: Rise) -> tuple[str, ...]:
    """Count, and return, the probes of which a delivery was settled just now and none is open any more."""
    if not closed:
        return ()
    if conn.dialect.name == "postgresql":
        conn.execute(_LOCK, {"probes": sorted(closed)})
    rows = _SETTLED.all(conn, {"probes": sorted(closed)})
    unfinished = {row.probe_id for row in rows if row.open}
    for probe, mine in groupby(rows, key=lambda row: row.probe_id):
        if probe not in unfinished:
            first, *_ = settled = list(mine)
            result = journey((Timeliness(row.timeliness), Outcome(row.outcome)) for row in settled)
            labels = {"scenario": first.scenario, "kind": first.kind, "result": result.value}
            rise.count("journeys_total", labels)
    return tuple(sorted(closed - unfinished))
