"""Counters and histogram buckets as rows: raised with the fact, never recomputed, never pruned."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from sqlalchemy import Connection, Table

from prober.bounds import bound_text
from prober.ledger.dialect import insert
from prober.ledger.prepared import Prepared
from prober.ledger.tables import exemplars, moments, totals, totals_hourly

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Exemplar:
    """The probe that an observation comes from."""

    probe: str
    trace_id: str


class Rise:
    """What one transaction adds to the totals."""

    def __init__(self) -> None:
        self.amounts: Counter[tuple[str, Labels]] = Counter()
        self.exemplars: dict[tuple[str, Labels], tuple[Exemplar, float]] = {}
        self.moments: set[tuple[str, Labels]] = set()

    def count(self, name: str, labels: Mapping[str, str], amount: float = 1) -> None:
        """Raise a counter."""
        self.amounts[name, tuple(sorted(labels.items()))] += amount  # type: ignore[assignment]

    def observe(
        self,
        name: str,
        labels: Mapping[str, str],
        value: float,
        bounds: Iterable[float],
        exemplar: Exemplar | None = None,
    ) -> None:
        """Raise the one bucket into which ``value`` falls, and the sum and count. Buckets are not cumulative here."""
        bucket = min((bound for bound in bounds if value <= bound), default=float("inf"))
        self.observe_in(name, labels, value, bucket, exemplar)

    def observe_in(
        self, name: str, labels: Mapping[str, str], value: float, bucket: float, exemplar: Exemplar | None = None
    ) -> None:
        """The same with the bucket given: a lost delivery adds its give-up to the sum but lies in +Inf."""
        within = {**labels, "le": bound_text(bucket)}
        self.count(f"{name}_bucket", within)
        self.count(f"{name}_sum", labels, value)
        self.count(f"{name}_count", labels)
        if exemplar is not None:
            self.exemplars[f"{name}_bucket", tuple(sorted(within.items()))] = (exemplar, value)

    def happened(self, name: str, labels: Mapping[str, str]) -> None:
        """Note that something of this kind happened now."""
        self.moments.add((name, tuple(sorted(labels.items()))))


def labels_text(labels: str, name: str) -> str:
    """The value of one label of a row of the totals."""
    return str(json.loads(labels).get(name, ""))


def raise_totals(conn: Connection, location: str, wall: float, rise: Rise) -> None:
    """Add to the totals and to the row of the present hour, in the caller's transaction."""
    if not rise.amounts:
        return
    rows = [
        {"location": location, "name": name, "labels": canonical(labels), "value": amount}
        for (name, labels), amount in sorted(rise.amounts.items())
    ]
    hour = int(wall // 3600)
    _upsert(conn.dialect.name, totals).write_each(conn, rows)
    _upsert(conn.dialect.name, totals_hourly).write_each(conn, [{**row, "hour": hour} for row in rows])
    if rise.exemplars:
        shown = [
            {"location": location, "name": name, "labels": canonical(labels), "probe_id": exemplar.probe,
             "trace_id": exemplar.trace_id, "value": value, "at": wall}
            for (name, labels), (exemplar, value) in sorted(rise.exemplars.items())
        ]  # fmt: skip
        _replace(conn.dialect.name, exemplars, ("probe_id", "trace_id", "value", "at")).write_each(conn, shown)
    if rise.moments:
        latest = [
            {"location": location, "name": name, "labels": canonical(labels), "at": wall}
            for name, labels in sorted(rise.moments)
        ]
        _replace(conn.dialect.name, moments, ("at",)).write_each(conn, latest)


@lru_cache(maxsize=10_000)
def canonical(labels: Labels) -> str:
    """Labels, sorted by name, as the text that names their row."""
    return json.dumps(dict(labels), separators=(",", ":"))


@cache
def _upsert(dialect: str, table: Table) -> Prepared:
    statement = insert(dialect, table)
    return Prepared(
        statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={"value": table.c.value + statement.excluded.value},
        )
    )


@cache
def _replace(dialect: str, table: Table, columns: tuple[str, ...]) -> Prepared:
    statement = insert(dialect, table)
    return Prepared(
        statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={name: statement.excluded[name] for name in columns},
        )
    )
