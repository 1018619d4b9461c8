"""Carries messages at their moments: a timetable, a priority queue, and workers who knock again when nobody opens."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from prober.clock import Clock, wait_for_any
from prober.sandbox.records import DeliveryFailed, Outgoing

WORKERS = 8
OVERTAKEN_FOR = 5.0
"""Seconds after which a message that should be overtaken goes out although none has passed it."""
RETRY_FIRST, RETRY_LONGEST, RETRY_FOR = 0.1, 1.0, 900.0


class Outlet(Protocol):
    """Where messages become visible."""

    async def deliver(self, message: Outgoing) -> None:
        """Carry one message to its address. Raises DeliveryFailed."""


@dataclass(slots=True)
class Parcel:
    """One message on its way. ``settled`` is told once what came of it: "" or why the provider did not take it."""

    message: Outgoing
    priority: int
    settled: Callable[[str], None] | None = None
    overtaken: bool = False
    expires: float = 0.0
    backoff: float = RETRY_FIRST
    taken: bool = False


@dataclass(slots=True)
class _Ready:
    """The priority queue: the highest priority (the lowest number) first, within one the oldest."""

    parcels: list[tuple[int, int, Parcel]] = field(default_factory=list)
    filled: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def put(self, number: int, parcel: Parcel) -> None:
        heapq.heappush(self.parcels, (parcel.priority, number, parcel))
        self.filled.release()

    async def get(self) -> Parcel:
        await self.filled.acquire()
        return heapq.heappop(self.parcels)[2]


class Courier:
    """Entered as an async context manager, which runs one timekeeper and some workers."""

    def __init__(self, clock: Clock, outlet: Outlet, workers: int = WORKERS) -> None:
        self._clock = clock
        self._outlet = outlet
        self._workers = workers
        self._due: list[tuple[float, int, Parcel | Callable[[], None]]] = []
        self._ready = _Ready()
        self._order = itertools.count()
        self._changed = asyncio.Event()
        self._overtaken: defaultdict[str, list[Parcel]] = defaultdict(list)
        self.tasks: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> Self:
        runs = [self._tell_time(), *(self._work() for _ in range(self._workers))]
        self.tasks = tuple(asyncio.create_task(run) for run in runs)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self.tasks:
            task.cancel()
        ends = await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = ()
        for end in ends:
            if isinstance(end, Exception) and error is None:
                raise end

    @property
    def waiting(self) -> int:
        """How many messages and callbacks still wait for their moment or a worker."""
        return len(self._due) + len(self._ready.parcels)

    def carry(self, parcel: Parcel, wait: float) -> None:
        """Hand a message to a worker in ``wait`` seconds."""
        parcel.expires = self._clock.now().boottime + wait + RETRY_FOR
        self._at(wait, parcel)

    def call(self, wait: float, action: Callable[[], None]) -> None:
        """Call ``action`` in ``wait`` seconds."""
        self._at(wait, action)

    def _at(self, wait: float, entry: Parcel | Callable[[], None]) -> None:
        heapq.heappush(self._due, (self._clock.now().boottime + wait, next(self._order), entry))
        if self._due[0][2] is entry:
            self._changed.set()

    async def _tell_time(self) -> None:
        while True:
            self._changed.clear()
            now = self._clock.now().boottime
            while self._due and self._due[0][0] <= now:
                entry = heapq.heappop(self._due)[2]
                if isinstance(entry, Parcel):
                    self._hand_over(entry)
                else:
                    entry()
            await wait_for_any(self._clock, self._changed, self._due[0][0] - now if self._due else None)

    def _hand_over(self, parcel: Parcel) -> None:
        if parcel.taken:
            return
        if parcel.overtaken:
            parcel.overtaken = False
            self._overtaken[parcel.message.address].append(parcel)
            self._at(OVERTAKEN_FOR, parcel)
        else:
            self._ready.put(next(self._order), parcel)

    async def _work(self) -> None:
        while True:
            parcel = await self._ready.get()
            if parcel.taken:
                continue
            parcel.taken = True
            try:
                await self._outlet.deliver(parcel.message)
            except DeliveryFailed as failure:
                self._failed(parcel, failure)
                continue
            if parcel.settled is not None:
                parcel.settled("")
            for other in self._overtaken.pop(parcel.message.address, ()):
                self._hand_over(other)

    def _failed(self, parcel: Parcel, failure: DeliveryFailed) -> None:
        if failure.passing and self._clock.now().boottime < parcel.expires:
            parcel.taken = False
            self._at(parcel.backoff, parcel)
            parcel.backoff = min(parcel.backoff * 2, RETRY_LONGEST)
        elif parcel.settled is not None:
            parcel.settled(str(failure))
