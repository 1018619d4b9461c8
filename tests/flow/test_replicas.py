"""Replicas on one ledger: each account is read by one of them, and another takes over without a leader."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from prober.clock import CROSS_BOOT_UNCERTAINTY, Instant
from prober.errors import Unreadable
from prober.leasing import EVERY, STILL
from prober.ledger.reading import observer_rows
from prober.ledger.tables import sightings, steps
from prober.loops import FIRST_SIGHT
from prober.model import Answer, Batch, Publication, Schedule, Step
from prober.sandbox.inprocess import WorldObserver, WorldTarget
from prober.sandbox.manual_clock import ManualClock
from prober.watches import LEFT_TO_HOLDERS
from tests.flow.rig import LOCATION, SCENARIO, Life, Rig, conserved, elsewhere, verdicts
from tests.flow.test_scheduling import Plan

NAMES = {"email-observer", "slack-observer", "discord-observer"}
TAKEN_OVER = (STILL + 2) * EVERY
"""Seconds after which a holder that is silent has been replaced, and the other one has read."""

WELL = ("on_time", "delivered")

each = pytest.mark.usefixtures("each_database")


class Cut:
    """Lets a replica write into the ledger, until it is ``off``: as when it is killed, or its network is gone."""

    def __init__(self) -> None:
        self.off = False

    def __call__(self, phase: str, _names: tuple[str, ...]) -> None:
        if self.off and phase == "before":
            raise ConnectionError("on purpose")


def listeners(rig: Rig, life: Life) -> Counter[str]:
    """How many observers each channel has open."""
    return Counter({name: len(rig.world.board(life.channels[name].address).watchers) for name in SCENARIO.channels})


def published(rig: Rig) -> int:
    """How many publications the target was asked for."""
    return len(rig.world.world.requests)


def count_sightings(conn: Connection) -> int:
    return len(conn.execute(select(sightings.c.id)).all())


def takers(conn: Connection) -> list[str]:
    return list(conn.execute(select(steps.c.taken_by)).scalars())


async def all_well(rig: Rig, life: Life, count: int) -> None:
    """Each probe was published once, seen everywhere once, in time, and none is left open."""
    found = await rig.results(life)
    assert [verdicts(probe) for probe in found] == [dict.fromkeys(SCENARIO.channels, WELL)] * count
    assert [delivery.copies for probe in found for delivery in probe.deliveries] == [0] * 3 * count
    assert published(rig) == count
    assert await life.flow.ledger.read(conserved)


@each
async def test_another_takes_over_from_one_that_is_dead(tmp_path: Path) -> None:
    """What the dead one published, what it was about to see, and what comes afterwards: all is seen, nothing twice."""
    rig, cut = Rig(tmp_path), Cut()
    async with rig.world_turning(), AsyncExitStack() as first:
        one = await first.enter_async_context(rig.life(cut, replica="a"))
        async with rig.life(replica="b") as two:
            await rig.clock.advance(FIRST_SIGHT)
            assert (set(one.loops.sights), set(two.loops.sights)) == (NAMES, set())
            assert listeners(rig, two) == dict.fromkeys(SCENARIO.channels, 1)
            await one.launch()
            await rig.clock.advance(0.05)
            assert published(rig) == 1
            assert await two.flow.ledger.read(count_sightings) == 0, "nothing is visible yet"
            cut.off = True
            await first.aclose()
            assert listeners(rig, two) == dict.fromkeys(SCENARIO.channels, 0)
            await two.launch()
            await rig.clock.advance(TAKEN_OVER)
            assert set(two.loops.sights) == NAMES
            assert listeners(rig, two) == dict.fromkeys(SCENARIO.channels, 1)
            await rig.clock.advance(SCENARIO.within)
            await all_well(rig, two, 2)


@each
async def test_another_takes_over_at_once_from_one_that_ends(tmp_path: Path) -> None:
    """Who is stopped lets go: by the other's next look all is its own, and nothing has stood still."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), AsyncExitStack() as first:
        one = await first.enter_async_context(rig.life(replica="a"))
        async with rig.life(replica="b") as two:
            await rig.clock.advance(1)
            await one.launch()
            await rig.clock.advance(0.05)
            await first.aclose()
            await rig.clock.advance(EVERY)
            assert set(two.loops.sights) == NAMES
            await two.launch()
            await rig.clock.advance(SCENARIO.within)
            await all_well(rig, two, 2)


class Stuck:
    """The clock of a replica that is stopped: once ``still``, whoever would sleep does not come back."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.still = False

    def now(self) -> Instant:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        if self.still:
            await asyncio.Event().wait()
        await self._clock.sleep(seconds)


class Blinkered(WorldObserver):
    """It can be made blind by itself, whatever the world's weather."""

    blind = False

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        if self.blind:
            raise Unreadable("unreachable", "only this replica")
        return await super().read(cursor, since)


