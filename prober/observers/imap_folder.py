"""One watched folder: a thread with a connection of its own that waits for pushes and reads when it is asked to."""

from __future__ import annotations

import asyncio
import math
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate

from prober.clock import Clock, Instant
from prober.errors import Unreadable
from prober.model import How
from prober.observers.imap_connection import Lifeline
from prober.observers.imap_session import CHUNK, Fetched, Session
from prober.observers.imap_settings import ImapSettings
from prober.observers.imap_tokens import Tokens
from prober.observers.mail import Mail, read_mail

MOST_MESSAGES = 2000
"""Messages that one read returns; what is left is for the next."""

MOST_BYTES = 8_000_000
"""Bytes of messages after which a read asks for no more of them; what is left is for the next."""

REREAD = 500
"""Messages, the newest, that are read of a folder whose UIDVALIDITY is new, unless they are too large together."""

_GRACE = 0.25
_STOP_WITHIN = 1.0


@dataclass(frozen=True, slots=True)
class Position:
    """Up to where a folder has been read."""

    validity: int
    uid: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message of a folder, read. ``received`` is the server's own time, wall seconds; ``guid`` its name for it."""

    id: str
    mail: Mail
    seen: Instant
    how: How
    received: float | None
    guid: str = ""


@dataclass(frozen=True, slots=True)
class FolderReading:
    """What one read of a folder returned.

    ``complete`` says that everything visible at ``started`` is among what was read up to ``position``;
    ``continues`` that nothing was missed since the position before; ``junk`` is the folder that the server marks as
    Junk, empty for none and where nobody asks.
    """

    arrivals: tuple[Arrival, ...]
    position: Position
    started: Instant
    ended: Instant
    continues: bool
    complete: bool
    junk: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the thread; None as the position of a ``known`` mailbox is a folder never read before.

    ``since``: from which wall time on what is there already is read of a mailbox that is not known.
    """

    position: Position | None
    known: bool
    since: float | None
    answer: asyncio.Future[FolderReading]


class FolderWatch:
    """A folder and its thread. ``on_news`` is called in the event loop when something may be new.

    With ``find_junk`` each reading also says which folder is Junk, looked up once on each connection.
    """

    def __init__(
        self,
        folder: str,
        settings: ImapSettings,
        clock: Clock,
        on_news: Callable[[], None],
        *,
        find_junk: bool = False,
        tokens: Tokens | None = None,
    ) -> None:
        self.folder = folder
        self._tokens = tokens
        self._find_junk = find_junk
        self._junk: str | None = None
        self._settings = settings
        self._clock = clock
        self._on_news = on_news
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._questions: deque[Question] = deque()
        self._pipe_lock = threading.Lock()
        self._pipe_open = True
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_reader, False)
        os.set_blocking(self._wake_writer, False)
        self._lifeline = Lifeline()
        self._stopping = False
        self._session: Session | None = None
        self._pushed = False
        self._failure: Exception | None = None
        self._renewing = self._loop.create_task(self._renew_idle(), name=f"imap-renew-{folder}")
        self._thread = threading.Thread(target=self._run, name=f"imap-{settings.username}-{folder}", daemon=True)
        self._thread.start()

    def look_again(self) -> None:
        """Look Junk up anew with the next read."""
        self._junk = None

    async def read(self, position: Position | None, *, known: bool, since: float | None = None) -> FolderReading:
        """Read completely after ``position``; None reads from now on, or when ``known`` the newest that there are.

        From now on is: with the newest that came since a wall time, where one is given.
        Raises Unreadable.
        """
        if self._stopping:
            raise _closed()
        answer: asyncio.Future[FolderReading] = self._loop.create_future()
        self._questions.append(Question(position, known, since, answer))
        self._wake()
        return await answer

    async def stop(self) -> None:
        """End the thread, whatever it is doing, and close its connection; at most a second."""
        self._stopping = True
        self._renewing.cancel()
        self._wake()
        give_up = self._loop.time() + _STOP_WITHIN
        while not self._ended.is_set() and self._loop.time() < give_up:
            # Again and again: a cut between the making of a connection and its use would find nothing to cut.
            self._lifeline.cut()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 0.02)
        if self._ended.is_set():
            self._thread.join()
        for question in self._questions:
            _fail(question.answer, _closed())

    async def _renew_idle(self) -> None:
        """Wake the thread in time, that no IDLE lasts longer than ``renew``: servers end those that seem dead."""
        while True:
            await self._clock.sleep(self._settings.renew)
            self._wake()

    # --- in the thread ---

    def _run(self) -> None:
        try:
            while not self._stopping:
                if self._questions:
                    self._serve(self._questions.popleft())
                elif self._session is None:
                    self._wait(None, None)
                else:
                    self._listen(self._session)
        finally:
            self._disconnect()
            self._lifeline.release()
            with self._pipe_lock:
                self._pipe_open = False
                os.close(self._wake_reader)
                os.close(self._wake_writer)
            self._tell(self._ended.set)

    def _serve(self, question: Question) -> None:
        if question.answer.cancelled():
            return
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
            reading = self._read_twice(question)
        except Exception as error:  # noqa: BLE001 - handed to whoever asked
            self._disconnect()
            # The suppressed context may hold a secret; whoever reports the error sees the cause only.
            error.__context__ = error.__cause__
            self._tell(_fail, question.answer, error)
        else:
            self._tell(_succeed, question.answer, reading)

    def _read_twice(self, question: Question) -> FolderReading:
        """Read; once more on a new connection when the old one turns out to be dead."""
        if self._session is not None:
            try:
                return self._read(self._session, question)
            except Unreadable:
                self._disconnect()
                if self._stopping:
                    raise
        self._session = Session(self._settings, self.folder, self._lifeline, self._tokens)
        return self._read(self._session, question)

    def _read(self, session: Session, question: Question) -> FolderReading:
        pushed, self._pushed = self._pushed, False
        how = How.HISTORY if session.reads == 0 else How.PUSH if pushed else How.POLL
        started = self._clock.now()
        session.synchronise()
        position, continues = question.position, True
        if position is None and not question.known:
            uids, how = _newest(session, question.since), How.HISTORY
            last = max([session.last_uid(), *uids])
            # From now on. What came while the position was sought is shown, too: else the next read would say that it
            # came after this one.
            started, continues = self._clock.now(), False
            session.synchronise()
            uids += session.uids_after(last)
        elif position is None or position.validity != session.validity:
            uids, continues, how = _newest(session, -math.inf), False, How.HISTORY
            last = max([session.last_uid_at_opening, *uids])
        else:
            uids, last = session.uids_after(position.uid), position.uid
        arrivals, taken = self._fetch(session, uids[:MOST_MESSAGES], how)
        if self._find_junk and (session.reads == 0 or self._junk is None):
            self._junk = session.find_junk() or ""
        session.reads += 1
        return FolderReading(
            arrivals=arrivals,
            position=Position(session.validity, max([last, *taken])),
            started=started,
            ended=self._clock.now(),
            continues=continues,
            complete=len(taken) == len(uids) or not continues,
            junk=self._junk or "",
        )

    def _fetch(self, session: Session, uids: list[int], how: How) -> tuple[tuple[Arrival, ...], list[int]]:
        """The messages, and the UIDs up to which they were asked for."""
        arrivals: list[Arrival] = []
        asked = size = 0
        for chunk in session.fetch(uids):
            seen = self._clock.now()
            asked += CHUNK
            size += sum(len(fetched.raw) for fetched in chunk)
            for fetched in chunk:
                arrivals.append(self._arrival(session, fetched, seen, how))
            if size >= MOST_BYTES:
                break
        return tuple(arrivals), uids[:asked]

    def _arrival(self, session: Session, fetched: Fetched, seen: Instant, how: How) -> Arrival:
        mail = read_mail(fetched.raw, limit=self._settings.max_message_bytes)
        name = f"{self.folder}/{session.validity}.{fetched.uid}"
        return Arrival(name, mail, seen, how, fetched.received, fetched.guid)

    def _listen(self, session: Session) -> None:
        """Wait for a push, a question, or the time to enter IDLE again. A lost connection is news."""
        try:
            pushed = self._idle(session)
        except Exception as error:  # noqa: BLE001 - handed to whoever asks next
            # A lost connection is made anew by the next read; anything else is a fault of ours, and its answer.
            self._failure = None if isinstance(error, Unreadable) else error
            self._disconnect()
            self._tell(self._on_news)
            return
        if pushed:
            # The question that follows from the news finds the connection ready.
            self._wait(None, _GRACE)

    def _idle(self, session: Session) -> bool:
        """True when the server spoke of its own accord."""
        if session.take_announced():
            self._pushed = True
            self._tell(self._on_news)
            return True
        if not session.pushes:
            self._wait(None, None)
            return False
        spoke = session.enter_idle() or self._wait(session, None)
        if spoke:
            self._tell(self._on_news)
        announced = session.leave_idle()
        if spoke and announced:
            self._pushed = True
        elif announced and not self._questions:
            # A push that never came shows now that IDLE ends.
            self._tell(self._on_news)
        return spoke

    def _wait(self, session: Session | None, seconds: float | None) -> bool:
        """Wait for a wake-up, or until the server says something; True when it did."""
        if self._questions or self._stopping:
            return False
        poll = select.poll()
        poll.register(self._wake_reader, select.POLLIN)
        if session is not None:
            poll.register(session.fileno(), select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000)]
        if self._wake_reader in ready:
            with suppress(BlockingIOError):
                os.read(self._wake_reader, 4096)
        return any(descriptor != self._wake_reader for descriptor in ready)

    def _disconnect(self) -> None:
        session, self._session = self._session, None
        self._pushed = False
        if session is not None:
            session.close()

    def _tell(self, call: Callable[..., None], *about: object) -> None:
        with suppress(RuntimeError):  # the loop has ended and nobody listens
            self._loop.call_soon_threadsafe(call, *about)

    def _wake(self) -> None:
        with self._pipe_lock, suppress(BlockingIOError):  # full of wake-ups: one is enough
            if self._pipe_open:
                os.write(self._wake_writer, b"w")


def _newest(session: Session, since: float | None) -> list[int]:
    """What is read of a folder that begins anew: at least one message, at most REREAD and MOST_BYTES.

    Of those only what came since a wall time; nothing for None.
    """
    if since is None:
        return []
    uids = session.came_since(since, session.newest_uids(REREAD))
    totals = accumulate(reversed(session.sizes(uids)))
    fitting = sum(total <= MOST_BYTES for total in totals)
    return uids[-max(1, fitting) :]


def _closed() -> Unreadable:
    return Unreadable("unreachable", "the observer has been closed")


def _succeed(answer: asyncio.Future[FolderReading], reading: FolderReading) -> None:
    if not answer.done():
        answer.set_result(reading)


def _fail(answer: asyncio.Future[FolderReading], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
