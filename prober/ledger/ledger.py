"""The ledger's one writer thread and its reader: what is ready goes in one durable transaction."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from prober.errors import LedgerError, LedgerReadOnly
from prober.ledger.opening import (
    ledger_error,
    ledger_file,
    ledger_url,
    open_for_reading,
    open_for_writing,
    shown,
)
from prober.ledger.prepared import savepoint

P = ParamSpec("P")
T = TypeVar("T")

MAX_BATCH = 256
"""Jobs that one transaction takes at the most."""


@dataclass(frozen=True, slots=True)
class _Job:
    name: str
    run: Callable[[Connection], Any]
    done: Future[Any]


class Ledger:
    """Runs functions of a connection: writes one after another off the loop, reads beside them.

    ``boundary(phase, names)`` is called in the writer thread just ``before`` and just ``after`` each commit with the
    names of the functions in it; tests end the process there. One that is ``read_only`` is neither made nor migrated.
    """

    def __init__(
        self,
        place: str,
        boundary: Callable[[str, tuple[str, ...]], None] | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        self.place = place
        self._read_only = read_only
        self._boundary = boundary or (lambda _phase, _names: None)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="ledger-read")
        self._writer = threading.Thread(target=self._write_for_ever, name="ledger-write", daemon=True)
        self._counting = threading.Lock()
        self._under_way = 0
        self._write_engine: Engine | None = None
        self._read_engine: Engine | None = None
        self._read_connection: Connection | None = None
        self._write_connection: Connection | None = None

    async def __aenter__(self) -> Self:
        """Open and migrate. Raises LedgerError."""
        if not self._read_only:
            self._write_engine = await asyncio.to_thread(open_for_writing, self.place)
        self._read_engine = await asyncio.to_thread(open_for_reading, self.place)
        if not self._read_only:
            self._writer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._read_only:
            self._jobs.put(None)
            await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.submit(self._close_reader).result)
        self._readers.shutdown()
        for engine in (self._write_engine, self._read_engine):
            if engine is not None:
                engine.dispose()

    async def write(self, act: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``act`` in a write transaction; return once it is durable. Raises LedgerError, nothing is then kept."""
        if self._read_only:
            raise LedgerReadOnly(f"ledger {shown(self.place)}: is only read here")
        job = _Job(act.__name__, lambda conn: act(conn, *args, **kwargs), Future())
        self._enter(1)
        job.done.add_done_callback(lambda _future: self._enter(-1))
        self._jobs.put(job)
        return cast(T, await asyncio.wrap_future(job.done))

    async def read(self, act: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``act`` in a read transaction. Raises LedgerError."""
        self._enter(1)
        future = self._readers.submit(self._read, lambda conn: act(conn, *args, **kwargs))
        future.add_done_callback(lambda _future: self._enter(-1))
        return await asyncio.wrap_future(future)

    @property
    def shared(self) -> bool:
        """Whether other machines may work on it too."""
        return ledger_file(ledger_url(self.place)) is None

    def busy(self) -> bool:
        """Whether some thread still works: a manual clock must not move on meanwhile."""
        return self._under_way > 0

    def _enter(self, change: int) -> None:
        with self._counting:
            self._under_way += change

    def _read(self, act: Callable[[Connection], T]) -> T:
        assert self._read_engine is not None  # noqa: S101 - entered
        try:
            if self._read_connection is None:
                self._read_connection = self._read_engine.connect()
            with self._read_connection.begin():
                return act(self._read_connection)
        except DBAPIError as exc:
            raise ledger_error(exc, self.place) from exc

    def _close_reader(self) -> None:
        if self._read_connection is not None:
            self._read_connection.close()

    def _write_for_ever(self) -> None:
        going = True
        while going:
            jobs = [self._jobs.get()]
            while len(jobs) < MAX_BATCH and not self._jobs.empty():
                jobs.append(self._jobs.get())
            going = None not in jobs
            # One that was cancelled before it began is not begun; one that has begun is finished.
            batch = [job for job in jobs if job is not None and job.done.set_running_or_notify_cancel()]
            if batch:
                self._write_batch(batch)
        self._forget_connection()

    def _forget_connection(self) -> None:
        conn, self._write_connection = self._write_connection, None
        if conn is not None:
            with suppress(SQLAlchemyError):
                conn.close()

    def _write_batch(self, batch: list[_Job]) -> None:
        assert self._write_engine is not None  # noqa: S101 - entered
        names = tuple(job.name for job in batch)
        results: list[tuple[_Job, Any, BaseException | None]] = []
        try:
            conn = self._write_connection = self._write_connection or self._write_engine.connect()
            with conn.begin():
                for job in batch:
                    results.append((job, *self._attempt(conn, job)))
                self._boundary("before", names)
        except (DBAPIError, sqlite3.Error) as exc:
            error = ledger_error(_first(exc), self.place)
            error.__cause__ = exc
            for job in batch:
                job.done.set_exception(error)
            return
        except Exception as exc:  # noqa: BLE001 - handed to whoever asked: were the thread to end, all would wait for ever
            self._forget_connection()
            for job in batch:
                fault = LedgerError(f"ledger {shown(self.place)}: the prober's own error in a transaction: {exc!r}")
                fault.__cause__ = exc
                job.done.set_exception(fault)
            return
        self._boundary("after", names)
        for job, result, failure in results:
            if failure is None:
                job.done.set_result(result)
            else:
                job.done.set_exception(failure)

    def _attempt(self, conn: Connection, job: _Job) -> tuple[Any, BaseException | None]:
        """One job in its own savepoint, so that its failure takes nothing else with it."""
        try:
            with savepoint(conn):
                return job.run(conn), None
        except (IntegrityError, DataError) as exc:
            failure = ledger_error(exc, self.place)  # what this job alone wanted to write
            failure.__cause__ = exc
            return None, failure
        except DBAPIError:
            raise  # the whole transaction is in doubt
        except Exception as exc:  # noqa: BLE001 - handed to whoever asked
            return None, exc


def _first(error: BaseException) -> BaseException:
    """What went wrong first: a full disk undoes the transaction, and undoing the savepoint then fails too."""
    while isinstance(error.__context__, (DBAPIError, sqlite3.Error)):
        error = error.__context__
    return error
