"""Where a test's ledger lies: a file in its folder, or a database on the tests' PostgreSQL.

A test that shall run on both says ``@pytest.mark.usefixtures("each_database")``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_new: list[Callable[[], str]] = []
"""What makes an empty place other than a file, innermost last."""


def new_place(folder: Path, name: str = "ledger.sqlite") -> str:
    """An empty ledger's place in the database under test; ``name`` is the file's, where it is one."""
    return _new[-1]() if _new else str(folder / name)


@contextmanager
def places_from(make: Callable[[], str]) -> Iterator[None]:
    """Let every new place come from ``make``."""
    _new.append(make)
    try:
        yield
    finally:
        _new.pop()
