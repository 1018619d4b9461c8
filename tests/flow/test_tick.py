"""``tick`` on the manual clock: passes that come and go, overlap, and send now what a later one collects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from prober import stages
from prober.draft import Drafting, draft_probe
from prober.launching import Limits
from prober.ledger import planning
from prober.ledger.lock import ObservingLock
from prober.ledger.planning import PlannedProbe
from prober.ledger.slots import Timetable
from prober.model import Arrive, Channel, Control, PublicationKind, Scenario, Schedule, SlotState, Stamp
from prober.processes import this_process
from prober.report.result import DeliveryResult, ProbeResult
from prober.sandbox.inprocess import WorldObserver
from prober.sandbox.manual_clock import START, ManualClock
from prober.sandbox.weather import parse_weather
from prober.stages import Flow
from prober.ticking import AFTER_DEADLINE, Tick, Ticked
from tests.flow.rig import LOCATION, SCENARIO, Rig, conserved, verdicts

MINUTELY = replace(SCENARIO, schedule=Schedule(every=60.0))
RESOLUTIONS = {"email": 1.0, "slack": 1.0, "discord": 0.001}
GOOD = ("on_time", "delivered")
CHANNELS = ("email", "slack", "discord")
ROUNDED = 1e-4
"""Seconds by which differences of the manual clock's wall readings may be off."""

L = TypeVar("L", bound=ObservingLock)


class Polling(WorldObserver):
    """What a short-lived process has: reads, and nothing pushed."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{**settings, "poll": 1.0, "pushes": False})


class Stamping(Polling):
    """The same, with control messages whose stamps bound the provider's clock."""

    async def control(self, channel: str) -> Control:
        now, resolution = self._clock.now(), RESOLUTIONS[self._kind]
        stamp = (now.wall + self._climate.clock_offset(self._server)) // resolution * resolution
        return Control(channel, now, now, Stamp(stamp, resolution, f"world-{self._kind}"), f"control-{now.boottime}")


@dataclass
class Pass:
    """One pass that runs: ``opened`` once it works, ``over`` when it has nothing left but to close."""

    clock: ManualClock
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Future[Ticked] = field(init=False)

    async def end(self, within: float = 600.0) -> Ticked:
        """What it comes to; the clock moves on by no more than that, in steps of a tenth."""
        begun = self.clock.now()
        await self.clock.advance(0)
        while not self.over.is_set():
            assert self.clock.now().since(begun) < within, "the pass does not end"
            await self.clock.advance(0.1)
        return await self.task


