"""Every query of the stages uses an index and is bounded by what is open or changed, never by history."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from prober.errors import Unreadable
from prober.ledger import awaiting, observing, publishing
from prober.ledger.opening import open_for_writing
from prober.model import Key, KeyKind, Waypoint
from tests.flow.rig import LOCATION
from tests.flow.test_review_ledger import ID, MAIL, OTHER, START, Book, letter

GROWING = "probes|steps|deliveries|sightings|keys|waypoints|totals_hourly"
BY_HISTORY = re.compile(rf"SCAN ({GROWING})\b|SEARCH ({GROWING})\b.*\(location=\?\)$")
"""A walk through a table that grows for ever, or through a location's whole share of it."""

BOUNDED = {"deliveries_dirty", "deliveries_due", "deliveries_overdue", "deliveries_awaited", "steps_unfinished",
           "deliveries_open_identity"}  # fmt: skip
"""Partial indexes: they hold only what is open, so that even their location's whole share is bounded by it."""


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    engine = open_for_writing(str(tmp_path / "ledger.sqlite"))
    yield Book(engine)
    engine.dispose()


def live(book: Book) -> None:
    """A probe's whole life, and everything else that the stages ask of the ledger."""
    book.read(at=-1)
    probe = book.plan(MAIL, OTHER, send=True)
    (create,) = book.claim(0)
    book.see(letter(ID, 1, id="INBOX/1.8", fingerprint="eight"), at=1)
    book.answer(create, 0, learned=(Key(KeyKind.PUBLICATION_ID, ID),))
    book.claim(1)
    book.read(letter(probe.publication.marker, 2), at=2)
    book.see(letter("11111111-2222-4333-8444-555555555555", 3, id="INBOX/1.9"), at=3)
    book.settle(3)
    with book.engine.begin() as conn:
        awaiting.awaited(conn, LOCATION, "mailbox", START.plus(1), START.plus(3))
        observing.expire_candidates(conn, LOCATION, START.plus(3))
        observing.record_unreadable(conn, LOCATION, "mailbox", Unreadable("unreachable"), START.plus(3))
        publishing.record_claims(conn, probe.id, (Waypoint("sent", START.wall, "target"),))
        publishing.publication_id_of(conn, probe.id)
        publishing.record_interrupted(conn, LOCATION, START.plus(4), lambda _name, _taken: False)
    book.read(at=200)
    book.settle(200)


def test_no_query_of_a_stage_grows_with_history(book: Book) -> None:
    """Not one statement in a probe's life walks through a table that is never pruned."""
    asked: dict[str, str] = {}

    def note(statement: str) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            asked.setdefault(re.sub(r"'[^']*'|[0-9.]+", "?", statement), statement)

    def listen(raw: sqlite3.Connection, _record: object) -> None:
        raw.set_trace_callback(note)  # what SQLite itself is given, by whatever way

    event.listen(book.engine, "connect", listen)
    live(book)
    event.remove(book.engine, "connect", listen)
    assert len(asked) > 35
    by_history = []
    with book.engine.begin() as conn:
        for statement in asked.values():
            plan = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
            for line in (str(row[3]) for row in plan):
                if BY_HISTORY.search(line) and not any(f" {index} " in line for index in BOUNDED):
                    by_history.append((line, statement))
    assert by_history == []
