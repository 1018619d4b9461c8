"""Prepared statements: the same as SQLAlchemy's own execution of them, in the transaction that goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, bindparam, or_, select, update
from sqlalchemy.exc import IntegrityError

from prober.ledger.dialect import insert
from prober.ledger.opening import open_for_writing
from prober.ledger.prepared import MOST_FORMS, Prepared, savepoint
from prober.ledger.tables import controls, totals
from tests.places import new_place

pytestmark = pytest.mark.usefixtures("each_database")

PUT = Prepared(totals.insert())
NAMED = Prepared(
    select(totals.c.name, totals.c.value.label("amount"))
    .where(
        totals.c.location == "here",
        or_(totals.c.name.in_(bindparam("names", expanding=True)), totals.c.name.in_(["always", "ever"])),
        totals.c.value > bindparam("over"),
    )
    .order_by(totals.c.name)
)


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[Connection]:
    engine = open_for_writing(new_place(tmp_path))
    with engine.connect() as opened:
        yield opened
    engine.dispose()


def row(name: str, value: float = 1) -> dict[str, object]:
    return {"location": "here", "name": name, "labels": "{}", "value": value}


def names(conn: Connection) -> list[str]:
    return list(conn.execute(select(totals.c.name).order_by(totals.c.name)).scalars())


def test_rows_are_those_of_sqlalchemy(conn: Connection) -> None:
    """Lists of every length, the statement's own values, labels: all as without preparation."""
    PUT.write_each(conn, [row("always"), row("b", 2.5), row("c", 3), row("other", 9)])
    for wanted in ([], ["b"], ["b", "c"], ["c", "nobody"], ["b"]):
        for over in (0.0, 2.5):
            about = {"names": wanted, "over": over}
            expected = [tuple(each) for each in conn.execute(NAMED.statement, about)]
            assert [(each.name, each.amount) for each in NAMED.all(conn, about)] == expected
            first = NAMED.first(conn, about)
            assert (None if first is None else tuple(first)) == (expected[0] if expected else None)
    many = [str(number) for number in range(MOST_FORMS + 5)]
    assert all(not NAMED.all(conn, {"names": many[:length], "over": 10.0}) for length in range(len(many)))


def test_a_value_that_is_not_given_is_an_error(conn: Connection) -> None:
    """Nothing is kept from an earlier use."""
    NAMED.all(conn, {"names": ["a"], "over": 1.0})
    with pytest.raises(Exception, match="over"):
        NAMED.all(conn, {"names": ["a"]})


def test_text_is_made_fit_for_every_database(conn: Connection) -> None:
    """NUL and halves of characters are replaced, here as everywhere."""
    PUT.write(conn, row("a\0b\ud800é"))
    assert names(conn) == ["a?b?é"]
    assert [each.name for each in NAMED.all(conn, {"names": ["x", "a\0b\ud800é"], "over": 0.0})] == ["a?b?é"]


def test_counts_say_what_was_written(conn: Connection) -> None:
    """Of an update how many rows, of an insert whether it wrote its own; each row gets its number."""
    put_once = Prepared(insert(conn, totals).on_conflict_do_nothing())
    assert [put_once.write(conn, row("a")), put_once.write(conn, row("a")), put_once.write(conn, row("b"))] == [1, 0, 1]
    double = Prepared(update(totals).where(totals.c.value >= bindparam("least")).values(value=totals.c.value * 2))
    assert [double.write(conn, {"least": 1.0}), double.write(conn, {"least": 3.0})] == [2, 0]
    put_once.write_each(conn, [])
    control = {"location": "here", "identity": "i", "channel": "c", "message_id": "m", "stamp_at": 1.0, "how": "",
               "stamp_resolution": 1.0, "stamp_source": "s"}  # fmt: skip
    put = Prepared(controls.insert())
    numbers = [put.insert(conn, control), put.insert(conn, {**control, "message_id": "n", "sent_wall": 5.0})]
    assert numbers == list(conn.execute(select(controls.c.id).order_by(controls.c.message_id)).scalars())
    assert list(conn.execute(select(controls.c.sent_wall).order_by(controls.c.message_id)).scalars()) == [None, 5.0]


def test_an_error_is_sqlalchemys(conn: Connection) -> None:
    """Whoever looks for the kind of an error finds it, and the savepoint takes back what its inside wrote, alone."""
    PUT.write(conn, row("a"))
    with pytest.raises(IntegrityError), savepoint(conn):
        PUT.write_each(conn, [row("b"), row("a")])
    with savepoint(conn):
        PUT.write(conn, row("c"))
    assert names(conn) == ["a", "c"]


def test_they_are_part_of_the_transaction(conn: Connection) -> None:
    """The first statement begins one, as any other does, and a rollback takes it back."""
    PUT.write(conn, row("a"))
    assert conn.in_transaction()
    conn.execute(totals.insert(), row("b"))
    PUT.write_each(conn, [row("c")])
    conn.rollback()
    assert names(conn) == []
    conn.rollback()
    with conn.begin():
        PUT.write(conn, row("d"))
    assert names(conn) == ["d"]
