"""Instants that survive wall-clock steps, and the one clock that everything sleeps on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol

CROSS_BOOT_UNCERTAINTY = 1.0
"""Seconds by which instants of two boots may disagree: their only common measure is the wall clock."""


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment, in seconds on two clocks.

    ``wall`` is UTC since 1970 and may step; ``boottime`` (CLOCK_BOOTTIME) counts through suspends and never
    steps, but means something only within the boot that ``boot_id`` names.
    """

    wall: float
    boottime: float
    boot_id: str

    def plus(self, seconds: float) -> Instant:
        """The moment ``seconds`` later on both clocks."""
        return Instant(self.wall + seconds, self.boottime + seconds, self.boot_id)

    def since(self, earlier: Instant) -> float:
        """Seconds from ``earlier`` to this: exact within one boot, by the wall clock across boots."""
        if self.boot_id == earlier.boot_id:
            return self.boottime - earlier.boottime
        return self.wall - earlier.wall

    def doubt(self, other: Instant) -> float:
        """Seconds by which :meth:`since` between the two may be wrong, on either side."""
        return 0.0 if self.boot_id == other.boot_id else CROSS_BOOT_UNCERTAINTY

    def at_wall(self, wall: float) -> Instant:
        """The moment at which the wall clock, if it does not step again, shows ``wall``."""
        return self.plus(wall - self.wall)

    def rfc3339(self) -> str:
        """The wall reading as RFC 3339 in UTC with microseconds."""
        return rfc3339(self.wall)


def rfc3339(wall: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC with microseconds, e.g. ``2026-11-23T10:00:00.000000Z``."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Clock(Protocol):
    """The source of time: the system's in production, a manual one in tests."""

    def now(self) -> Instant:
        """The present moment. Safe to call from any thread."""

    async def sleep(self, seconds: float) -> None:
        """Return once ``seconds`` have passed on this clock."""


@cache
def boot_id() -> str:
    """A short name for this boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", "")[:12]


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> Instant:
        return Instant(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), boot_id())

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


async def wait_for_any(clock: Clock, event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until ``event`` is set or ``seconds`` (None: no bound) have passed; True when the event is set."""
    if event.is_set() or (seconds is not None and seconds <= 0):
        return event.is_set()
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(event.wait())]
    if seconds is not None:
        waits.append(asyncio.ensure_future(clock.sleep(seconds)))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left = [wait for wait in waits if not wait.done()]
        for wait in left:
            wait.cancel()
        if left:
            await asyncio.wait(left)
    return event.is_set()
