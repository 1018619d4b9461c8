"""One bounded pass of every stage, for processes that come and go: what cron starts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog

from prober import asking, controlling, stages, sweep
from prober.clock import Instant, wait_for_any
from prober.errors import LedgerError
from prober.ledger import lingering, settling
from prober.ledger.lingering import Verdicts
from prober.ledger.lock import ObservingLock
from prober.ledger.publishing import unpublished
from prober.ledger.slots import Timetable
from prober.loops import FIRST_SIGHT, Loops
from prober.metrics import Local
from prober.model import SlotState
from prober.serving import TEXTFILE
from prober.stages import Flow
from prober.sweep import Swept

log = structlog.get_logger()

AFTER_DEADLINE = 5.0
"""Seconds after the last deadline for which a pass lingers, at the most: for the read that proves absence."""

LOOK = 1.0
"""Seconds between two looks whether all is settled, where nothing tells of it."""

STEP_LOOK = 0.1
"""Seconds between two looks whether the steps of the launched publications have ended."""

SWEEP_WITHIN = 10.0
"""Seconds that a pass spends on removing what has served, at the most."""

LAST_WORDS = 2.0
"""Seconds for which a pass waits at its end for what providers say of its mail."""

HEALTH_WITHIN = 5.0
"""Seconds that the target may take to tell of its dependencies."""


@dataclass(slots=True)
class Ticked:
    """What one pass came to.

    ``observed``: this pass read the channels (False: another held the lock, and does). ``read`` are the observers that
    were read at least once, ``blind`` why others cannot be, now. ``slots`` counts what became of the slots,
    ``published`` how the launched publications ended, ``left`` the deliveries that are still open.
    """

    observed: bool = False
    interrupted: bool = False
    slots: Counter[SlotState] = field(default_factory=Counter)
    published: Counter[str] = field(default_factory=Counter)
    verdicts: Verdicts = field(default_factory=Verdicts)
    left: int = 0
    read: frozenset[str] = frozenset()
    blind: Mapping[str, str] = field(default_factory=dict)
    swept: Swept = field(default_factory=Swept)
    seconds: float = 0.0

    @property
    def readable(self) -> bool:
        """Whether anything could be read by whoever was to."""
        return bool(self.read) or not self.observed


class Tick:
    """One pass. ``linger`` seconds at the most are spent on collecting; None: until the last deadline and
    AFTER_DEADLINE, ``inf``: until all is settled. ``export`` shows the metrics elsewhere; only who observes does.
    """

    def __init__(
        self,
        flow: Flow,
        timetable: Timetable,
        lock: ObservingLock,
        *,
        linger: float | None = None,
        export: Callable[[Local], Awaitable[None]] | None = None,
    ) -> None:
        self._flow = flow
        self._put_out = export
        self._timetable = timetable
        self._lock = lock
        self._linger = linger
        self._end: Instant | None = None
        self._launched: list[str] | None = None
        self._news = asyncio.Event()
        self.ticked = Ticked()

    async def run(self, stop: asyncio.Event) -> Ticked:
        """Do it. ``stop`` ends the waiting, never a step. Raises LedgerError while nothing could be done."""
        began = self._flow.clock.now()
        while True:
            if await self._lock.take():
                try:
                    await self._hold(stop)
                finally:
                    await self._lock.release()
                # Whoever found the lock held meanwhile, and has published, relies on a last look after its release.
                if not await self._worth_staying(stop):
                    break
            elif self._launched is None:
                await self._publish_only(stop)
            else:
                break
        await self._sum_up(began)
        self.ticked.interrupted = stop.is_set()
        return self.ticked

    async def _hold(self, stop: asyncio.Event) -> None:
        """Read, publish, linger, sweep, export: the only process of its location that observes."""
        flow, ticked = self._flow, self.ticked
        ticked.observed = True
        async with Loops(flow, on_settled=self._on_settled, on_change=self._on_change) as loops:
            await loops.sighted(FIRST_SIGHT)
            await self._publish(loops, stop)
            await self._aside("settle", loops, loops.settle())
            await self._aside("health", loops, sweep.within(flow, self._ask_health(), HEALTH_WITHIN))
            await self._stay(loops, stop)
            await loops.last_words(LAST_WORDS)
            await self._aside("sweep", loops, self._sweep())
            await loops.drain(0.0)
            await self._aside("settle", loops, loops.settle())
            ticked.read |= {name for name, sight in loops.sights.items() if sight.last_started is not None}
            ticked.blind = {name: sight.blind or "not read in time" for name, sight in loops.sights.items()
                            if sight.blind or sight.last_started is None}  # fmt: skip
        # Only now, when the loops post none any more: twice would be once too often.
        await self._aside("control", loops, self._control())
        await self._export(loops)

    async def _publish_only(self, stop: asyncio.Event) -> None:
        """Another observes: once it has begun to, publish what is due, and leave the rest to it."""
        end = self._flow.clock.now().plus(FIRST_SIGHT)
        while not await self._flow.ledger.read(lingering.all_covered, self._flow.location, self._flow.served):
            if stop.is_set() or end.since(self._flow.clock.now()) <= 0:
                break
            await self._flow.clock.sleep(STEP_LOOK)
        async with Loops(self._flow, on_settled=self._on_settled, on_change=self._on_change, observing=False) as loops:
            await self._publish(loops, stop)
            await loops.drain(0.0)

    async def _publish(self, loops: Loops, stop: asyncio.Event) -> None:
        """Launch what is due, once in a pass, and see its publications through, each with all of its steps."""
        if self._launched is None and not stop.is_set():
            launched: list[str] = []
            now, more = self._flow.clock.now(), True
            while more:
                passed = await stages.plan_slots(self._flow, self._timetable, now)
                more = passed.more
                self.ticked.slots.update(passed.states)
                launched += passed.planned
            self._launched = launched
        loops.planned()
        # An earlier process may have planned and not published: that too is due.
        mine = [*(self._launched or ()), *await self._flow.ledger.read(unpublished, self._flow.location)]
        while not stop.is_set() and await self._flow.ledger.read(lingering.under_way, mine):
            await self._flow.clock.sleep(STEP_LOOK)

    async def _stay(self, loops: Loops, stop: asyncio.Event) -> None:
        """Wait while something is open and its time is not over."""
        clock = self._flow.clock
        if self._end is None:
            linger = self._linger
            if linger is None:
                deadline = (await self._ahead()).deadline
                linger = deadline + AFTER_DEADLINE if deadline > 0 else 0.0
            self._end = clock.now().plus(linger)
        exported = clock.now()
        while await self._worth_staying(stop):
            self._news.clear()
            await wait_for_any(clock, self._news, min(LOOK, self._end.since(clock.now())))
            if clock.now().since(exported) >= TEXTFILE:
                exported = clock.now()
                await self._export(loops)

    async def _worth_staying(self, stop: asyncio.Event) -> bool:
        over = self._end is None or self._end.since(self._flow.clock.now()) <= 0
        return not over and not stop.is_set() and (await self._ahead()).deliveries > 0

    async def _ahead(self) -> lingering.Ahead:
        return await self._flow.ledger.read(lingering.ahead, self._flow.location, self._flow.clock.now())

    async def _aside(self, name: str, loops: Loops, act: Awaitable[object]) -> None:
        """What no verdict rests on: its failure is counted, and ends nothing."""
        try:
            await act
        except (OSError, LedgerError) as error:
            loops.internal_errors[name, type(error).__name__] += 1
            log.warning("A part of the pass failed.", action="part_failed", part=name, why=str(error))
        except Exception as error:
            loops.internal_errors[name, type(error).__name__] += 1
            log.exception("A part of the pass failed.", action="part_failed", part=name)

    async def _ask_health(self) -> None:
        await asking.ask_health(self._flow)

    async def _sweep(self) -> None:
        course = sweep.Course(self._flow.upkeep.keeping, glance=True, swept=self.ticked.swept)
        await sweep.sweep_up(self._flow, course, SWEEP_WITHIN)

    async def _control(self) -> None:
        """Bound the providers' clocks, for whoever collects later."""
        for watch in self._flow.watches:
            done = await controlling.control(self._flow, watch)
            for channel, why in done.failed.items():
                log.warning("A control message could not be posted.", action="control", channel=channel, why=why)

    async def _export(self, loops: Loops) -> None:
        if self._put_out is not None:
            local = Local(loop_lag=loops.lag, errors=loops.internal_errors.unrecorded)
            await self._aside("textfile", loops, self._put_out(local))

    async def _sum_up(self, began: Instant) -> None:
        flow, ticked = self._flow, self.ticked
        ticked.published = await flow.ledger.read(lingering.publish_results, self._launched or [])
        ticked.left = (await self._ahead()).deliveries
        ticked.seconds = flow.clock.now().since(began)

    async def _on_settled(self, done: settling.Settled) -> None:
        self.ticked.verdicts.add(done.verdicts)
        self._news.set()

    async def _on_change(self) -> None:
        self._news.set()