class Cron:
    """Starts passes on a rig, each with a ledger, a target and observers of its own."""

    def __init__(self, rig: Rig, scenario: Scenario = MINUTELY) -> None:
        self.rig, self.scenario = rig, scenario
        rig.observer = Polling
        self.addresses = {name: channel.address for name, channel in rig.world.channels().items()}

    def lock(self) -> ObservingLock:
        return self.watched(ObservingLock(self.rig.place, LOCATION))

    def watched(self, lock: L) -> L:
        self.rig.clock.watch(lock.busy)
        return lock

    async def start(self, linger: float | None = None, lock: ObservingLock | None = None) -> Pass:
        """A pass that has opened its ledger and begins."""
        begun = Pass(self.rig.clock)
        begun.task = asyncio.ensure_future(self._tick(begun, linger, lock or self.lock()))
        await begun.opened.wait()
        return begun

    async def _tick(self, begun: Pass, linger: float | None, lock: ObservingLock) -> Ticked:
        async with self.rig.flow() as (flow, drafting, channels):
            begun.opened.set()
            alive = replace(flow, taken_by=this_process())
            try:
                return await Tick(alive, self.timetable(drafting, channels), lock, linger=linger).run(begun.stop)
            finally:
                begun.over.set()

    def timetable(self, drafting: Drafting, channels: Mapping[str, Channel]) -> Timetable:
        def draft(scenario: Scenario, slot: float, late_after: float) -> PlannedProbe:
            now = self.rig.clock.now()
            chosen = tuple(channels[name] for name in scenario.channels)
            return draft_probe(drafting, scenario, chosen, slot=slot, now=now, late_after=late_after)

        return Timetable((self.scenario,), {}, Limits(), draft, newest_only=True)

    async def finished(self, linger: float | None = None, within: float = 600.0) -> Ticked:
        """One pass from its start to its end."""
        return await (await self.start(linger)).end(within)

    async def probes(self) -> tuple[ProbeResult, ...]:
        """Everything on record, after conservation and every claim were held against the truth."""
        async with self.rig.flow() as (flow, _, _):
            assert await flow.ledger.read(conserved)
            found = await self.rig.recorded(flow)
        for probe in found:
            for delivery in probe.deliveries:
                self.hold_against_truth(probe, delivery)
        return tuple(sorted(found, key=lambda probe: probe.slot or 0))

    def hold_against_truth(self, probe: ProbeResult, delivery: DeliveryResult) -> None:
        """On this world one message belongs to one probe, by its publication."""
        world = self.rig.world
        ids = {one.publication_id for one in world.world.requests if one.probe == probe.probe}
        mine = [
            one.at.wall
            for one in world.board(self.addresses[delivery.channel]).posts
            if one.message.publication_id in ids
        ]
        first = min(mine, default=float("inf")) - (probe.requested_at or 0.0)
        if delivery.latency is not None:
            assert delivery.latency.lower - ROUNDED <= first <= delivery.latency.upper + ROUNDED, (delivery, first)
        if delivery.timeliness is not None and delivery.timeliness.verdict.value in {"on_time", "overdue"}:
            truly = "on_time" if first <= delivery.within else "overdue"
            assert delivery.timeliness.verdict.value == truly, (delivery, first)
        if delivery.outcome is not None:
            truly = "delivered" if first <= delivery.give_up else "lost"
            assert delivery.outcome.verdict.value == truly, (delivery, first)


@asynccontextmanager
async def cron(folder: Path, weather: str = "seed: 1", scenario: Scenario = MINUTELY) -> AsyncIterator[Cron]:
    rig = Rig(folder, weather)
    async with rig.world_turning():
        yield Cron(rig, scenario)


async def test_a_pass_publishes_lingers_until_all_is_settled_and_ends(tmp_path: Path) -> None:
    """It is over when the last delivery is settled, long before the deadline."""
    async with cron(tmp_path, "channels: {email: {latency: 2s}, slack: {latency: 3s}, discord: {latency: 4s}}") as it:
        ticked = await it.finished()
        assert ticked.observed
        assert ticked.slots == {SlotState.PLANNED: 1}
        assert ticked.published == {"accepted": 1}
        assert ticked.verdicts.timeliness == {"on_time": 3}
        assert ticked.verdicts.outcome == {"delivered": 3}
        assert ticked.verdicts.ambiguous == 0.0
        assert not ticked.left
        assert not ticked.blind
        assert ticked.read == {f"{name}-observer" for name in CHANNELS}
        assert 4.0 <= ticked.seconds < 10.0
        (probe,) = await it.probes()
        assert verdicts(probe) == dict.fromkeys(CHANNELS, GOOD)


async def test_it_lingers_for_what_is_lost_until_just_after_the_deadline(tmp_path: Path) -> None:
    """`within` and 5 s, no longer; the horizon is a later pass's, and every question is answered once."""
    async with cron(tmp_path, "channels: {slack: {loss: 1.0}}") as it:
        ticked = await it.finished()
        assert SCENARIO.within + AFTER_DEADLINE <= ticked.seconds < SCENARIO.within + AFTER_DEADLINE + 3.0
        assert ticked.left == 1
        (probe,) = await it.probes()
        assert verdicts(probe)["slack"] == ("overdue", "open")
        for _ in range(3):
            await it.rig.clock.advance(30)
            await it.finished()
        first, *_ = await it.probes()
        assert verdicts(first) == {"email": GOOD, "slack": ("overdue", "lost"), "discord": GOOD}


