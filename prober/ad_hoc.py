"""An ad hoc run: launches its probes open-loop and ends when all of them are settled."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from prober import sweep
from prober.clock import wait_for_any
from prober.draft import Drafting, draft_probe
from prober.errors import LedgerError
from prober.ledger import publishing, reading, settling
from prober.ledger.planning import PlannedProbe
from prober.ledger.reading import ProbeRecord
from prober.loops import FIRST_SIGHT, HELD_UP, Loops
from prober.model import Channel, Scenario
from prober.stages import Flow
from prober.sweep import Swept

SWEEP_WITHIN = 10.0
"""Seconds that a run spends at its end on removing what has served, at the most."""

LAST_WORDS = 2.0
"""Seconds that a run waits at its end for what providers say of its mail."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A scenario and the channels that it is asked on."""

    scenario: Scenario
    channels: tuple[Channel, ...]


class Listener(Protocol):
    """Who is told what happens, as it happens."""

    def launched(self, probes: Sequence[PlannedProbe]) -> None:
        """These probes are on record and will be published."""

    def changed(self, record: ProbeRecord) -> None:
        """Something new is on record about a probe of this run, or of an earlier one that was left open."""

    def blind(self, observer: str, why: str) -> None:
        """An observer cannot see (``why`` is empty: it sees again)."""

    def swept(self, swept: Swept) -> None:
        """What the run removed at its end, and what it could not."""

    def held_up(self, seconds: float) -> None:
        """This process itself was stopped, suspended or stalled for so long: what it saw, it saw late."""


class AdHocRun:
    """``count`` probes of each scenario, one every ``every`` seconds, whatever becomes of the earlier ones.

    With ``sweeps`` it removes at its end, for SWEEP_WITHIN seconds at the most, what has served and old leftovers.
    """

    def __init__(
        self,
        flow: Flow,
        drafting: Drafting,
        asked: Sequence[Asked],
        listener: Listener,
        *,
        count: int = 1,
        every: float = 10.0,
        sweeps: bool = False,
    ) -> None:
        self.flow = flow
        self._sweeps = sweeps
        self.name = secrets.token_hex(8)
        self._drafting = drafting
        self._asked = asked
        self._listener = listener
        self._count = count
        self._every = every
        self._launched: list[str] = []
        self._open: set[str] = set()
        self._changed = asyncio.Event()
        self._blind: dict[str, str] = {}
        self._told_lag = 0.0
        self._ended = False

    def end(self) -> None:
        """Launch no more and wait for nothing more: what is open stays open, for the next on this ledger."""
        self._ended = True
        self._changed.set()

    async def run(self, stop: asyncio.Event, max_time: float | None = None) -> tuple[ProbeRecord, ...]:
        """Launch, wait, return what is on record of this run's probes.

        ``stop`` ends the launching, not the waiting; ``max_time`` seconds end both. Probes that an earlier process
        planned and did not publish are published now, and waited for too.
        """
        self._open |= set(await self.flow.ledger.read(publishing.unpublished, self.flow.location))
        end = None if max_time is None else self.flow.clock.now().plus(max_time)
        async with Loops(self.flow, on_settled=self._on_settled, on_change=self._on_change) as loops:
            await loops.sighted(FIRST_SIGHT)
            self._tell_blind(loops)
            launching = asyncio.create_task(self._launch_all(loops, stop))
            try:
                while not self._ended and (not launching.done() or self._open):
                    left = None if end is None else end.since(self.flow.clock.now())
                    if left is not None and left <= 0:
                        break
                    self._changed.clear()
                    await wait_for_any(self.flow.clock, self._changed, left)
                    self._tell_blind(loops)
                    self._tell_lag(loops)
                    await self._refresh()
                await loops.last_words(LAST_WORDS)
            finally:
                launching.cancel()
                await asyncio.gather(launching, return_exceptions=True)
            if self._sweeps:
                await self._sweep(loops)
        if launching.done() and not launching.cancelled() and (error := launching.exception()) is not None:
            raise error
        return await self.flow.ledger.read(reading.probe_records, self._launched)

    async def _launch_all(self, loops: Loops, stop: asyncio.Event) -> None:
        """Plan the k-th probe at T0 + k * every: a slow target delays nothing."""
        start = self.flow.clock.now()
        try:
            for number in range(self._count):
                due = start.plus(number * self._every)
                if await wait_for_any(self.flow.clock, stop, due.since(self.flow.clock.now())):
                    return
                await self._launch(loops, number)
        finally:
            self._changed.set()

    async def _launch(self, loops: Loops, number: int) -> None:
        now = self.flow.clock.now()
        drafts = [
            draft_probe(
                self._drafting, asked.scenario, asked.channels, slot=now.wall, now=now, run=self.name, number=number
            )
            for asked in self._asked
        ]
        self._launched += [draft.id for draft in drafts]
        self._open |= {draft.id for draft in drafts}
        try:
            self._listener.launched(drafts)
            await loops.launch(drafts)
        except Exception:
            self._open -= {draft.id for draft in drafts}  # nothing is on record that could be settled
            raise

    async def _sweep(self, loops: Loops) -> None:
        """Remove what has served; a success needs no grace, since nobody is left to wait for its copies."""
        begun = self.flow.clock.now()
        course = sweep.Course(replace(self.flow.upkeep.keeping, success=0.0), glance=True)
        # What a read rests on must stay: the newest that this run has read, and not the newest of the run before.
        await loops.read_again(SWEEP_WITHIN / 4)
        left = SWEEP_WITHIN - self.flow.clock.now().since(begun)
        try:
            await sweep.sweep_up(self.flow, course, left)
        except LedgerError as error:
            course.swept.trouble["ledger"] = str(error)
        self._listener.swept(course.swept)

    async def _on_settled(self, done: settling.Settled) -> None:
        for record in await self.flow.ledger.read(reading.probe_records, [probe for _, probe in done.settled]):
            self._tell(record)
        self._changed.set()

    async def _on_change(self) -> None:
        self._changed.set()

    def _tell_lag(self, loops: Loops) -> None:
        if loops.lag > HELD_UP and loops.lag != self._told_lag:
            self._told_lag = loops.lag
            self._listener.held_up(loops.lag)

    async def _refresh(self) -> None:
        """Tell what an answer changed in the probes that are still open."""
        for record in await self.flow.ledger.read(reading.probe_records, sorted(self._open)):
            self._tell(record)

    def _tell(self, record: ProbeRecord) -> None:
        if not any(row.open for row in record.deliveries):
            self._open.discard(record.probe.id)
        self._listener.changed(record)

    def _tell_blind(self, loops: Loops) -> None:
        now = {name: sight.blind for name, sight in loops.sights.items() if sight.blind}
        for name in {**self._blind, **now}:
            if self._blind.get(name, "") != now.get(name, ""):
                self._listener.blind(name, now.get(name, ""))
        self._blind = now


def with_bounds(scenario: Scenario, within: float | None, give_up: float | None) -> Scenario:
    """The scenario with other bounds, in seconds; a horizon before the deadline is moved to it."""
    within = scenario.within if within is None else within
    give_up = max(scenario.give_up, within) if give_up is None else give_up
    return replace(scenario, within=within, give_up=give_up)
