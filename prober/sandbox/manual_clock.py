"""A clock that stands still until it is told to move: hours of simulated time in milliseconds."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable

from prober.clock import Instant

START = 1_790_000_000.0
"""The wall time at which a manual clock begins unless told otherwise: 2026-09-21."""

_QUIET_TURNS = 3
_MOST_TURNS = 100_000
_CROWD = 1000
_MOST_REAL_SECONDS = 60.0


class ManualClock:
    """Time that passes only in :meth:`advance` and :meth:`suspend`, for one event loop."""

    def __init__(self, wall: float = START, boottime: float = 1000.0, boot_id: str = "manualboot00") -> None:
        self._now = Instant(wall, boottime, boot_id)
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._crowded = _CROWD
        self._busy: list[Callable[[], bool]] = []

    def watch(self, busy: Callable[[], bool]) -> None:
        """Let time pass only while ``busy`` (work in a thread, say) says False."""
        self._busy.append(busy)

    def now(self) -> Instant:
        return self._now

    @property
    def sleepers(self) -> int:
        """How many tasks sleep on this clock."""
        return sum(not future.done() for _, _, future in self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Return once :meth:`advance` has passed the moment ``seconds`` from now; at once (one turn) for <= 0."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        if len(self._sleepers) >= self._crowded:
            self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[2].done()]
            heapq.heapify(self._sleepers)
            self._crowded = max(_CROWD, 2 * len(self._sleepers))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now.boottime + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass: wake every sleeper at its own moment, in order, and let each finish its work."""
        end = self._now.boottime + seconds
        await self._settle()
        while True:
            self._forget_cancelled()
            if not self._sleepers or self._sleepers[0][0] > end:
                break
            self._move_to(max(self._sleepers[0][0], self._now.boottime))
            self._wake_due()
            await self._settle()
        self._move_to(end)
        await self._settle()

    def step_wall(self, seconds: float) -> None:
        """Let the wall clock jump (NTP, an operator), while no time passes."""
        self._now = Instant(self._now.wall + seconds, self._now.boottime, self._now.boot_id)

    async def suspend(self, seconds: float) -> None:
        """Let the machine sleep: both clocks jump at once, and all that was due wakes late, together."""
        self._now = self._now.plus(seconds)
        self._wake_due()
        await self._settle()

    async def _settle(self) -> None:
        end = time.monotonic() + _MOST_REAL_SECONDS
        while True:
            await settle_loop()
            if not any(busy() for busy in self._busy):
                return
            if time.monotonic() > end:
                raise RuntimeError(f"what the clock watches is still busy after {_MOST_REAL_SECONDS} s")
            await asyncio.sleep(0.0002)

    def _move_to(self, boottime: float) -> None:
        passed = boottime - self._now.boottime
        self._now = Instant(self._now.wall + passed, boottime, self._now.boot_id)

    def _forget_cancelled(self) -> None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)

    def _wake_due(self) -> None:
        while self._sleepers and self._sleepers[0][0] <= self._now.boottime:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)


async def settle_loop(most_turns: int = _MOST_TURNS) -> None:
    """Yield to the running loop until nothing in it is ready any more.

    A loop that offers no view of its ready queue gets a fixed number of turns.

    Raises RuntimeError when it is still busy after ``most_turns``.
    """
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    quiet = 0
    for _ in range(most_turns):
        await asyncio.sleep(0)
        quiet = quiet + 1 if ready is None or not ready else 0
        if quiet >= (_QUIET_TURNS if ready is not None else 50):
            return
    raise RuntimeError(f"the event loop is still busy after {most_turns} turns: a task spins without sleeping")
