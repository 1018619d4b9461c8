"""What the tables' columns are made of: text that every database takes, and instants."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlalchemy import Column, Dialect, Float, MetaData, TypeDecorator

from prober.clock import Instant

metadata = MetaData()


def is_fit(value: str) -> bool:
    """Whether every database takes the text, as far as that can be told at once."""
    return value.isascii() and "\0" not in value


def fit(value: str) -> str:
    """The text with NUL and halves of characters replaced, which not every database takes."""
    return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


class String(TypeDecorator[str]):
    """Text that every database takes.

    What not every one does may stand in what strangers wrote, and would else fail every transaction that the message
    is part of.
    """

    impl = sqlalchemy.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return value if value is None or is_fit(value) else fit(value)


class Text(String):
    """The same without a bound."""

    impl = sqlalchemy.Text
    cache_ok = True


def instant_columns(name: str) -> tuple[Column[Any], ...]:
    """The three columns of one instant."""
    return (
        Column(f"{name}_wall", Float(53)),
        Column(f"{name}_boottime", Float(53)),
        Column(f"{name}_boot_id", String(16)),
    )


def instant_values(name: str, instant: Instant | None) -> dict[str, float | str | None]:
    """An instant as the values of its three columns."""
    if instant is None:
        return {f"{name}_wall": None, f"{name}_boottime": None, f"{name}_boot_id": None}
    return {
        f"{name}_wall": instant.wall,
        f"{name}_boottime": instant.boottime,
        f"{name}_boot_id": instant.boot_id,
    }


def instant_of(row: Any, name: str) -> Instant | None:
    """The instant in a row's three columns, None when it is not on record."""
    wall = getattr(row, f"{name}_wall")
    if wall is None:
        return None
    return Instant(wall, getattr(row, f"{name}_boottime"), getattr(row, f"{name}_boot_id"))
