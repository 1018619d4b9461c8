"""The always-on service: the loops over one ledger, by a configuration that can be replaced while they run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import structlog
from prometheus_client import generate_latest
from prometheus_client.core import Metric

from prober.assembly import open_flow
from prober.clock import Clock
from prober.config import Settings
from prober.errors import ConfigurationError, LedgerError
from prober.ledger import settling
from prober.ledger.exposing import snapshot
from prober.ledger.ledger import Ledger
from prober.ledger.owner import see_whose
from prober.ledger.slots import Timetable
from prober.ledger.standing import objective_counts
from prober.loops import Loops
from prober.metrics import Configured, Local, Standing, families, registry_of, write_textfile
from prober.model import Channel, Scenario
from prober.objectives import Counts, budget
from prober.serve_form import ServeSettings
from prober.timetables import timetable

log = structlog.get_logger()

STANDINGS = 60.0
"""Seconds between two looks at what the objectives have come to: they are sums over weeks."""

TEXTFILE = 15.0
"""Seconds between two writings of the textfile."""

PATIENCE = 10.0
"""Seconds that a heartbeat may take."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files say now: the settings, what only serving needs, and the scenarios with their channels."""

    settings: Settings
    serve: ServeSettings
    scenarios: tuple[Scenario, ...]
    channels: Mapping[str, tuple[Channel, ...]]

    def configured(self) -> Configured:
        """Whose series exist from the start."""
        return Configured(
            location=self.settings.location,
            environment=self.settings.environment,
            scenarios=self.scenarios,
            channels={name: tuple(channel.name for channel in found) for name, found in self.channels.items()},
            observers=tuple(
                name
                for name in self.settings.observers
                if any(channel.observer == name for channel in self.settings.channels.values())
            ),
            prices=self.settings.limits.prices,
        )

    def connects_like(self, other: Loaded) -> bool:
        """Whether the same target and observers serve both."""
        return all(
            getattr(self.settings, name) == getattr(other.settings, name)
            for name in ("keys", "target", "observers", "channels")
        )


async def metrics_of(
    loaded: Loaded, ledger: Ledger, clock: Clock, standings: Sequence[Standing], local: Local
) -> list[Metric]:
    """Every metric as it stands now. Raises LedgerError."""
    shown = await ledger.read(snapshot, loaded.settings.location, clock.now())
    return list(families(shown, loaded.configured(), standings, local))


async def counts_of(loaded: Loaded, ledger: Ledger, clock: Clock) -> Mapping[str, Counts]:
    """What each objective counts over its window, by its name. Raises LedgerError."""
    settings = loaded.settings
    kinds = {scenario.name: scenario.kind.value for scenario in loaded.scenarios}
    now = clock.now().wall
    return await ledger.read(objective_counts, settings.location, settings.objectives, kinds, now)


def standings_of(loaded: Loaded, counts: Mapping[str, Counts]) -> tuple[Standing, ...]:
    """What the objectives have come to."""
    standings = []
    for objective in loaded.settings.objectives:
        mine = counts[objective.name]
        left = budget(mine, objective.goal)
        standings.append(Standing(objective.name, objective.window, mine.ratio, left.remaining if left else None))
    return tuple(standings)


async def export(metrics: Sequence[Metric], place: str) -> None:
    """Write the metrics for node_exporter, whole or not at all. Raises OSError."""
    await asyncio.to_thread(write_textfile, Path(place), generate_latest(registry_of(metrics)))


