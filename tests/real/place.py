"""The sandbox's protocol servers and the prober in one process: every knob is in reach, all traffic on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prober.ad_hoc import with_bounds
from prober.assembly import drafting, open_flow
from prober.clock import Instant, SystemClock, wait_for_any
from prober.config import Settings, settings_from_mapping
from prober.draft import draft_probe
from prober.ledger import reading
from prober.ledger.ledger import Ledger
from prober.ledger.reading import ProbeRecord
from prober.ledger.tables import instant_of
from prober.loops import Loops
from prober.model import Scenario
from prober.report.evidence import probe_result
from prober.report.result import ProbeResult
from prober.resources import contents_directory, scenarios_directory
from prober.sandbox.discord import DiscordServer
from prober.sandbox.mail import MailServers
from prober.sandbox.process import Sandbox
from prober.sandbox.records import Outgoing
from prober.sandbox.slack import SlackServer
from prober.sandbox.weather import parse_weather
from prober.sandbox.world import World
from prober.scenario_files import load_scenarios
from prober.stages import Flow
from tests.flow.rig import conserved, total

PATIENCE = 120.0
"""Seconds of real time after which a condition that has not come true fails its test."""

A_DAY = 86400.0

LOOK_AGAIN = 0.03
"""Seconds of real time between two looks at a condition that nothing announces."""

EPSILON = 1e-6

Enough = Callable[[Sequence[ProbeResult]], bool]


class HurriedClock:
    """The machine's clock, on which ``speed`` seconds pass in each; its wall reading can be stepped by ``step``."""

    def __init__(self, speed: float, start: Instant) -> None:
        self.speed = speed
        self.step = 0.0
        self._start = start

    def now(self) -> Instant:
        now = SystemClock().now()
        passed = now.since(self._start) * (self.speed - 1)
        return Instant(now.wall + passed + self.step, now.boottime + passed, now.boot_id)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.speed)


@dataclass
class Life:
    """One life of the prober; its loops run until the context ends."""

    flow: Flow
    loops: Loops
    settings: Settings
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def launch(
        self,
        count: int = 1,
        *,
        within: float,
        give_up: float,
        channels: Sequence[str] = ("email", "slack", "discord"),
        scenario: Scenario | None = None,
    ) -> tuple[str, ...]:
        """Put probes (of alert-latency) on record at once and let them leave; their names."""
        scenario = with_bounds(scenario or alert(), within, give_up)
        chosen = tuple(self.settings.channels[name] for name in channels)
        now = self.flow.clock.now()
        drafts = [
            draft_probe(
                drafting(self.settings), scenario, chosen, slot=now.wall, now=now, run=f"{now.boottime}", number=number
            )
            for number in range(count)
        ]
        await self.loops.launch(drafts)
        return tuple(draft.id for draft in drafts)

    async def records(self) -> tuple[ProbeRecord, ...]:
        names = await self.flow.ledger.read(reading.find_probes, "", 10_000)
        return await self.flow.ledger.read(reading.probe_records, names)

    async def until(self, enough: Enough) -> tuple[ProbeResult, ...]:
        """Wait until what is on record is enough, and return it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                self.changed.clear()
                results = tuple(probe_result(record) for record in await self.records())
                if enough(results):
                    return results
                await wait_for_any(SystemClock(), self.changed, LOOK_AGAIN)

    async def settled(self) -> tuple[ProbeResult, ...]:
        """Wait until both questions about every delivery are settled."""
        return await self.until(lambda probes: all(d.settled for probe in probes for d in probe.deliveries))

    async def blind_since_horizon(self, observer: str) -> None:
        """Wait until a read that began after the latest horizon has failed."""

        def late(failed: Instant | None, records: Sequence[ProbeRecord]) -> bool:
            ends = [requested.plus(row.give_up) for record in records for row in record.deliveries
                    if (requested := instant_of(record.steps[0], "requested")) is not None]  # fmt: skip
            return failed is not None and bool(ends) and all(failed.since(end) > 0 for end in ends)

        async with asyncio.timeout(PATIENCE):
            while True:
                rows = await self.flow.ledger.read(reading.observer_rows, self.flow.location)
                failed = next((instant_of(row, "failed_read") for row in rows if row.name == observer), None)
                if late(failed, await self.records()):
                    return
                await wait_for_any(SystemClock(), asyncio.Event(), LOOK_AGAIN)

    async def total(self, name: str, /, **labels: str) -> float:
        return await self.flow.ledger.read(total, name, **labels)

    async def counted(self, number: float, name: str, /, **labels: str) -> None:
        """Wait until a counter has come to a number."""
        async with asyncio.timeout(PATIENCE):
            while await self.total(name, **labels) < number:
                await wait_for_any(SystemClock(), asyncio.Event(), LOOK_AGAIN)

    async def assert_whole(self) -> None:
        """Expected = settled + open, and nothing of our own has failed."""
        assert await self.flow.ledger.read(conserved)
        assert not self.loops.internal_errors


@asynccontextmanager
async def living(flow: Flow, settings: Settings) -> AsyncIterator[Life]:
    """A life of the prober, from when its observers have looked once."""
    changed = asyncio.Event()

    async def tell(*_: object) -> None:
        changed.set()

    async with Loops(flow, on_settled=tell, on_change=tell) as loops:
        async with asyncio.timeout(PATIENCE):
            await loops.sighted(A_DAY)  # on a clock that may be hurried
        yield Life(flow, loops, settings, changed)


class Place:
    """A sandbox that runs, the configuration with which a life of the prober reaches it, and a ledger for its lives."""

    def __init__(self, folder: Path, sandbox: Sandbox, clock: HurriedClock) -> None:
        self.sandbox = sandbox
        self.ledger = str(folder / "ledger.sqlite")
        self.clock = clock
        self.configuration: dict[str, Any] = sandbox.configuration()

    @property
    def mail(self) -> MailServers:
        return self.sandbox._mail

    @property
    def slack(self) -> SlackServer:
        return self.sandbox._slack

    @property
    def discord(self) -> DiscordServer:
        return self.sandbox._discord

    @property
    def world(self) -> World:
        return self.sandbox._world

    def address(self, channel: str) -> str:
        return str(self.configuration["channels"][channel]["address"])

    async def weather(self, text: str) -> None:
        await self.sandbox.set_weather(parse_weather(text))

    def drop(self) -> None:
        """Cut every connection of the providers."""
        for server in ("email", "slack", "discord"):
            self.sandbox.drop(server)

    def letter(self, record: ProbeRecord, channel: str) -> Outgoing:
        """What the publishing system would send to a channel for a probe, had it to do it again."""
        published = self.world.find(record.steps[0].publication_id)
        place = next(place for place in self.world.places if place.name == channel)
        return self.world._message(published, place.target_channel, place.kind, place.address)

    async def carry(self, message: Outgoing) -> None:
        """Let a message become visible at its address, past the weather."""
        await self.sandbox._providers.deliver(message)

    @property
    def settings(self) -> Settings:
        return settings_from_mapping(self.configuration, "the sandbox's configuration")

    @asynccontextmanager
    async def flow(self) -> AsyncIterator[Flow]:
        """What the stages work with, on the place's ledger."""
        async with AsyncExitStack() as stack:
            ledger = await stack.enter_async_context(Ledger(self.ledger))
            yield await open_flow(stack, self.settings, ledger, self.clock)

    @asynccontextmanager
    async def life(self) -> AsyncIterator[Life]:
        """A prober whose observers have looked once."""
        async with self.flow() as flow, living(flow, self.settings) as life:
            yield life

    def truths(self) -> list[Truth]:
        return [
            Truth(said["publication_id"], said["channel"], Instant(**said["before"]), Instant(**said["after"]))
            for said in self.sandbox.truth()
        ]


