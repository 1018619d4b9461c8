"""What is done to the world outside beside publishing: on record before it is asked for, and how it was answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from prober.ledger.audit_tables import acts
from prober.ledger.tables import steps


@dataclass(frozen=True, slots=True)
class Act:
    """One request that changes something outside. ``began`` and ``ended`` are wall seconds.

    ``place`` says where: a channel, an observer, the target, or method and URL. ``answer`` is '' while none is on
    record: then it may have been done or not.
    """

    kind: str
    place: str
    subject: str
    probe: str = ""
    by: str = ""
    began: float = 0.0
    ended: float | None = None
    answer: str = ""


def begin(conn: Connection, location: str, wanted: Sequence[Act]) -> tuple[int, ...]:
    """Put on record that these are about to be asked for; returns their numbers."""
    numbers = []
    for act in wanted:
        row = {"location": location, "kind": act.kind, "place": act.place[:400], "subject": act.subject[:1000],
               "probe_id": act.probe, "taken_by": act.by, "began": act.began, "answer": ""}  # fmt: skip
        inserted = conn.execute(acts.insert(), row).inserted_primary_key
        numbers.append(int(inserted[0]) if inserted else 0)
    return tuple(numbers)


def end(conn: Connection, answers: Mapping[int, str], now: float) -> None:
    """Put on record how they were answered."""
    for number, answer in answers.items():
        conn.execute(update(acts).where(acts.c.id == number).values(ended=now, answer=answer[:1000]))


def acts_between(conn: Connection, since: float, until: float) -> tuple[Act, ...]:
    """Everything that was asked of the world outside in a window of wall seconds, publishing too, oldest first."""
    taken = select(steps).where(steps.c.taken_wall >= since, steps.c.taken_wall < until)
    other = select(acts).where(acts.c.began >= since, acts.c.began < until)
    found = [*(_step(row) for row in conn.execute(taken).all()), *(_other(row) for row in conn.execute(other).all())]
    return tuple(sorted(found, key=lambda act: act.began))


def _other(row: Row[Any]) -> Act:
    return Act(row.kind, row.place, row.subject, row.probe_id, row.taken_by, row.began, row.ended, row.answer)


def _step(row: Row[Any]) -> Act:
    return Act(row.action, row.request or "target", row.recipient or row.publication_id, row.probe_id, row.taken_by,
               row.taken_wall, row.ended_wall, ", ".join(_said(row)))  # fmt: skip


def _said(row: Row[Any]) -> Iterator[str]:
    if row.result is None:
        return
    yield row.result
    if row.status is not None:
        yield f"HTTP {row.status}"
    if row.title:
        yield row.title