@each
@pytest.mark.parametrize("what", ["push", "read", "failed read"])
async def test_who_was_taken_over_from_puts_nothing_on_record(tmp_path: Path, what: str) -> None:
    """Its leases were taken while it stood still, so it does not know. What it sees, or that it is blind, is refused by
    the ledger; then it leaves its account."""
    rig = Rig(tmp_path)
    rig.own_clock = stuck = Stuck(rig.clock)
    rig.observer = Blinkered
    slack = replace(SCENARIO, channels=("slack",))
    async with rig.world_turning(), rig.life(observers=("slack",), replica="a") as one:
        await rig.clock.advance(1)
        rig.own_clock, rig.observer, rig.pushes = rig.clock, WorldObserver, False
        async with rig.life(observers=("slack",), replica="b") as two:
            stuck.still = True
            await rig.clock.advance(2 * TAKEN_OVER)
            assert set(two.loops.sights) == {"slack-observer"}
            assert listeners(rig, two)["slack"] == 2, "the first one knows nothing of it"
            await two.launch(1, slack)
            if what != "push":
                Blinkered.blind = what == "failed read"
                await one.loops.read_again(0.0)
            while not len(rig.world.truth):
                await rig.clock.advance(0.1)
            Blinkered.blind = False
            assert listeners(rig, two)["slack"] == 1, "the first one has left"
            assert await two.flow.ledger.read(count_sightings) == 0, "the second one hears no pushes"
            (row,) = await two.flow.ledger.read(observer_rows, LOCATION)
            assert row.blind_reason == ""
            await rig.clock.advance(SCENARIO.within)
            (probe,) = await rig.results(two)
            assert verdicts(probe) == {"slack": WELL}
            assert not two.loops.internal_errors


async def test_who_observes_publishes_first(tmp_path: Path) -> None:
    """Of two clocks an interval would be wider: the other replica takes a step only where nobody else has for a while,
    though it may plan it first, and publishes as usual once it has taken over."""
    rig, cut = Rig(tmp_path), Cut()
    rig.own_clock = Late(rig.clock)
    often = Plan(rig, replace(SCENARIO, schedule=Schedule(every=7.0)))
    async with rig.world_turning(), AsyncExitStack() as first:
        await first.enter_async_context(rig.life(cut, timetable=often, replica="a"))
        rig.own_clock = rig.clock
        async with rig.life(timetable=often, replica="b") as two:
            await rig.clock.advance(36)
            assert await two.flow.ledger.read(takers) == [elsewhere("a")] * 5
            two.loops.follow(None)
            cut.off = True
            await first.aclose()
            before = published(rig)
            await two.launch()
            await rig.clock.advance(LEFT_TO_HOLDERS - 0.05)
            assert published(rig) == before
            await rig.clock.advance(0.1)
            assert published(rig) == before + 1
            await rig.clock.advance(TAKEN_OVER)
            await two.launch()
            await rig.clock.advance(0.05)
            assert published(rig) == before + 2
            await rig.clock.advance(SCENARIO.within)
            await all_well(rig, two, published(rig))


async def test_bounds_of_another_machine_are_read_around(tmp_path: Path) -> None:
    """What another replica has published, by the clock of its own machine, is awaited by the one that observes: its
    loss is certain as soon as both clocks must have passed the deadline."""
    rig = Rig(tmp_path, "channels: {slack: {loss: 1.0}}")
    slack = replace(SCENARIO, channels=("slack",))
    async with rig.world_turning(), rig.life(observers=("slack",), replica="a") as one:
        await rig.clock.advance(1)
        rig.own_clock, rig.target = Elsewhere(rig.clock), TargetElsewhere
        async with rig.life(observers=("slack",), replica="b") as two:
            await rig.clock.advance(2 * EVERY + 0.1)  # until the other one is seen to live, nothing leaves
            await two.launch(1, slack)
            await rig.clock.advance(LEFT_TO_HOLDERS + 0.1)
            assert set(await two.flow.ledger.read(takers)) == {elsewhere("b")}
            assert set(one.loops.sights) == {"slack-observer"}
            await rig.clock.advance(SCENARIO.within - 1)
            assert [verdicts(probe)["slack"][0] for probe in await rig.results(one)] == ["open"]
            await rig.clock.advance(CROSS_BOOT_UNCERTAINTY + 1.5)
            assert [verdicts(probe)["slack"][0] for probe in await rig.results(one)] == ["overdue"]


class Elsewhere:
    """Another machine's clock: it agrees about the wall time, and has started at another one."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def now(self) -> Instant:
        return there(self._clock.now())

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


def there(here: Instant) -> Instant:
    return Instant(here.wall, here.boottime + 77_777, "anotherboot0")


class TargetElsewhere(WorldTarget):
    """It is asked by another machine."""

    async def take(self, step: Step, publication: Publication) -> Answer:
        answer = await super().take(step, publication)
        return replace(answer, requested_at=there(answer.requested_at), answered_at=there(answer.answered_at))


class Late(Elsewhere):
    """A clock of this machine on which everybody wakes a little late."""

    def now(self) -> Instant:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds + 0.01 if seconds > 0 else seconds)


async def test_who_holds_nothing_is_ready_once_somebody_looks(tmp_path: Path) -> None:
    """It waits, as the holder does, until every channel was read or could not be."""
    rig = Rig(tmp_path)
    rig.observer = Waiting
    Waiting.go = asyncio.Event()
    async with rig.world_turning(), rig.life(replica="a"), rig.life(replica="b") as two:
        ready = asyncio.create_task(two.loops.sighted(math.inf))
        await rig.clock.advance(5 * EVERY)
        assert not ready.done()
        Waiting.go.set()
        await rig.clock.advance(2 * EVERY)
        assert ready.done()
        assert not two.loops.sights


class Waiting(WorldObserver):
    """Its reads begin when it is let go."""

    go: asyncio.Event

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        await self.go.wait()
        return await super().read(cursor, since)
