"""The lock of whoever observes for one location: held by one short-lived process at a time, released by its death."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from prober.ledger.opening import engine_of, ledger_error, ledger_file, ledger_url

T = TypeVar("T")


class ObservingLock:
    """``flock`` on a file beside a SQLite ledger, a session's advisory lock on PostgreSQL.

    It saves work and narrows intervals: two that observe at once hinder each other by the cursor's compare-and-set,
    and spoil nothing.
    """

    def __init__(self, place: str, location: str) -> None:
        self._place = place
        self._digest = hashlib.sha256(f"observing\0{location}".encode()).digest()
        self._under_way = False
        self._file: int | None = None
        self._engine: Engine | None = None
        self._connection: Connection | None = None

    async def take(self) -> bool:
        """Take it, if nobody holds it. Raises LedgerError."""
        return await self._beside(self._take)

    async def release(self) -> None:
        """Let go of it; nothing happens where it is not held."""
        await self._beside(self._release)

    def busy(self) -> bool:
        """Whether a thread is at it: a manual clock must not move on meanwhile."""
        return self._under_way

    async def _beside(self, act: Callable[[], T]) -> T:
        self._under_way = True
        try:
            return await asyncio.to_thread(act)
        finally:
            self._under_way = False

    def _take(self) -> bool:
        url = ledger_url(self._place)
        path = ledger_file(url)
        try:
            return self._take_file(path) if path is not None else self._take_advisory(engine_of(url, writer=True))
        except (DBAPIError, OSError) as exc:
            self._release()
            raise ledger_error(exc, self._place) from exc

    def _take_file(self, ledger: Path) -> bool:
        path = ledger.with_name(f"{ledger.name}.observing-{self._digest.hex()[:8]}")
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        except OSError:
            os.close(file)
            raise
        self._file = file
        return True

    def _take_advisory(self, engine: Engine) -> bool:
        self._engine = engine
        # Outside a transaction: one that lay open for minutes would keep the database from cleaning up.
        self._connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        number = int.from_bytes(self._digest[:8], "big", signed=True)
        query = text("SELECT pg_try_advisory_lock(:number)")
        if self._connection.execute(query, {"number": number}).scalar_one():
            return True
        self._release()
        return False

    def _release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._connection is not None:
            self._connection.invalidate()  # a session that went back to a pool would hold it on
            self._connection.close()
            self._connection = None
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
