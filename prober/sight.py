"""When an observer reads next: around each bound, at its polling period, within its provider's limit. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from prober.clock import Instant
from prober.errors import Unreadable
from prober.ledger.awaiting import Awaited

IDLE_READ = 60.0
"""Seconds between complete reads while nothing is awaited: sight is proven, and bounds stay narrow."""

FIRST_RETRY, MAX_RETRY = 0.25, 5.0
"""Seconds between attempts to see again: sight is back within 10 s of the server."""

LEAST_MARGIN = 0.05
"""Seconds before a deadline at which the read that must end by it starts, at the least."""

BURST = 10.0
"""Seconds' worth of a provider's read limit that may be used at once, around the deadlines."""

CONTROL_LOOKS = (0.0, 5.0, 30.0)
"""Seconds after a control message was posted at which it is looked for, while no push has shown it."""


@dataclass(slots=True)
class Sight:
    """What a watch loop remembers of its reads: when the last one began, how long they take, how many it may do.

    ``wanted`` is when somebody asked for a read without delay.
    ``control_at`` is when a control message was posted that no push has shown yet.
    """

    reads_per_minute: float | None = None
    last_started: Instant | None = None
    durations: list[float] = field(default_factory=list)
    failures: int = 0
    blind: str = ""
    wanted: Instant | None = None
    control_at: Instant | None = None
    _spent: float = 0.0  # reads not yet paid off by time
    _paid_at: Instant | None = None

    def pause_before_read(self, now: Instant) -> float:
        """Seconds to wait so that the provider's limit is kept; counts the read that follows."""
        if self.reads_per_minute is None:
            return 0.0
        rate = self.reads_per_minute / 60
        if self._paid_at is not None:
            self._spent = max(0.0, self._spent - rate * now.since(self._paid_at))
        self._paid_at = now
        self._spent += 1
        at_once = max(BURST * rate, min(2.0, max(1.0, self.reads_per_minute)))
        return max(0.0, (self._spent - at_once) / rate)

    def margin(self) -> float:
        """Seconds that a read needs to end by a deadline, judged by the slowest of the latest."""
        return max(LEAST_MARGIN, 1.5 * max(self.durations, default=0.0))

    def next_read(self, awaited: Awaited, poll: float | None, now: Instant) -> Instant:
        """When to read next: before the next bound, at it, or after the polling period."""
        last = self.last_started or now
        if self.wanted is not None:
            return now
        times = [last.plus(MAX_RETRY if self.blind else IDLE_READ)]
        if awaited.bound is not None:
            before = awaited.bound.plus(-self.margin())
            missed = last.since(before) >= 0 or now.since(awaited.bound) >= 0
            times.append(awaited.bound if missed else before)
        if poll is not None and awaited.open:
            times.append(last.plus(poll))
        if self.control_at is not None:
            looks = [self.control_at.plus(seconds) for seconds in CONTROL_LOOKS]
            times += [look for look in looks if last.since(look) < 0]
        return max(times, key=now.since)

    def took(self, started: Instant, ended: Instant, blind: str = "") -> None:
        """Remember a read that worked, and which channels it did not see."""
        self.last_started = started
        if self.wanted is not None and started.since(self.wanted) >= 0:
            self.wanted = None
        self.durations = [*self.durations[-19:], ended.since(started)]
        self.failures, self.blind = 0, blind

    def failed(self, error: Unreadable) -> float:
        """Remember one that did not; returns the seconds to wait before the next."""
        self.failures += 1
        self.blind, self.wanted = str(error), None
        return min(FIRST_RETRY * 2.0 ** min(self.failures - 1, 8), MAX_RETRY)