async def test_nothing_is_lingered_for_when_no_deadline_is_ahead(tmp_path: Path) -> None:
    """A pass that finds nothing due and only an old outcome open reads once and ends."""
    async with cron(tmp_path, "channels: {slack: {loss: 1.0}}", replace(MINUTELY, give_up=7200.0)) as it:
        await it.finished()
        ticked = await it.finished()
        assert ticked.observed
        assert (ticked.slots, ticked.left) == ({}, 1)
        assert ticked.seconds < 1.0


async def test_what_was_sent_without_lingering_is_ambiguous_without_bounds_on_clocks(tmp_path: Path) -> None:
    """Ten seconds that lie between two passes a minute apart may be more than thirty: nobody can say."""
    late = "channels: {email: {latency: 10s}, slack: {latency: 10s}, discord: {latency: 10s}}"
    async with cron(tmp_path, late) as it:
        for _ in range(3):
            ticked = await it.finished(linger=0.0)
            assert ticked.seconds < 2.0
            await it.rig.clock.advance(60)
        first, *_ = await it.probes()
        assert verdicts(first) == dict.fromkeys(CHANNELS, ("ambiguous", "delivered"))
        assert ticked.verdicts.ambiguous == 1.0


@pytest.mark.parametrize(("latency", "verdict"), [("10s", "on_time"), ("40s", "overdue")])
async def test_what_was_sent_without_lingering_is_dated_by_stamps(tmp_path: Path, latency: str, verdict: str) -> None:
    """Control messages bound the provider's clock, which is 100 s ahead, and its stamp then decides."""
    channel = f"{{latency: {latency}, clock: 100s}}"
    async with cron(tmp_path, f"channels: {{email: {channel}, slack: {channel}, discord: {channel}}}") as it:
        it.rig.observer = Stamping
        for _ in range(3):
            await it.finished(linger=0.0)
            await it.rig.clock.advance(60)
        first, *_ = await it.probes()
        assert verdicts(first) == dict.fromkeys(CHANNELS, (verdict, "delivered"))
        for delivery in first.deliveries:
            assert delivery.latency is not None
            assert delivery.latency.upper - delivery.latency.lower <= 2 * RESOLUTIONS[delivery.channel] + 0.3
            assert "world" in delivery.latency.basis


async def test_a_pass_that_finds_another_observing_publishes_and_leaves_it_the_rest(tmp_path: Path) -> None:
    """Cron stays open-loop: the second pass ends at once, and the first collects for both."""
    late = "channels: {email: {latency: 8s}, slack: {latency: 8s}, discord: {latency: 8s}}"
    async with cron(tmp_path, late, replace(SCENARIO, schedule=Schedule(every=5.0))) as it:
        first = await it.start()
        await it.rig.clock.advance(6)
        second = await it.finished(within=2.0)
        assert not first.over.is_set()
        assert not second.observed
        assert second.readable
        assert (second.slots, second.published) == ({SlotState.PLANNED: 1}, {"accepted": 1})
        assert not second.verdicts.timeliness
        assert second.left == 6
        collected = await first.end(within=15.0)
        assert collected.verdicts.timeliness == {"on_time": 6}
        assert collected.left == 0
        assert [verdicts(probe) for probe in await it.probes()] == [dict.fromkeys(CHANNELS, GOOD)] * 2


async def test_nothing_leaves_before_whoever_observes_has_begun_to(tmp_path: Path) -> None:
    """With the lock held and no channel ever read a message could be lost unseen: publishing waits a while."""
    async with cron(tmp_path) as it:
        held = it.lock()
        assert await held.take()
        passing = await it.start()
        await it.rig.clock.advance(9)
        assert not it.rig.world.world.requests
        assert (await passing.end(within=3.0)).published == {"accepted": 1}
        await held.release()


