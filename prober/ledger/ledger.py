"""The ledger's one writer thread and its reader: what is ready goes in one durable transaction."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
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


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    name: str
    run: Callable[[Connection], Any]
    done: asyncio.Future[Any]


_Answer = tuple[_Job, Any, BaseException | None]


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
        self._writes: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_for_ever, name="ledger-write", daemon=True)
        self._reader = threading.Thread(target=self._read_for_ever, name="ledger-read", daemon=True)
        self._under_way = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._write_engine: Engine | None = None
        self._read_engine: Engine | None = None
        self._read_connection: Connection | None = None
        self._write_connection: Connection | None = None

    async def __aenter__(self) -> Self:
        """Open and migrate. Raises LedgerError."""
        self._loop = asyncio.get_running_loop()
        if not self._read_only:
            self._write_engine = await asyncio.to_thread(open_for_writing, self.place)
        self._read_engine = await asyncio.to_thread(open_for_reading, self.place)
        if not self._read_only:
            self._writer.start()
        self._reader.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._read_only:
            self._writes.put(None)
            await asyncio.to_thread(self._writer.join)
        self._reads.put(None)
        await asyncio.to_thread(self._reader.join)
        for engine in (self._write_engine, self._read_engine):
            if engine is not None:
                engine.dispose()

    async def write(self, act: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``act`` in a write transaction; return once it is durable. Raises LedgerError, nothing is then kept."""
        if self._read_only:
            raise LedgerReadOnly(f"ledger {shown(self.place)}: is only read here")
        return cast(T, await self._asked(self._writes, act.__name__, lambda conn: act(conn, *args, **kwargs)))

    async def read(self, act: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``act`` in a read transaction. Raises LedgerError."""
        return cast(T, await self._asked(self._reads, act.__name__, lambda conn: act(conn, *args, **kwargs)))

    @property
    def shared(self) -> bool:
        """Whether other machines may work on it too."""
        return ledger_file(ledger_url(self.place)) is None

    def busy(self) -> bool:
        """Whether some thread still works: a manual clock must not move on meanwhile."""
        return self._under_way > 0

    def _asked(
        self, jobs: queue.SimpleQueue[_Job | None], name: str, run: Callable[[Connection], Any]
    ) -> asyncio.Future[Any]:
        job = _Job(name, run, asyncio.get_running_loop().create_future())
        self._under_way += 1
        jobs.put(job)
        return job.done

    def _answer(self, answers: list[_Answer]) -> None:
        """Hand what a thread has done to those who asked for it, in one go: each call into the loop costs its wake."""
        assert self._loop is not None  # noqa: S101 - entered
        with suppress(RuntimeError):  # the loop has ended: nobody is there to be told
            self._loop.call_soon_threadsafe(self._hand_over, answers)

    def _hand_over(self, answers: list[_Answer]) -> None:
        for job, result, failure in answers:
            self._under_way -= 1
            if job.done.cancelled():
                continue
            if failure is None:
                job.done.set_result(result)
            else:
                job.done.set_exception(failure)

    def _read_for_ever(self) -> None:
        while (job := self._reads.get()) is not None:
            result = None
            failure: BaseException | None = None
            try:
                if not job.done.cancelled():
                    result = self._read(job)
            except Exception as exc:  # noqa: BLE001 - handed to whoever asked
                failure = exc
            self._answer([(job, result, failure)])
        if self._read_connection is not None:
            self._read_connection.close()

    def _read(self, job: _Job) -> Any:
        assert self._read_engine is not None  # noqa: S101 - entered
        try:
            if self._read_connection is None:
                self._read_connection = self._read_engine.connect()
            with self._read_connection.begin():
                return job.run(self._read_connection)
        except DBAPIError as exc:
            raise ledger_error(exc, self.place) from exc

    def _write_for_ever(self) -> None:
        going = True
        while going:
            jobs = [self._writes.get()]
            while len(jobs) < MAX_BATCH and not self._writes.empty():
                jobs.append(self._writes.get())
            going = None not in jobs
            # One that was cancelled before it began is not begun; one that has begun is finished.
            cancelled = {job for job in jobs if job is not None and job.done.cancelled()}
            batch = [job for job in jobs if job is not None and job not in cancelled]
            done = self._write_batch(batch) if batch else []
            self._answer([*done, *((job, None, None) for job in cancelled)])
        self._forget_connection()

    def _forget_connection(self) -> None:
        conn, self._write_connection = self._write_connection, None
        if conn is not None:
            with suppress(SQLAlchemyError):
                conn.close()

    def _write_batch(self, batch: list[_Job]) -> list[_Answer]:
        assert self._write_engine is not None  # noqa: S101 - entered
        names = tuple(job.name for job in batch)
        answers: list[_Answer] = []
        try:
            conn = self._write_connection = self._write_connection or self._write_engine.connect()
            with conn.begin():
                for job in batch:
                    answers.append((job, *self._attempt(conn, job)))
                self._boundary("before", names)
        except (DBAPIError, sqlite3.Error) as exc:
            error = ledger_error(_first(exc), self.place)
            error.__cause__ = exc
            return [(job, None, error) for job in batch]
        except Exception as exc:  # noqa: BLE001 - handed to whoever asked: were the thread to end, all would wait for ever
            self._forget_connection()
            fault = LedgerError(f"ledger {shown(self.place)}: the prober's own error in a transaction: {exc!r}")
            fault.__cause__ = exc
            return [(job, None, fault) for job in batch]
        self._boundary("after", names)
        return answers

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