@dataclass(slots=True)
class Serving:
    """One service on an open ledger. ``load`` reads the files again and raises ConfigurationError.

    ``reloaded`` says whether the last reload was accepted; ``ready`` that every observer has looked once since the
    last start; ``counts`` are what the objectives, by name, came to at the last look. With ``read_only`` others fill
    the ledger: nothing is connected to, nothing launched and no heartbeat sent.
    """

    loaded: Loaded
    load: Callable[[], Loaded]
    ledger: Ledger
    clock: Clock
    read_only: bool = False
    reloaded: bool = True
    ready: bool = False
    heartbeat_at: float = 0.0
    standings: tuple[Standing, ...] = ()
    counts: Mapping[str, Counts] = field(default_factory=dict)
    _loops: Loops | None = None
    _next: Loaded | None = None
    _reopen: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop``; then drain, and leave the rest on record."""
        beside = [
            asyncio.create_task(self._repeat(name, period, act), name=name) for name, period, act in self._besides()
        ]
        try:
            if self.read_only:
                await self._show(stop)
            while not stop.is_set():
                await self._live_or_go_back(stop)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._write_textfile()

    def reload(self) -> None:
        """Read the files again. Wrong ones leave the old in force. Raises ConfigurationError."""
        try:
            fresh = self.load()
            for name in ("environment", "location", "ledger"):
                if getattr(fresh.settings, name) != getattr(self.loaded.settings, name):
                    raise ConfigurationError(f"{name} cannot change while we run", "restart", fresh.settings.source,
                                             field=name)  # fmt: skip
        except ConfigurationError as error:
            self.reloaded = False
            log.error("The configuration was not accepted; the old one stays.", action="reload_refused",
                      why=str(error))  # fmt: skip
            raise
        self.reloaded = True
        log.info("The configuration was read again.", action="reloaded", source=fresh.settings.source)
        if self.read_only:
            self.loaded = fresh
        elif self.loaded.connects_like(fresh) and self._loops is not None:
            self.loaded = fresh
            self._loops.follow(self._timetable())
        else:
            self._next = fresh
            self._reopen.set()

    async def metrics(self) -> list[Metric]:
        """Every metric as it stands now. Raises LedgerError."""
        return await metrics_of(self.loaded, self.ledger, self.clock, self.standings, self.local())

    def local(self) -> Local:
        """What only this process knows."""
        loops = self._loops
        return Local(
            reloaded=self.reloaded,
            loop_lag=loops.lag if loops else 0.0,
            # 0 until the first one gets through, and no series where none is to.
            heartbeat_at=None if self.loaded.serve.heartbeat is None or self.read_only else self.heartbeat_at,
            errors=loops.internal_errors.unrecorded if loops else {},
        )

    @property
    def healthy(self) -> bool:
        """Whether the loops run, where any are to."""
        return self.read_only or self._loops is not None

    async def _show(self, stop: asyncio.Event) -> None:
        """Export what others put on the ledger. Raises LedgerError where it is another environment's."""
        await self.ledger.read(see_whose, self.loaded.settings.environment)
        self.ready = True
        await stop.wait()

    async def _live_or_go_back(self, stop: asyncio.Event) -> None:
        """Live by what was loaded last; what cannot be opened gives way to what was in force before."""
        before, fresh, self._next = self.loaded, self._next, None
        self.loaded = fresh or before
        try:
            await self._live(stop)
        except ConfigurationError as error:
            if fresh is None:
                raise
            self.loaded, self.reloaded = before, False
            log.error("The configuration was not accepted; the old one stays.", action="reload_refused",
                      why=str(error))  # fmt: skip

    async def _live(self, stop: asyncio.Event) -> None:
        """One life of the loops: until ``stop``, or until another target or other observers are configured."""
        self._reopen.clear()
        async with AsyncExitStack() as stack:
            flow = await open_flow(stack, self.loaded.settings, self.ledger, self.clock, leasing=True)
            loops = Loops(
                flow,
                on_settled=self._settled,
                on_change=self._changed,
                timetable=self._timetable(),
                sweeping=True,
                leasing=True,
            )
            async with loops:
                self._loops = loops
                sighting = asyncio.create_task(self._sighted(loops))
                ends = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._reopen.wait())]
                try:
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                    log.info("Nothing more is launched; what is under way is awaited.", action="draining")
                    whole = await loops.drain(self.loaded.serve.drain if stop.is_set() else 0.0)
                    log.info("Drained.", action="drained", all_settled=whole)
                finally:
                    for task in (sighting, *ends):
                        task.cancel()
                    await asyncio.gather(sighting, *ends, return_exceptions=True)
                    self._loops, self.ready = None, False

    async def _sighted(self, loops: Loops) -> None:
        await loops.sighted(float("inf"))
        self.ready = True

    async def _settled(self, _done: settling.Settled) -> None:
        """See :class:`prober.loops.Loops`; who reads the ledger sees it there."""

    async def _changed(self) -> None:
        """See :class:`prober.loops.Loops`."""

    def _timetable(self) -> Timetable:
        loaded = self.loaded
        return timetable(loaded.settings, loaded.scenarios, loaded.channels, self.clock)

    def _besides(self) -> list[tuple[str, float, Callable[[], Awaitable[None]]]]:
        return [
            ("standings", STANDINGS, self._look_at_standings),
            ("textfile", TEXTFILE, self._write_textfile),
            ("heartbeat", self.loaded.serve.heartbeat_every, self._beat),
        ]

    async def _repeat(self, name: str, period: float, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await act()
            except Exception as error:
                if self._loops is not None:
                    self._loops.internal_errors[name, type(error).__name__] += 1
                log.exception("Something beside the loops failed.", action="beside_failed", what=name)
            await self.clock.sleep(period)

    async def _look_at_standings(self) -> None:
        self.counts = await counts_of(self.loaded, self.ledger, self.clock)
        self.standings = standings_of(self.loaded, self.counts)

    async def _write_textfile(self) -> None:
        place = self.loaded.serve.textfile
        if not place:
            return
        try:
            await export(await self.metrics(), place)
        except (OSError, LedgerError) as error:
            log.warning("The textfile could not be written.", action="textfile_failed", why=str(error))

    async def _beat(self) -> None:
        """Tell a dead man's switch that all is well: the loops run, and this pass read the ledger."""
        url = self.loaded.serve.heartbeat
        if url is None or self._loops is None:
            return
        await self.ledger.read(snapshot, self.loaded.settings.location, self.clock.now())
        try:
            patience = aiohttp.ClientTimeout(total=PATIENCE)
            async with (
                aiohttp.ClientSession(timeout=patience) as session,
                session.get(url.get_secret_value()) as answer,
            ):
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            # The URL is a secret: neither it nor the error's words, which may quote it, are said.
            log.warning("The heartbeat did not get through.", action="heartbeat_failed", reason=type(error).__name__)
            return
        if status < 300:
            self.heartbeat_at = self.clock.now().wall
        else:
            log.warning("The heartbeat was not accepted.", action="heartbeat_failed", status=status)