async def test_what_is_published_while_the_last_pass_ends_is_collected(tmp_path: Path) -> None:
    """Whoever finds the lock held relies on a look after its release: the holder takes it again."""
    fair = "channels: {email: {latency: 2s}, slack: {latency: 2s}, discord: {latency: 2s}}"
    async with cron(tmp_path, fair) as it, it.rig.flow() as (flow, drafting, channels):

        class Pressed(ObservingLock):
            """Something is planned between the last look and the release."""

            releases = 0

            async def release(self) -> None:
                self.releases += 1
                if self.releases == 1:
                    await plan_another(it, flow, drafting, channels)
                await super().release()

        lock = it.watched(Pressed(it.rig.place, LOCATION))
        ticked = await (await it.start(lock=lock)).end()
        assert lock.releases == 2
        assert ticked.left == 0
        assert ticked.verdicts.timeliness == {"on_time": 6}


async def test_each_verdict_is_told_by_the_pass_that_gave_it(tmp_path: Path) -> None:
    """One pass finds a delivery overdue; another, begun before that, finds it lost, and tells only that."""
    weather = "channels: {slack: {loss: 1.0}}"
    scenario = replace(MINUTELY, channels=("slack",), within=70.0, give_up=200.0)
    async with cron(tmp_path, weather, scenario) as it:
        first = await it.start()
        await it.rig.clock.advance(61)
        it.rig.world.climate.set_weather(parse_weather(f"{weather}\napi: {{latency: 30s}}"))
        second = await it.start(linger=float("inf"))
        told = [await first.end(), await second.end()]
        assert [dict(one.verdicts.timeliness) for one in told] == [{"overdue": 1}, {"overdue": 1}]
        assert [dict(one.verdicts.outcome) for one in told] == [{}, {"lost": 2}]


async def plan_another(it: Cron, flow: Flow, drafting: Drafting, channels: Mapping[str, Channel]) -> None:
    now = it.rig.clock.now()
    chosen = tuple(channels[name] for name in CHANNELS)
    await flow.ledger.write(
        planning.plan_probes, [draft_probe(drafting, SCENARIO, chosen, slot=now.wall, now=now, run="another", number=1)]
    )


async def test_only_the_newest_slot_is_run_and_the_missed_ones_are_counted(tmp_path: Path) -> None:
    """After ten minutes without cron one probe goes out, up to a whole period late, and nothing is made up for."""
    async with cron(tmp_path) as it:
        await it.finished()
        await it.rig.clock.advance(600)
        ticked = await it.finished()
        assert ticked.slots == {SlotState.PLANNED: 1, SlotState.DOWN: 9}
        assert len(it.rig.world.world.requests) == 2
        first, second = await it.probes()
        assert 0 < (second.requested_at or 0) - (second.slot or 0) < 60
        assert (second.slot or 0) - (first.slot or 0) == 600
        assert (second.slot or 0) > START


async def test_a_scheduled_time_counts_from_the_pass_and_not_from_an_old_slot(tmp_path: Path) -> None:
    """Were it to lie in the past, a delivery at once would be called overdue."""
    scheduled = replace(SCENARIO, kind=PublicationKind.NEWSLETTER, scheduled_after=5.0, schedule=Schedule(every=3600.0))
    async with cron(tmp_path, scenario=scheduled) as it:
        ticked = await it.finished()
        assert ticked.verdicts.timeliness == {"on_time": 3}


