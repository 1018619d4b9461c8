"""Statements that run for every probe.

On SQLite they are compiled once and then handed to the driver itself: SQLAlchemy's own execution of a statement costs
ten times what the database takes for it. PostgreSQL's go the ordinary way.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import BindParameter, Connection, Delete, Insert, Select, Table, Update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import visitors

from prober.ledger.columns import fit, is_fit
from prober.ledger.dialect import insert, writes

MOST_FORMS = 200
"""Forms of one statement that are kept: one for each number of values in its lists."""

About = Mapping[str, Any]

_NOTHING: About = {}


class Prepared:
    """A statement with the names that it is run with."""

    def __init__(self, statement: Select[Any] | Insert | Update | Delete) -> None:
        self.statement = statement
        self._forms: dict[tuple[Any, ...], _Form] = {}
        self._lists = [
            each.key for each in visitors.iterate(statement) if isinstance(each, BindParameter) and each.expanding
        ]

    def all(self, conn: Connection, about: About = _NOTHING) -> Sequence[Any]:
        """The rows, with their columns as attributes."""
        if conn.dialect.name != "sqlite":
            return conn.execute(self.statement, about).all()
        form = self._form(conn, about)
        return [form.row(*values) for values in _run(conn, form.sql, form.values(about)).fetchall()]

    def first(self, conn: Connection, about: About = _NOTHING) -> Any:
        """The first row, None where there is none."""
        return next(iter(self.all(conn, about)), None)

    def write(self, conn: Connection, about: About = _NOTHING) -> int:
        """How many rows it wrote."""
        if conn.dialect.name != "sqlite":
            if isinstance(self.statement, Insert):
                return int(writes(conn, self.statement, about))
            return conn.execute(self.statement, about).rowcount
        form = self._form(conn, about)
        return _run(conn, form.sql, form.values(about)).rowcount

    def write_each(self, conn: Connection, rows: Sequence[About]) -> None:
        """Run it with each of the rows, which all have the same names."""
        if not rows:
            return
        if conn.dialect.name != "sqlite":
            conn.execute(self.statement, rows)
            return
        form = self._form(conn, rows[0])
        _run(conn, form.sql, [form.values(row) for row in rows], many=True)

    def insert(self, conn: Connection, row: About) -> int:
        """Insert a row; returns the number that it got."""
        if conn.dialect.name != "sqlite":
            made = conn.execute(self.statement, row).inserted_primary_key
            return int(made[0]) if made else 0
        form = self._form(conn, row)
        return _run(conn, form.sql, form.values(row)).lastrowid or 0

    def _form(self, conn: Connection, about: About) -> _Form:
        key: tuple[Any, ...]
        if isinstance(self.statement, Insert):
            key = tuple(about)
        else:
            key = tuple([len(about[name]) for name in self._lists if name in about])
        form = self._forms.get(key)
        if form is None:
            if len(self._forms) >= MOST_FORMS:
                self._forms.clear()
            form = self._forms[key] = _Form(conn, self.statement, about)
        return form


@cache
def insert_new(dialect: str, table: Table) -> Prepared:
    """An INSERT that leaves alone what is there already."""
    return Prepared(insert(dialect, table).on_conflict_do_nothing())


class _Form:
    """The text of a statement, and what it makes of the values that it is run with."""

    def __init__(self, conn: Connection, statement: Any, about: About) -> None:
        names = list(about) if isinstance(statement, Insert) else None
        compiled = statement.compile(dialect=conn.dialect, column_keys=names)
        state = compiled.construct_expanded_state(about)
        self.sql = state.statement
        self.row = _row_of(statement)
        parts = {
            part: (name, number)
            for name, parts in state.parameter_expansion.items()
            for number, part in enumerate(parts)
        }
        places = state.positiontup or []
        self._parts = {part: (name, number) for part, (name, number) in parts.items() if name in about}
        self._own = {place: state.parameters[place] for place in places if place not in {*about, *self._parts}}
        self._pick = _picker(places)

    def values(self, about: About) -> tuple[Any, ...]:
        """The values in the order in which the text asks for them."""
        if self._parts or self._own:
            parts = {part: about[name][number] for part, (name, number) in self._parts.items()}
            about = {**self._own, **parts, **about}
        values = self._pick(about)
        if is_fit("".join([value for value in values if value.__class__ is str])):  # all at once: it is rarely not
            return values
        return tuple(fit(value) if isinstance(value, str) else value for value in values)


def _picker(places: Sequence[str]) -> Callable[[About], tuple[Any, ...]]:
    if len(places) > 1:
        return itemgetter(*places)
    return lambda about: tuple(about[place] for place in places)


def _row_of(statement: object) -> Callable[..., Any]:
    return namedtuple("Row", statement.selected_columns.keys()) if isinstance(statement, Select) else tuple


@contextmanager
def savepoint(conn: Connection) -> Generator[None]:
    """What is written inside stays only where nothing is raised."""
    if conn.dialect.name != "sqlite":
        with conn.begin_nested():
            yield
        return
    _run(conn, "SAVEPOINT job")
    try:
        yield
    except BaseException:
        _run(conn, "ROLLBACK TO job")
        _run(conn, "RELEASE job")
        raise
    _run(conn, "RELEASE job")


def _run(conn: Connection, sql: str, values: Sequence[Any] = (), *, many: bool = False) -> sqlite3.Cursor:
    if not conn.in_transaction():
        conn.begin()
    raw = conn.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)  # noqa: S101 - by its dialect
    try:
        return raw.executemany(sql, values) if many else raw.execute(sql, values)
    except sqlite3.Error as exc:
        raise DBAPIError.instance(sql, None, exc, sqlite3.Error, hide_parameters=True, dialect=conn.dialect) from exc
