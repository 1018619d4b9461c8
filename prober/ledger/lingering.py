"""What a short-lived process asks of the ledger: how long it is worth to stay, and what it has come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, or_, select, text

from prober.clock import Instant
from prober.ledger.settling import Told
from prober.ledger.tables import coverage, deliveries, instant_of, observers, steps
from prober.model import StepState

_OPEN = text("deliveries.open = 1")


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is open: how many deliveries, and the seconds until the last deadline among them (0: all are past)."""

    deliveries: int
    deadline: float


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Verdicts by word: those about time and those about the outcome."""

    timeliness: Counter[str] = field(default_factory=Counter)
    outcome: Counter[str] = field(default_factory=Counter)

    @property
    def ambiguous(self) -> float | None:
        """The ambiguous share of what could be measured against a deadline, None where nothing could."""
        measured = sum(self.timeliness[name] for name in ("on_time", "overdue", "early", "ambiguous"))
        return self.timeliness["ambiguous"] / measured if measured else None

    def add(self, told: Iterable[Told]) -> None:
        """Count what was settled."""
        for one in told:
            (self.timeliness if one.question == "timeliness" else self.outcome)[one.verdict.value] += 1


def ahead(conn: Connection, location: str, now: Instant) -> Ahead:
    """See :class:`Ahead`."""
    rows = conn.execute(select(deliveries).where(deliveries.c.location == location, _OPEN)).all()
    deadline = 0.0
    for row in rows:
        if row.timeliness is not None:
            continue
        due = instant_of(row, "due")
        scheduled = 0.0 if row.scheduled_time is None else max(0.0, row.scheduled_time - now.wall)
        deadline = max(deadline, due.since(now) if due is not None else scheduled + row.within)
    return Ahead(len(rows), deadline)


def under_way(conn: Connection, probes: Collection[str]) -> bool:
    """Whether a step of these probes is not at its end."""
    unfinished = (StepState.PLANNED.value, StepState.TAKEN.value)
    query = select(steps.c.probe_id).where(steps.c.probe_id.in_(probes), steps.c.state.in_(unfinished))
    return conn.execute(query.limit(1)).first() is not None


def publish_results(conn: Connection, probes: Collection[str]) -> Counter[str]:
    """How the publications of these probes ended; ``open`` where one has not."""
    query = select(steps.c.result, func.count().label("number")).where(
        steps.c.probe_id.in_(probes), steps.c.number == 0
    )
    return Counter({row.result or "open": int(row.number) for row in conn.execute(query.group_by(steps.c.result))})


def all_covered(conn: Connection, location: str, identities: Set[str]) -> bool:
    """Whether each of these channels has been read completely at least once."""
    query = select(coverage.c.identity).where(coverage.c.location == location, coverage.c.since_wall.is_not(None))
    return identities <= set(conn.execute(query).scalars())


def all_looked(conn: Connection, location: str, channels: Mapping[str, Set[str]]) -> bool:
    """Whether each of these observers has read all its channels (by identity) once, or has failed to."""
    here = or_(coverage.c.since_wall.is_not(None), coverage.c.blind_reason != "")
    looked_at = set(conn.execute(select(coverage.c.identity).where(coverage.c.location == location, here)).scalars())
    failed = (observers.c.location == location, observers.c.blind_reason != "")
    blind = set(conn.execute(select(observers.c.name).where(*failed)).scalars())
    return all(name in blind or identities <= looked_at for name, identities in channels.items())