@asynccontextmanager
async def place(
    folder: Path, weather: str = "seed: 1", *, speed: float = 1.0, start: Instant | None = None
) -> AsyncIterator[Place]:
    """A sandbox in this process. Time passes ``speed`` times as fast for it and the prober, who have a clock each.

    Clocks of the same ``start`` and speed agree, so one place can follow another.
    """
    start = start or SystemClock().now()
    sandbox = Sandbox(parse_weather(weather), clock=HurriedClock(speed, start))
    try:
        await sandbox.start()
        yield Place(folder, sandbox, HurriedClock(speed, start))
    finally:
        await sandbox.stop()


def alert() -> Scenario:
    """The shipped scenario alert-latency."""
    return load_scenarios(scenarios_directory(), contents_directory())["alert-latency"]


@dataclass(frozen=True, slots=True)
class Truth:
    """That a publication's message became visible on a channel between two instants."""

    publication_id: str
    channel: str
    before: Instant
    after: Instant


def untrue(records: Iterable[ProbeRecord], truths: Iterable[Truth]) -> list[str]:
    """Every verdict and interval on record that the truth contradicts, in a sentence each."""
    visible: dict[tuple[str, str], list[Truth]] = {}
    for truth in truths:
        visible.setdefault((truth.publication_id, truth.channel), []).append(truth)
    wrong = []
    for record in records:
        requested = instant_of(record.steps[0], "requested")
        if requested is None:
            continue
        for row in record.deliveries:
            spans = [(t.before.since(requested) - EPSILON, t.after.since(requested) + EPSILON)
                     for t in visible.get((record.steps[0].publication_id, row.channel), ())]  # fmt: skip
            told = f"{record.probe.id} {row.channel}: {row.timeliness}, {row.outcome}; visible {spans}"
            wrong += [f"{told}; {problem}" for problem in _problems(row, spans)]
    return wrong


def _problems(row: Any, spans: Sequence[tuple[float, float]]) -> Iterable[str]:
    before, after = min(spans, default=(float("inf"), float("inf")))
    if row.timeliness == "on_time" and before > row.within:
        yield "it was not visible within the deadline"
    if row.timeliness == "overdue" and after <= row.within:
        yield "it was visible within the deadline"
    if row.outcome == "lost" and after <= row.give_up:
        yield "it was visible before the horizon"
    if row.outcome in {"delivered", "damaged", "misplaced"} and not spans:
        yield "it was never visible"
    if row.latency_upper is not None and not (row.latency_lower <= after and before <= row.latency_upper):
        yield f"the interval [{row.latency_lower}, {row.latency_upper}] misses the truth"
