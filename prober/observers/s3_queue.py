"""The threads of the S3 observer: one that does its blocking calls in turn, one that listens to the queue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from prober.acts import Acts
from prober.clock import Clock, Instant
from prober.errors import Unreadable
from prober.model import How, Waypoint
from prober.observers.mail import Mail, read_mail
from prober.observers.s3_client import AwsClient, Received
from prober.observers.s3_notifications import Notice, read_notices
from prober.observers.s3_settings import S3Settings

T = TypeVar("T")

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 5.0
"""Seconds between attempts to hear the queue again."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One mail of the bucket, read. ``modified`` is S3's wall time of it in whole seconds.

    ``recipients`` are the envelope's, where a notification told them.
    """

    key: str
    mail: Mail
    modified: int
    size: int
    seen: Instant
    how: How
    recipients: tuple[str, ...] = ()
    waypoints: tuple[Waypoint, ...] = ()


class Lane:
    """A thread that does one blocking call after another."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def do(self, act: Callable[[], T]) -> T:
        """The result of ``act``, or what it raises."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((act, future))
        return await future

    async def stop(self, within: float) -> None:
        """End the thread; what hangs longer than ``within`` seconds is left to its own time-outs."""
        self._calls.put(None)
        await _join(self._thread, self._ended, within)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            act, future = call
            try:
                result = act()
            except Exception as error:  # noqa: BLE001 - handed to whoever asked
                tell(self._loop, _fail, future, error)
            else:
                tell(self._loop, _succeed, future, result)
        tell(self._loop, self._ended.set)


class QueueWatch:
    """A thread that long-polls the queue and fetches what is told of.

    In the event loop ``hear`` is given what came, with whether only a read can tell more, and ``changed`` why the
    queue is not heard ('' when it is again). ``has`` says, in the thread, whether an object needs no fetching.
    ``acts`` are told what is deleted, with ``place``.
    """

    def __init__(
        self,
        client: AwsClient,
        settings: S3Settings,
        clock: Clock,
        acts: Acts,
        place: str,
        *,
        hear: Callable[[Sequence[Arrival], bool], None],
        changed: Callable[[str], None],
        has: Callable[[str], bool],
    ) -> None:
        self._client = client
        self._settings = settings
        self._queue_url = settings.queue_url or ""
        self._clock = clock
        self._acts, self._place = acts, place
        self._hear, self._changed, self._has = hear, changed, has
        self._loop = asyncio.get_running_loop()
        self._stopping = threading.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"sqs-{settings.bucket}", daemon=True)
        self._thread.start()

    async def stop(self, within: float) -> None:
        """End the thread: it hears of it when its long poll ends."""
        self._stopping.set()
        await _join(self._thread, self._ended, within)

    def _run(self) -> None:
        trouble, failures = "", 0
        while not self._stopping.is_set():
            before = trouble
            try:
                self._listen()
                trouble, failures = "", 0
            except Unreadable as error:
                trouble, failures = str(error), failures + 1
            except Exception as error:  # noqa: BLE001 - told as trouble, in which reads go on
                trouble, failures = f"the prober's own error: {type(error).__name__}", failures + 1
            if trouble != before and not self._stopping.is_set():
                tell(self._loop, self._changed, trouble)
            if failures:
                self._stopping.wait(min(FIRST_PAUSE * 2.0 ** min(failures - 1, 8), LONGEST_PAUSE))
        tell(self._loop, self._ended.set)

    def _listen(self) -> None:
        """One long poll. What is not of our bucket is left for whoever it is meant for, until it expires."""
        received = self._client.receive(self._queue_url, self._settings.wait_seconds)
        at = self._clock.now()
        handled: list[Received] = []
        for message in received:
            if self._stopping.is_set():
                return
            notices = read_notices(message.body)
            if notices is None or not all(self._is_ours(notice) for notice in notices):
                continue
            if self._handle(notices, at):
                handled.append(message)
        self._client.forget(self._queue_url, "a notification", handled, self._acts, self._place)

    def _is_ours(self, notice: Notice) -> bool:
        return notice.bucket == self._settings.bucket and notice.key.startswith(self._settings.prefix)

    def _handle(self, notices: Sequence[Notice], at: Instant) -> bool:
        """Fetch what is told of and hand it over; False when it could not be read and is to be told again."""
        arrivals, readable = [], True
        missing = False
        for notice in notices:
            if self._has(notice.key):
                continue
            try:
                arrival = fetch(self._client, self._settings, notice.key, at, How.PUSH)
            except Unreadable:
                readable = False
                continue
            missing = missing or arrival is None
            if arrival is not None:
                arrivals.append(_told(arrival, notice))
        if arrivals or missing or not readable:
            tell(self._loop, self._hear, tuple(arrivals), missing or not readable)
        return readable


def fetch(client: AwsClient, settings: S3Settings, key: str, seen: Instant, how: How) -> Arrival | None:
    """The mail in an object, None where there is none. Raises Unreadable."""
    fetched = client.fetch(key)
    if fetched is None:
        return None
    mail = read_mail(fetched.raw, limit=settings.max_message_bytes)
    return Arrival(key, mail, fetched.modified, fetched.size, seen, how)


def tell(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *about: object) -> None:
    """Call something in the event loop, from a thread."""
    with suppress(RuntimeError):  # the loop has ended and nobody listens
        loop.call_soon_threadsafe(call, *about)


def _told(arrival: Arrival, notice: Notice) -> Arrival:
    return replace(arrival, recipients=notice.recipients, waypoints=notice.waypoints)


async def _join(thread: threading.Thread, ended: asyncio.Event, within: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(ended.wait(), within)
        thread.join()


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
