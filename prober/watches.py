"""The observers of one process: each with its loops, for as long as it is this process' to observe."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from prober import controlling
from prober.auditing import record_last_acts
from prober.clock import wait_for_any
from prober.errors import Unreadable
from prober.internal_errors import InternalErrors
from prober.leasing import EVERY, Leasing
from prober.ledger import lingering
from prober.ledger.leases import LeaseLost
from prober.observers import Controlling
from prober.sight import Sight
from prober.stages import OWN_FAULT, Flow, Watch, record_blind
from prober.watching import Watching

LEFT_TO_HOLDERS = 1.0
"""Seconds for which a replica that observes nothing leaves a step to one that does: two clocks widen each interval."""

Loop = Callable[[], Awaitable[None]]
Guarded = Callable[[str, Loop], Coroutine[Any, Any, None]]
"""Runs a loop for ever, whatever ends it."""


class Watches:
    """The loops of all observers. Without ``leasing`` they are ours, and entered, from the start.

    With it only those are entered whose lease is ours, anew at each take-over, and left when it is lost: a second
    connection would take the events of the first. ``sights`` are those of ours; ``seen`` is set when something is on
    record.
    """

    def __init__(
        self,
        flow: Flow,
        errors: InternalErrors,
        *,
        guarded: Guarded,
        seen: asyncio.Event,
        tell_change: Callable[[], Awaitable[None]],
        leasing: Leasing | None = None,
    ) -> None:
        self._flow = flow
        self._errors = errors
        self._guarded = guarded
        self._seen = seen
        self._tell_change = tell_change
        self._leasing = leasing
        self._looked = asyncio.Event()
        self._troubles = controlling.Troubles()
        self.sights: dict[str, Sight] = {}
        self._bounds: dict[str, asyncio.Event] = {}
        self._held: dict[str, tuple[int, asyncio.Task[None]]] = {}
        self._open: dict[str, Watch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        for watch in flow.watches if leasing is None else ():
            self._prepare(watch)
            self._open[watch.observer.name] = watch

    @property
    def ours(self) -> tuple[Watch, ...]:
        """Those that are open here now."""
        return tuple(self._open.values())

    @property
    def patience(self) -> float:
        """Seconds for which steps are left to other replicas."""
        standing_by = self._leasing is not None and not self._leasing.held and self._flow.watches
        return LEFT_TO_HOLDERS if standing_by else 0.0

    async def begin(self) -> None:
        """Start the loops of what is ours. Raises LedgerError."""
        if self._leasing is None:
            for name, loop in [loop for watch in self.ours for loop in self._loops_of(watch, self._flow)]:
                self._start(name, loop)
            return
        await self._look(self._leasing)
        self._start("lease", partial(self._keep_leases, self._leasing))

    async def end(self) -> None:
        """End all loops, leave what was entered here, and let others take it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._leasing is not None:
            await self._leasing.let_go()

    def awaited_changed(self) -> None:
        """Let every observer look up when it must read next."""
        for event in self._bounds.values():
            event.set()

    async def sighted(self, bound: float) -> None:
        """Return once every observer has read once, or has failed to, at the latest after ``bound`` seconds.

        Of another replica's observer the ledger tells, once that replica is seen to live.
        """
        end = self._flow.clock.now().plus(bound)
        while not await self._all_looked():
            left = end.since(self._flow.clock.now())
            if left <= 0:
                return
            self._looked.clear()
            await wait_for_any(self._flow.clock, self._looked, left if self._leasing is None else min(left, EVERY))

    async def read_again(self, bound: float) -> None:
        """Let every observer read once more now; return when each has, or has failed to, at the latest after
        ``bound`` seconds."""
        now = self._flow.clock.now()
        for sight in self.sights.values():
            sight.wanted = now
        self.awaited_changed()
        end = now.plus(bound)
        while any(sight.wanted for sight in self.sights.values()) and (left := end.since(self._flow.clock.now())) > 0:
            self._looked.clear()
            await wait_for_any(self._flow.clock, self._looked, left)

    async def _all_looked(self) -> bool:
        if any(sight.last_started is None and not sight.failures for sight in self.sights.values()):
            return False
        others = {
            watch.observer.name: frozenset(channel.identity for channel in watch.channels.values())
            for watch in self._flow.watches
            if self._leasing is not None and watch.observer.name not in self.sights
        }
        if self._leasing is not None and others.keys() - self._leasing.living:
            return False  # its holder may be gone, and what that has seen is long ago
        return not others or await self._flow.ledger.read(lingering.all_looked, self._flow.location, others)

    async def _keep_leases(self, leasing: Leasing) -> None:
        while True:
            await self._flow.clock.sleep(EVERY)
            await self._look(leasing)

    async def _look(self, leasing: Leasing) -> None:
        try:
            await leasing.look()
        finally:
            self._follow(leasing)
            self.awaited_changed()  # perhaps by what another replica has published

    def _follow(self, leasing: Leasing) -> None:
        """Observe by the leases that are held, and by no others."""
        leases = leasing.held
        for name, (epoch, task) in tuple(self._held.items()):
            if leases.get(name) != epoch:
                task.cancel()
                del self._held[name], self.sights[name], self._bounds[name]
        for watch in self._flow.watches:
            name = watch.observer.name
            if name in leases and name not in self._held:
                self._prepare(watch)
                epoch = leases[name]
                self._held[name] = epoch, self._start(f"hold {name}", partial(self._hold, watch, epoch, leasing))

    async def _hold(self, watch: Watch, epoch: int, leasing: Leasing) -> None:
        """Observe while the lease is ours: the account is open just as long."""
        name, opened = watch.observer.name, list[object]()
        try:
            async with AsyncExitStack() as stack:
                watch = await self._entered(stack, replace(watch, epoch=epoch))
                opened.append(watch.observer)
                self._open[name] = watch
                try:
                    async with asyncio.TaskGroup() as group:
                        for loop_name, loop in self._loops_of(watch, replace(self._flow, watches=(watch,))):
                            group.create_task(self._guarded(loop_name, loop))
                finally:
                    if self._open.get(name) is watch:
                        del self._open[name]
        except* LeaseLost:
            leasing.lost(name, epoch)
        finally:
            await record_last_acts(self._flow.ledger, self._flow.location, self._flow.taken_by, opened)

    async def _entered(self, stack: AsyncExitStack, watch: Watch) -> Watch:
        """Make the observer anew and enter it. Where that fails nothing is seen, which goes on record as of any
        read."""
        assert watch.anew is not None  # noqa: S101 - who leases says how
        begun = self._flow.clock.now()
        try:
            return replace(watch, observer=await stack.enter_async_context(watch.anew()))
        except Exception as error:
            blind = Unreadable(OWN_FAULT, type(error).__name__)
            self.sights[watch.observer.name].failed(blind)
            await record_blind(self._flow, watch, blind, begun)
            self._note(True)
            raise

    def _prepare(self, watch: Watch) -> None:
        self.sights[watch.observer.name] = Sight(watch.observer.reads_per_minute)
        self._bounds[watch.observer.name] = asyncio.Event()

    def _loops_of(self, watch: Watch, flow: Flow) -> Iterator[tuple[str, Loop]]:
        name = watch.observer.name
        sight, bounds = self.sights[name], self._bounds[name]
        watching = Watching(flow, watch, sight, self._errors, self._troubles, self._note, self._tell_change, bounds)
        yield f"observe {name}", watching.observe
        if isinstance(watch.observer, Controlling):
            yield f"control {name}", partial(controlling.keep_posting, flow, watch, sight, bounds.set)

    def _note(self, looked: bool) -> None:
        """An observer has put something on record, by a read (or the failure of one) where it ``looked``."""
        if looked:
            self._looked.set()
        self._seen.set()

    def _start(self, name: str, loop: Loop) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guarded(name, loop), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
