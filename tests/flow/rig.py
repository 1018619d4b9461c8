"""The whole flow on the in-process world and a manual clock: hours of it in milliseconds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, select

from prober.clean_up import Upkeep
from prober.clock import Clock, boot_id
from prober.draft import Drafting, draft_probe
from prober.ledger import reading
from prober.ledger.ledger import Ledger
from prober.ledger.slots import Timetable
from prober.ledger.tables import deliveries, totals
from prober.loops import Loops
from prober.marker import Keyring, SigningKey
from prober.model import Channel, Content, PublicationKind, Scenario
from prober.observers import Witness
from prober.report.evidence import probe_result
from prober.report.result import DeliveryResult, ProbeResult
from prober.sandbox.inprocess import InProcessWorld, WorldObserver, WorldTarget
from prober.sandbox.manual_clock import ManualClock
from prober.sandbox.weather import parse_weather
from prober.stages import Flow, TraceSink, Watch
from tests.places import new_place

LOCATION = "here"
ALERT = Content(
    "alert", "delivery-probe-alert", "A delivery probe", "No action is needed.", expect=("No action is needed.",)
)
KEYRING = Keyring("test", (SigningKey("t", b"a secret that only the tests know"),))
SCENARIO = Scenario(
    name="alert-latency",
    description="An alert everywhere.",
    kind=PublicationKind.ALERT,
    channels=("email", "slack", "discord"),
    within=30.0,
    give_up=120.0,
    content=ALERT,
    priority="critical",
)


def elsewhere(replica: str) -> str:
    """The name of a process in another container of this machine: nobody can tell whether it lives."""
    return f"{boot_id()}/1/{replica}/anothercontainer"


@dataclass
class Life:
    """One life of the prober on a ledger; ``loops`` run until the context ends."""

    flow: Flow
    loops: Loops
    drafting: Drafting
    channels: Mapping[str, Channel]

    async def launch(self, count: int = 1, scenario: Scenario = SCENARIO) -> tuple[str, ...]:
        """Put probes on record and wake the publisher; returns their names."""
        now = self.flow.clock.now()
        chosen = tuple(self.channels[name] for name in scenario.channels)
        drafts = [
            draft_probe(
                self.drafting, scenario, chosen, slot=now.wall, now=now, run=f"run{now.boottime}", number=number
            )
            for number in range(count)
        ]
        await self.loops.launch(drafts)
        return tuple(draft.id for draft in drafts)


class Rig:
    """A world, a ledger file, and prober lives on them."""

    def __init__(self, folder: Path, weather: str = "seed: 1", *, poll: float | None = None) -> None:
        self.clock = ManualClock()
        self.place = new_place(folder)
        self.world = self.new_world(weather)
        self.poll = poll
        self.observer: type[WorldObserver] = WorldObserver
        self.pushes = True
        self.target: type[WorldTarget] = WorldTarget
        self.own_clock: Clock = self.clock
        self.witnesses: tuple[Witness, ...] = ()
        self.traces: TraceSink | None = None
        self.lives = 0
        self.sweeping = False
        self.upkeep = Upkeep()

    def new_world(self, weather: str = "seed: 1", world_id: str = "w0rld1") -> InProcessWorld:
        """Another world on the same clock."""
        return InProcessWorld(self.clock, parse_weather(weather), contents=[ALERT], world_id=world_id)

    @asynccontextmanager
    async def world_turning(self) -> AsyncIterator[None]:
        """The world at work."""
        async with self.world:
            yield

    @asynccontextmanager
    async def flow(
        self,
        boundary: Callable[[str, tuple[str, ...]], None] | None = None,
        *,
        observers: Sequence[str] = ("email", "slack", "discord"),
        replica: str = "",
    ) -> AsyncIterator[tuple[Flow, Drafting, Mapping[str, Channel]]]:
        """What a prober works with, while nothing repeats its stages; a ``replica``'s observers are not entered."""
        self.lives += 1
        channels = self.world.channels()
        channels = {name: replace(channel, observer=f"{name}-observer") for name, channel in channels.items()}
        async with Ledger(self.place, boundary) as ledger:
            self.clock.watch(ledger.busy)
            watches = []
            for name in observers:
                anew = partial(
                    self.observer, f"{name}-observer", self.world, (channels[name],), poll=self.poll, pushes=self.pushes
                )
                watches.append(Watch(anew(), {name: channels[name]}, anew))
            entered = () if replica else watches
            for watch in entered:
                await watch.observer.__aenter__()
            own = elsewhere(replica) if replica else f"{boot_id()}/{self.lives}/rig"
            flow = Flow(ledger, self.target(self.world), tuple(watches), self.own_clock, KEYRING, LOCATION, own,
                        self.upkeep, self.witnesses, self.traces)  # fmt: skip
            try:
                yield flow, Drafting("test", LOCATION, KEYRING, self.world.world.templates), channels
            finally:
                for watch in entered:
                    await watch.observer.__aexit__(None, None, None)

    @asynccontextmanager
    async def life(
        self,
        boundary: Callable[[str, tuple[str, ...]], None] | None = None,
        *,
        observers: Sequence[str] = ("email", "slack", "discord"),
        timetable: Callable[[Drafting, Mapping[str, Channel]], Timetable] | None = None,
        replica: str = "",
    ) -> AsyncIterator[Life]:
        """A prober from start to end; ending it in the middle is as abrupt as the ledger's commits make it.

        A ``replica`` of this name observes by lease.
        """

        async def ignore(*_: object) -> None:
            return None

        async with self.flow(boundary, observers=observers, replica=replica) as (flow, drafting, channels):
            table = timetable(drafting, channels) if timetable else None
            async with Loops(
                flow,
                on_settled=ignore,
                on_change=ignore,
                timetable=table,
                sweeping=self.sweeping,
                leasing=bool(replica),
            ) as loops:
                await self.clock.advance(0)
                yield Life(flow, loops, drafting, channels)

    async def results(self, life: Life) -> tuple[ProbeResult, ...]:
        """Every probe on record, as the JSON would tell it."""
        task = asyncio.ensure_future(self.recorded(life.flow))
        await self.clock.advance(0)
        return await task

    async def recorded(self, flow: Flow) -> tuple[ProbeResult, ...]:
        """The same where the clock need not move for the ledger to work."""
        names = await flow.ledger.read(reading.find_probes, "", 10_000)
        return tuple(probe_result(record) for record in await flow.ledger.read(reading.probe_records, names))


