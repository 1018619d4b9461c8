"""The loop of one observer: a complete read when one is due, and what is pushed meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from prober import controlling, stages
from prober.clock import Instant
from prober.errors import Unreadable
from prober.ledger import awaiting, observing
from prober.model import Wake
from prober.sight import FIRST_RETRY, Sight
from prober.stages import Flow, Watch

log = structlog.get_logger()


@dataclass(slots=True)
class Watching:
    """One observer's loop. ``bounds`` is set when what is awaited may have changed, ``seen`` is called after each
    read and when a push brought a fact, ``tell_change`` when something is worth showing."""

    flow: Flow
    watch: Watch
    sight: Sight
    errors: Counter[tuple[str, str]]
    troubles: controlling.Troubles
    seen: Callable[[bool], None]
    tell_change: Callable[[], Awaitable[None]]
    bounds: asyncio.Event = field(default_factory=asyncio.Event)

    async def observe(self) -> None:
        """Read and listen for ever."""
        watch, sight, clock = self.watch, self.sight, self.flow.clock
        while True:
            await self._pause(sight.pause_before_read(clock.now()))
            begun = clock.now()
            try:
                unseen = await stages.observe(self.flow, watch)
            except Unreadable as error:
                if error.reason == stages.OWN_FAULT:
                    self.errors["observe", error.detail] += 1
                    log.error("A read ended in an error of our own.", action="own_fault", loop=watch.observer.name,
                              reason=error.detail, exc_info=error.__cause__)  # fmt: skip
                before, pause = sight.blind, sight.failed(error)
                await self._looked_at(before, sight.blind)
                await self._pause(pause)
                continue
            except observing.CursorMoved:
                continue
            before = sight.blind
            sight.took(begun, clock.now(), "; ".join(f"{name}: {why}" for name, why in unseen.items()))
            await self._looked_at(before, sight.blind)
            await self._watch_pushes()

    async def _pause(self, seconds: float) -> None:
        """Wait before the next read. Pushes may flow all the same, and prove presence, if never absence."""
        clock = self.flow.clock
        end = clock.now().plus(seconds)
        while end.since(clock.now()) > 0:
            wake = await self.watch.observer.wait(end)
            await self._record_pushes(wake)
            if not wake.pushed:
                # Perhaps it asks for the very read that has to wait.
                await clock.sleep(min(FIRST_RETRY, end.since(clock.now())))

    async def _looked_at(self, before: str, blind: str) -> None:
        """Let others know that a read has ended, and tell when sight was lost or regained."""
        self.seen(True)
        await self._tell_trouble()
        if blind == before:
            return
        if blind:
            log.warning("An observer is blind.", action="blind", observer=self.watch.observer.name, why=blind)
        else:
            log.info("An observer sees again.", action="sees", observer=self.watch.observer.name)
        await self.tell_change()

    async def _record_pushes(self, wake: Wake) -> None:
        if wake.controls_seen:
            self.sight.control_at = None
        if (wake.pushed or wake.controls_seen) and await stages.observe_pushed(self.flow, self.watch, wake):
            self.seen(False)

    async def _tell_trouble(self) -> None:
        """Say when pushes stop flowing as they should, and when they do again."""
        if self.troubles.changed(self.watch.observer.name, self.watch.observer.push_trouble):
            await self.tell_change()

    async def _watch_pushes(self) -> None:
        """Record what is pushed until a complete read is due."""
        watch, sight, clock, changed = self.watch, self.sight, self.flow.clock, self.bounds
        name, listening = watch.observer.name, stages.Listening(watch.observer)
        try:
            while True:
                changed.clear()
                now, after = clock.now(), sight.last_started
                awaited = await self.flow.ledger.read(awaiting.awaited, self.flow.location, name, after, now)
                due = sight.next_read(awaited, watch.observer.poll, now)
                if now.since(due) >= 0:
                    return await self._record_pushes(await listening.end())
                if await self._listen(listening, due):
                    return None
                # What was awaited may have been settled meanwhile: looked up once more before anything is read.
        finally:
            await listening.end()

    async def _listen(self, listening: stages.Listening, due: Instant) -> bool:
        """Record what is pushed until then, or until what is awaited has changed; whether a read is asked for."""
        change = asyncio.ensure_future(self.bounds.wait())
        try:
            while not self.bounds.is_set() and self.flow.clock.now().since(due) < 0:
                wake = await listening.wake(due, change)
                await self._record_pushes(wake)
                if wake.unread:
                    return True
        finally:
            change.cancel()
        return False
