"""What is done to the world outside beside publishing: on record before it is asked for, and how it was answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, select, update

from prober.acts import Act, Acting, Acts
from prober.errors import LedgerError
from prober.ledger.audit_tables import acts
from prober.ledger.ledger import Ledger
from prober.ledger.tables import steps


def begin(conn: Connection, location: str, wanted: Sequence[Act]) -> tuple[int, ...]:
    """Put on record that these are about to be asked for; returns their numbers."""
    numbers = []
    for act in wanted:
        inserted = conn.execute(acts.insert(), _row(location, act)).inserted_primary_key
        numbers.append(int(inserted[0]) if inserted else 0)
    return tuple(numbers)


def record(conn: Connection, location: str, by: str, done: Sequence[Act]) -> None:
    """Put on record what a process has asked for, with its answers; of several in one the subject says the number."""
    for act in done:
        subject = act.subject if act.number == 1 else f"{act.number} times {act.subject}"
        row = _row(location, replace(act, subject=subject, by=by)) | {"ended": act.ended, "answer": act.answer[:1000]}
        conn.execute(acts.insert(), row)


async def record_acts(ledger: Ledger, location: str, by: str, who: Iterable[object], *, whole: bool = False) -> None:
    """Put on record what these did of their own accord; ``whole``: nothing is gathered on.

    Raises LedgerError; it is then tried again.
    """
    for each in who:
        if isinstance(each, Acting) and (done := each.acts.take(whole=whole)):
            # Whoever waits for it may be stopped, and nobody else knows of these any more.
            await asyncio.shield(_record_or_keep(ledger, location, by, each.acts, done))


async def _record_or_keep(ledger: Ledger, location: str, by: str, kept: Acts, done: Sequence[Act]) -> None:
    try:
        await ledger.write(record, location, by, done)
    except LedgerError:
        kept.add(done)
        raise


def _row(location: str, act: Act) -> dict[str, Any]:
    return {"location": location, "kind": act.kind, "place": act.place[:400], "subject": act.subject[:1000],
            "probe_id": act.probe, "taken_by": act.by, "began": act.began, "answer": ""}  # fmt: skip


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
