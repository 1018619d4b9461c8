"""Counters and histogram buckets as rows: raised with the fact, never recomputed, never pruned."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache

from sqlalchemy import Connection, Table
from sqlalchemy.dialects.sqlite import Insert

from prober.bounds import bound_text
from prober.ledger.dialect import insert
from prober.ledger.tables import totals, totals_hourly

Labels = tuple[tuple[str, str], ...]


class Rise:
    """What one transaction adds to the totals."""

    def __init__(self) -> None:
        self.amounts: Counter[tuple[str, Labels]] = Counter()

    def count(self, name: str, labels: Mapping[str, str], amount: float = 1) -> None:
        """Raise a counter."""
        self.amounts[name, tuple(sorted(labels.items()))] += amount  # type: ignore[assignment]

    def observe(self, name: str, labels: Mapping[str, str], value: float, bounds: Iterable[float]) -> None:
        """Raise the one bucket into which ``value`` falls, and the sum and count. Buckets are not cumulative here."""
        bucket = min((bound for bound in bounds if value <= bound), default=float("inf"))
        self.observe_in(name, labels, value, bucket)

    def observe_in(self, name: str, labels: Mapping[str, str], value: float, bucket: float) -> None:
        """The same with the bucket given: a lost delivery adds its give-up to the sum but lies in +Inf."""
        self.count(f"{name}_bucket", {**labels, "le": bound_text(bucket)})
        self.count(f"{name}_sum", labels, value)
        self.count(f"{name}_count", labels)


def labels_text(labels: str, name: str) -> str:
    """The value of one label of a row of the totals."""
    return str(json.loads(labels).get(name, ""))


def raise_totals(conn: Connection, location: str, wall: float, rise: Rise) -> None:
    """Add to the totals and to the row of the present hour, in the caller's transaction."""
    if not rise.amounts:
        return
    rows = [
        {"location": location, "name": name, "labels": json.dumps(dict(labels), separators=(",", ":")), "value": amount}
        for (name, labels), amount in sorted(rise.amounts.items())
    ]
    _add(conn, totals, rows)
    _add(conn, totals_hourly, [{**row, "hour": int(wall // 3600)} for row in rows])


def _add(conn: Connection, table: Table, rows: list[dict[str, object]]) -> None:
    conn.execute(_upsert(conn.dialect.name, table), rows)


@cache
def _upsert(dialect: str, table: Table) -> Insert:
    statement = insert(dialect, table)
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={"value": table.c.value + statement.excluded.value},
    )