async def test_what_a_dead_pass_has_planned_goes_out_while_that_makes_sense(tmp_path: Path) -> None:
    """The next pass publishes it; a scheduled time that is past by then would count against the target: it is void."""
    hourly = replace(SCENARIO, schedule=Schedule(every=3600.0))
    for name, scheduled, said in (("now", None, ("on_time", "delivered")), ("later", 20.0, ("void", "void"))):
        scenario = replace(hourly, scheduled_after=scheduled)
        async with cron(tmp_path / name, scenario=scenario) as it:
            async with it.rig.flow() as (flow, drafting, channels):
                await stages.plan_slots(flow, it.timetable(drafting, channels), it.rig.clock.now())
            await it.rig.clock.advance(60)
            ticked = await it.finished()
            assert not ticked.slots
            async with it.rig.flow() as (flow, _, _):
                (probe,) = await it.rig.recorded(flow)
            assert verdicts(probe) == dict.fromkeys(CHANNELS, said)
            assert len(it.rig.world.world.requests) == (scheduled is None)


async def test_all_steps_of_a_publication_are_taken_before_a_pass_ends(tmp_path: Path) -> None:
    """A digest that is cancelled 20 s after its creation is cancelled by the pass that created it."""
    never = replace(MINUTELY, scheduled_after=60.0, cancel_after=20.0, arrive=Arrive.NEVER, give_up=120.0)
    async with cron(tmp_path, scenario=never) as it:
        ticked = await it.finished(linger=0.0)
        assert 20 <= ticked.seconds < 22
        assert [request.action for request in it.rig.world.world.requests] == ["create", "cancel"]


async def test_blindness_is_told_and_only_that_of_all_is_unreadable(tmp_path: Path) -> None:
    """One closed mailbox is named; when everything is closed nothing could be read. Publishing goes on."""
    async with cron(tmp_path / "one", "channels: {email: {outage: true}}") as it:
        ticked = await it.finished()
        assert ticked.readable
        assert list(ticked.blind) == ["email-observer"]
    shut = "channels: {email: {outage: true}, slack: {outage: true}, discord: {outage: true}}"
    async with cron(tmp_path / "all", shut) as it:
        ticked = await it.finished()
        assert not ticked.readable
        assert sorted(ticked.blind) == sorted(f"{name}-observer" for name in CHANNELS)
        assert ticked.published == {"accepted": 1}
        assert ticked.left == 3


async def test_a_stop_ends_the_waiting_and_loses_nothing(tmp_path: Path) -> None:
    """What was sent is on record as sent, and the next pass collects it."""
    late = "channels: {email: {latency: 20s}, slack: {latency: 20s}, discord: {latency: 20s}}"
    async with cron(tmp_path, late) as it:
        passing = await it.start()
        await it.rig.clock.advance(5)
        passing.stop.set()
        ticked = await passing.end(within=3.0)
        assert ticked.interrupted
        assert (ticked.published, ticked.left) == ({"accepted": 1}, 3)
        await it.finished()
        (first, *_) = await it.probes()
        assert verdicts(first) == dict.fromkeys(CHANNELS, GOOD)


async def test_no_pass_of_many_contradicts_the_truth(tmp_path: Path) -> None:
    """In bad weather, with passes that overlap, linger for any time or not at all, each claim holds."""
    bad = (
        "{seed: 5, channels: {email: {latency: {median: 9s, p99: 70s}, loss: 0.1},"
        " slack: {latency: {median: 20s, p99: 60s}, loss: 0.1, clock: -30s}, discord: {latency: 28s, copies: 0.3}}}"
    )
    async with cron(tmp_path, bad, replace(SCENARIO, schedule=Schedule(every=20.0))) as it:
        it.rig.observer = Stamping
        passes: list[Pass] = []
        for number in range(28):
            linger = (None, 0.0, 7.0)[number % 3]
            passes.append(await it.start(linger))
            await it.rig.clock.advance((7, 20, 33, 61)[number % 4])
        ended = [await each.end() for each in passes]
        await it.rig.clock.advance(200)
        await it.finished(linger=0.0)
        probes = await it.probes()
        assert len(probes) == sum(each.slots[SlotState.PLANNED] for each in ended) + 1 >= 20
        said = {verdict for probe in probes for verdict, _ in verdicts(probe).values()}
        assert said >= {"on_time", "overdue"}
        assert {each.observed for each in ended} == {True, False}