def verdict(delivery: DeliveryResult) -> tuple[str, str]:
    """Both verdicts as words, ``open`` where a question is."""
    return (
        delivery.timeliness.verdict.value if delivery.timeliness else "open",
        delivery.outcome.verdict.value if delivery.outcome else "open",
    )


def verdicts(probe: ProbeResult) -> dict[str, tuple[str, str]]:
    """Channel -> both verdicts."""
    return {delivery.channel: verdict(delivery) for delivery in probe.deliveries}


def total(conn: Connection, name: str, /, **labels: str) -> float:
    """The sum of a counter over all series that have these labels."""
    rows = conn.execute(select(totals.c.labels, totals.c.value).where(totals.c.name == name)).all()
    return sum(float(row.value) for row in rows if labels.items() <= json.loads(row.labels).items())


def conserved(conn: Connection) -> bool:
    """Whether expected = settled + open, by rows and by totals."""
    rows = conn.execute(select(deliveries)).all()
    settled = [row for row in rows if row.timeliness is not None and row.outcome is not None]
    closed = [row for row in rows if not row.open]
    return (
        len(settled) == len(closed)
        and total(conn, "deliveries_expected_total") == len(rows)
        and total(conn, "deliveries_total") == sum(row.outcome is not None for row in rows)
        and total(conn, "timeliness_total") == sum(row.timeliness is not None for row in rows)
    )
