"""Stage export: the traces of settled probes leave for a collector. Nothing waits for it, and nothing rests on it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import structlog

from prober.clock import wait_for_any
from prober.ledger import reading, untraced
from prober.stages import Flow, TraceSink

log = structlog.get_logger()

COMPONENT = "traces"
"""The component of ``internal_errors_total`` under which is counted what was not exported."""

GATHER = 1.0
"""Seconds for which probes are gathered into one request."""

LOOK = 30.0
"""Seconds after which what another process left is looked for."""

LAST = 3.0
"""Seconds that the end of a process waits for a collector."""


@dataclass(slots=True)
class Exporting:
    """The export of one process. ``errors`` counts what failed; ``settled`` is set when there is something new."""

    flow: Flow
    sink: TraceSink
    errors: Counter[tuple[str, str]]
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    _passing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _trouble: str = ""

    async def export(self) -> bool:
        """One request's worth; returns whether there may be more to do now. Raises LedgerError."""
        flow, clock = self.flow, self.flow.clock
        async with self._passing:
            names = await flow.ledger.write(untraced.claim, flow.location, clock.now().wall)
            if not names:
                return False
            try:
                why = await self.sink.send(await flow.ledger.read(reading.probe_records, names))
            except asyncio.CancelledError:
                # Whether they arrived is unknown: they go again, with the same ids.
                await flow.ledger.write(untraced.put_off, flow.location, names, clock.now().wall)
                raise
            self._tell(why)
            if not why:
                await flow.ledger.write(untraced.exported, names)
                return True
            self.errors[COMPONENT, "not_exported"] += 1
            gone = await flow.ledger.write(untraced.put_off, flow.location, names, clock.now().wall)
            if gone:
                self.errors[COMPONENT, "given_up"] += gone
                log.error("Traces waited too long for a collector and are given up.", action="traces_given_up",
                            probes=gone)  # fmt: skip
            return False

    async def keep_exporting(self) -> None:
        """Export for ever. Raises LedgerError."""
        flow, clock = self.flow, self.flow.clock
        while True:
            self.settled.clear()
            if not await self.export():
                due = await flow.ledger.read(untraced.next_due, flow.location)
                left = LOOK if due is None else min(LOOK, due - clock.now().wall)
                await wait_for_any(clock, self.settled, left)
            await clock.sleep(GATHER)

    async def flush(self) -> None:
        """Export what is left, for at most LAST seconds; the rest stays on record for the next process."""
        flushing = asyncio.ensure_future(self._flush())
        ending = asyncio.ensure_future(self.flow.clock.sleep(LAST))
        try:
            await asyncio.wait({flushing, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not flushing.done():
                self.errors[COMPONENT, "not_exported"] += 1
                self._tell(f"no answer within {LAST:g} s, at the end")
        finally:
            for task in (flushing, ending):
                task.cancel()
            await asyncio.gather(flushing, ending, return_exceptions=True)

    async def _flush(self) -> None:
        while await self.export():
            pass

    def _tell(self, why: str) -> None:
        if why and not self._trouble:
            log.error("Traces are not exported; they are tried again.", action="traces_unexported", reason=why)
        elif self._trouble and not why:
            log.info("Traces are exported again.", action="traces_exported")
        self._trouble = why
