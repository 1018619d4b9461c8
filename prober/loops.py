"""Repeats the stages, woken by facts: the only place that starts tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

import structlog

from prober import asking, hearing, stages, sweep, telling
from prober.clock import Instant, wait_for_any
from prober.errors import LedgerError
from prober.exporting import Exporting
from prober.internal_errors import InternalErrors
from prober.leasing import Leasing
from prober.ledger import publishing, reading, settling, slots
from prober.ledger.leases import LeaseLost
from prober.ledger.owner import claim_ledger
from prober.ledger.planning import PlannedProbe
from prober.sight import FIRST_RETRY, MAX_RETRY, Sight
from prober.stages import Flow
from prober.watches import Watches

log = structlog.get_logger()

FIRST_SIGHT = 10.0
"""Seconds that publishing waits, after a start, for every observer to have looked once or failed to."""

OTHERS = 5.0
"""Seconds after which facts that another process put on the ledger are looked for."""

GATHER, BUSY = 0.01, 0.03
"""Seconds for which facts are gathered before they are judged together, when passes follow within so many."""

BEAT = 1.0
"""Seconds between two beats that measure how late this process wakes up."""

HELD_UP = 0.5
"""Seconds of lateness from which a beat is worth a word: a stalled loop, a stopped process, a suspend."""

DRAIN_LOOK = 0.1
"""Seconds between two looks at what is still under way at the end."""


class Loops:
    """All loops of one process over one ledger.

    ``lag`` is by how many seconds this process woke up late at its last beat, ``worst_lag`` ever.
    ``timetable`` says what recurs (None: nothing); it may be replaced while the loops run. ``sweeping`` also removes
    what has served from the channels and, in its time, from the ledger; ``asking_health`` see :mod:`asking`.
    Without ``observing`` it only publishes: another process observes and settles. ``leasing``: other replicas may
    serve this ledger too, and each account is observed by one of them; see :class:`Watches`.
    ``on_settled`` is told of each pass that gave verdicts; ``on_change`` that something else is
    worth showing (an answer, a sight lost or regained).
    """

    def __init__(
        self,
        flow: Flow,
        *,
        on_settled: Callable[[settling.Settled], Awaitable[None]],
        on_change: Callable[[], Awaitable[None]],
        timetable: slots.Timetable | None = None,
        sweeping: bool = False,
        asking_health: bool = False,
        observing: bool = True,
        leasing: bool = False,
    ) -> None:
        self.flow = flow
        self._observing = observing
        self._leasing = leasing
        self._witnesses = flow.witnesses if observing else ()
        self._asking_health = asking_health
        self._sweeping = sweeping
        self.internal_errors = InternalErrors()
        self._exporting = Exporting(flow, flow.traces, self.internal_errors) if flow.traces is not None else None
        self.lag = 0.0
        self.worst_lag = 0.0
        self._on_settled = on_settled
        self._on_change = on_change
        self._timetable = timetable
        self._replanned = asyncio.Event()
        self._steps = asyncio.Event()
        self._facts = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._watches = Watches(
            flow if observing else replace(flow, watches=()),
            self.internal_errors,
            guarded=self._guarded,
            seen=self._facts,
            tell_change=self._tell_change,
            leasing=Leasing(flow) if leasing else None,
        )

    @property
    def sights(self) -> Mapping[str, Sight]:
        """What is remembered of the reads of each observer that is ours."""
        return self._watches.sights

    async def __aenter__(self) -> Self:
        await self.flow.ledger.write(claim_ledger, self.flow.keyring.environment)
        await self._bury()
        await self._watches.begin()
        self._start("plan", self._plan)
        self._start("publish", self._publish)
        self._start("bury", self._bury_others)
        if self._observing:
            self._start("settle", self._settle)
        self._start("beat", self._beat)
        if self._sweeping:
            self._start("sweep", partial(sweep.keep_sweeping, self.flow, lambda: self._watches.ours))
            self._start("retain", partial(sweep.keep_retaining, self.flow))
        if self._exporting is not None:
            self._start("traces", self._exporting.keep_exporting)
        if self._asking_health:
            self._start("health", partial(asking.watch_health, self.flow))
        for witness in self._witnesses:
            self._start(f"hear {witness.name}", partial(hearing.listen, self.flow, witness, self._tell_change))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._exporting is not None and kind is None:
            await self._exporting.flush()
            await self.internal_errors.record(self.flow)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._watches.end()

    async def launch(self, drafts: Sequence[PlannedProbe]) -> None:
        """Put probes on record and let them be published."""
        await stages.plan(self.flow, drafts)
        self._steps.set()

    def planned(self) -> None:
        """Something was put on record by another way, to be published."""
        self._steps.set()

    async def sighted(self, bound: float) -> None:
        """See :meth:`Watches.sighted`."""
        await self._watches.sighted(bound)

    async def read_again(self, bound: float) -> None:
        """See :meth:`Watches.read_again`."""
        await self._watches.read_again(bound)

    def _start(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(self._guarded(name, loop), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _start_once(self, name: str, act: Coroutine[Any, Any, None]) -> None:
        """Something that is never repeated: it counts its own errors."""
        task = asyncio.create_task(act, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop for ever: what ends it is counted, and it starts again; only the loss of a lease ends it."""
        failures = 0
        while True:
            begun = self.flow.clock.now()
            try:
                await loop()
                return
            except LeaseLost:
                raise
            except LedgerError as error:
                reason, words, unexpected = type(error).__name__, str(error), None
            except Exception as error:  # noqa: BLE001 - counted, logged and tried again
                reason, words, unexpected = type(error).__name__, repr(error), error
            self.internal_errors[name.split(maxsplit=1)[0], reason] += 1
            if _is_ended():  # its error has taken the place of the cancellation
                log.error("A loop failed while it was ended.", action="loop_end", loop=name, reason=reason, error=words,
                          exc_info=unexpected)  # fmt: skip
                return
            log.error("A loop ended and starts again.", action="loop_restart", loop=name, reason=reason, error=words,
                      exc_info=unexpected)  # fmt: skip
            await self._tell_change()
            lasted = self.flow.clock.now().since(begun)
            failures = 1 if lasted > MAX_RETRY else failures + 1
            await self.flow.clock.sleep(min(FIRST_RETRY * 2.0 ** min(failures - 1, 8), MAX_RETRY))

    async def _tell_settled(self, settled: settling.Settled) -> None:
        try:
            await self._on_settled(settled)
        except Exception as error:
            self.internal_errors["telling", type(error).__name__] += 1
            log.exception("Whoever is told of verdicts failed.", action="telling_failed")

    async def _tell_change(self) -> None:
        """Tell that something is worth showing; that the telling fails ends no loop and repeats no step."""
        try:
            await self._on_change()
        except Exception as error:
            self.internal_errors["telling", type(error).__name__] += 1
            log.exception("Whoever is told of changes failed.", action="telling_failed")

    async def _bury_others(self) -> None:
        """A process beside this one may end at any time, and nobody may be started in its place."""
        while True:
            await self.flow.clock.sleep(OTHERS)
            if await self._bury():
                self._facts.set()

    async def _bury(self) -> int:
        dead = await stages.bury(self.flow)
        if dead:
            log.warning("Steps of an ended process are taken as interrupted.", action="interrupted", steps=dead)
        return dead

    async def drain(self, bound: float) -> bool:
        """Launch nothing more, and wait for at most ``bound`` seconds until all that is under way is settled.

        Whatever comes of that, no step is left between its claim and its end on record. True when nothing is open.
        """
        self._stopping = True
        self._steps.set()
        self._replanned.set()
        end = self.flow.clock.now().plus(bound)
        while any(task.get_name().startswith(("plan", "publish", "take ")) for task in self._tasks):
            await self.flow.clock.sleep(DRAIN_LOOK)
        await self.internal_errors.record(self.flow)
        # Of replicas each waits for what it published itself: the others go on.
        by = self.flow.taken_by if self._leasing else ""
        while await self.flow.ledger.read(reading.open_probes, self.flow.location, by):
            if self.flow.clock.now().since(end) >= 0:
                return False
            await self.flow.clock.sleep(DRAIN_LOOK)
        return True

    def follow(self, timetable: slots.Timetable | None) -> None:
        """Plan by another timetable from now on."""
        self._timetable = timetable
        self._replanned.set()

    async def _plan(self) -> None:
        await self.sighted(FIRST_SIGHT)
        running_since = self.flow.clock.now()
        while not self._stopping:
            self._replanned.clear()
            passed = slots.NOTHING
            if self._timetable is not None:
                passed = await stages.plan_slots(self.flow, self._timetable, running_since)
                if passed.planned or self._leasing:
                    self._steps.set()  # of replicas another one may have planned it
            while not (passed.more or self._replanned.is_set() or self._is_past(passed.next_slot)):
                # Slots are wall times, and that clock may step: it is looked at again and again.
                now = self.flow.clock.now()
                await self._until(self._replanned, None if passed.next_slot is None else now.at_wall(passed.next_slot))

    def _is_past(self, wall: float | None) -> bool:
        return wall is not None and self.flow.clock.now().wall >= wall

    async def _publish(self) -> None:
        # What left before its channels are watched has no coverage: where it is lost, nothing could be said.
        await self.sighted(FIRST_SIGHT)
        while not self._stopping:
            self._steps.clear()
            claimed = await stages.claim(self.flow, self._watches.patience)
            for step in claimed.steps:
                self._start_once(f"take {step.step.probe}", self._take(step))
            if claimed.late:
                self._facts.set()
            if not claimed.steps:
                await self._until(self._steps, claimed.next_due)

    async def _take(self, step: publishing.ClaimedStep) -> None:
        """One step, once: what fails beyond the target's own errors is on record by then and is not repeated."""
        try:
            await telling.take(self.flow, step)
        except Exception as error:  # noqa: BLE001 - on record and told by whoever took it
            self.internal_errors["publish", type(error).__name__] += 1
        self._facts.set()
        self._steps.set()
        self._watches.awaited_changed()
        await self._tell_change()

    async def settle(self) -> settling.Settled:
        """Judge what has a new fact or whose time has come, and tell of it."""
        done = await stages.settle(self.flow)
        if done.settled:
            telling.tell_verdicts(self.flow.location, done.verdicts)
            if self._exporting is not None:
                self._exporting.settled.set()
            await self._tell_settled(done)
            if self.flow.witnesses:
                self._start_once("suppressed", self._ask_suppressed([delivery for delivery, _ in done.settled]))
            for probe in done.concluded:
                self._start_once(f"claims {probe}", self._ask_claims(probe, done.traces[probe]))
        if done.waits:
            self._watches.awaited_changed()
        return done

    async def _settle(self) -> None:
        while True:
            self._facts.clear()
            began = self.flow.clock.now()
            done = await self.settle()
            if not done.more:
                await self._until(self._facts, done.next_due)
                if self.flow.clock.now().since(began) < BUSY:
                    await self.flow.clock.sleep(GATHER)  # facts come in handfuls: one pass judges them together

    async def _beat(self) -> None:
        """Measure our own lateness in seconds, suspends included.

        What is received late has a later upper bound, so intervals widen by it of themselves; here it is told.
        """
        while True:
            asleep = self.flow.clock.now()
            await self.flow.clock.sleep(BEAT)
            self.lag = max(0.0, self.flow.clock.now().since(asleep) - BEAT)
            self.worst_lag = max(self.worst_lag, self.lag)
            if self.lag > HELD_UP:
                log.warning("The prober itself was held up.", action="held_up", seconds=round(self.lag, 3))
                await self._tell_change()
            await self.internal_errors.record(self.flow)

    async def _ask_claims(self, probe: str, trace: str) -> None:
        with telling.about(self.flow.location, probe, trace):
            try:
                await asking.ask_claims(self.flow, probe)
            except Exception as error:
                self.internal_errors["claims", type(error).__name__] += 1
                log.exception("What the target claims could not be put on record.", action="own_fault")

    async def _ask_suppressed(self, settled: Sequence[int]) -> None:
        try:
            if await hearing.ask_suppressed(self.flow, settled):
                await self._tell_change()
        except Exception as error:
            self.internal_errors["suppressed", type(error).__name__] += 1
            log.exception("Whether mail is held back could not be put on record.", action="own_fault")

    async def last_words(self, bound: float) -> None:
        """Let what was asked about mail be answered, and hear each witness once more, for at most ``bound`` seconds."""
        asking = [task for task in self._tasks if task.get_name() == "suppressed"]
        await hearing.last_words(self.flow, asking, bound)

    async def _until(self, event: asyncio.Event, due: Instant | None) -> None:
        left = OTHERS if due is None else min(OTHERS, due.since(self.flow.clock.now()))
        await wait_for_any(self.flow.clock, event, left)


def _is_ended() -> bool:
    """Whether the task that asks has been cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
