"""What an earlier process planned and did not publish: published once it can be seen, and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from prober import stages
from prober.ad_hoc import AdHocRun, Asked
from prober.clock import Instant
from prober.draft import Drafting, draft_probe
from prober.ledger.planning import PlannedProbe
from prober.ledger.reading import ProbeRecord
from prober.loops import FIRST_SIGHT, Loops
from prober.model import Batch, PublicationKind
from prober.sandbox.inprocess import WorldObserver
from prober.sweep import Swept
from tests.flow.rig import KEYRING, SCENARIO, Life, Rig, verdicts

pytestmark = pytest.mark.usefixtures("each_database")

GOOD = ("on_time", "delivered")
SLACK = replace(SCENARIO, channels=("slack",))


class Slow(WorldObserver):
    """An observer whose reads wait until they are let through."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.gate = asyncio.Event()

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        await self.gate.wait()
        return await super().read(cursor, since)


class Silent:
    """Who is told, and listens to nothing."""

    def launched(self, probes: Sequence[PlannedProbe]) -> None:
        """See :class:`prober.ad_hoc.Listener`."""

    def changed(self, record: ProbeRecord) -> None:
        """See :class:`prober.ad_hoc.Listener`."""

    def blind(self, observer: str, why: str) -> None:
        """See :class:`prober.ad_hoc.Listener`."""

    def swept(self, swept: Swept) -> None:
        """Not asked about."""

    def held_up(self, seconds: float) -> None:
        """See :class:`prober.ad_hoc.Listener`."""


async def ignore(*_: object) -> None:
    return None


async def plan_and_die(rig: Rig, life: Life) -> str:
    """Put a probe on record in a process that ends before it could publish it."""
    await life.loops.__aexit__(None, None, None)
    (left,) = await life.launch(1, SLACK)
    await rig.clock.advance(1)
    return left


async def test_nothing_is_published_before_its_channels_are_watched(tmp_path: Path) -> None:
    """What is planned at a start leaves only once every observer has looked once, so that its loss could be told."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life(observers=()) as life:
        left = await plan_and_die(rig, life)
        channel = life.channels["slack"]
        observer = Slow("slack-observer", rig.world, (channel,))
        flow = replace(life.flow, watches=(stages.Watch(observer, {"slack": channel}),))
        async with observer, Loops(flow, on_settled=ignore, on_change=ignore):
            await rig.clock.advance(FIRST_SIGHT / 2)
            assert not rig.world.world.requests
            observer.gate.set()
            await rig.clock.advance(5)
            assert len(rig.world.world.requests) == 1
            (probe,) = await rig.results(life)
            assert (probe.probe, verdicts(probe)) == (left, {"slack": GOOD})


async def test_an_observer_that_never_looks_holds_publishing_back_only_so_long(tmp_path: Path) -> None:
    """Publishing does not wait for ever for an observer whose first read does not end."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life(observers=()) as life:
        await plan_and_die(rig, life)
        channel = life.channels["slack"]
        observer = Slow("slack-observer", rig.world, (channel,))
        flow = replace(life.flow, watches=(stages.Watch(observer, {"slack": channel}),))
        async with observer, Loops(flow, on_settled=ignore, on_change=ignore):
            await rig.clock.advance(FIRST_SIGHT + 1)
            assert len(rig.world.world.requests) == 1


async def test_a_run_waits_for_what_it_publishes_for_a_dead_one(tmp_path: Path) -> None:
    """A run ends only when the probe that an earlier process had planned, and that it published, is settled too."""
    rig = Rig(tmp_path, "windows: [{from: 0s, to: 4s, channels: {slack: {latency: 20s}}}]")
    async with rig.world_turning(), rig.life(observers=()) as life:
        left = await plan_and_die(rig, life)
        channel = life.channels["slack"]
        observer = WorldObserver("slack-observer", rig.world, (channel,))
        flow = replace(life.flow, watches=(stages.Watch(observer, {"slack": channel}),))
        stop = asyncio.Event()
        stop.set()  # it launches nothing of its own
        async with observer:
            run = AdHocRun(flow, life.drafting, [Asked(SLACK, (channel,))], Silent())
            running = asyncio.ensure_future(run.run(stop))
            await rig.clock.advance(15)
            assert not running.done()
            await rig.clock.advance(15)
            assert running.done()
            assert await running == ()
        (probe,) = await rig.results(life)
        assert (probe.probe, verdicts(probe)) == (left, {"slack": GOOD})


NEWSLETTER = replace(SLACK, name="newsletter", kind=PublicationKind.NEWSLETTER, priority="", scheduled_after=5.0)


async def test_what_is_too_late_for_its_scheduled_time_is_our_fault(tmp_path: Path) -> None:
    """A dead run's newsletter whose scheduled time has passed is never requested: void, and not the target's."""
    rig = Rig(tmp_path)
    async with rig.world_turning():
        async with rig.life(observers=()) as life:
            await life.loops.__aexit__(None, None, None)
            await life.launch(1, NEWSLETTER)
            await rig.clock.advance(10)
        async with rig.life(observers=("slack",)) as life:
            await rig.clock.advance(10)
            (probe,) = await rig.results(life)
            assert verdicts(probe) == {"slack": ("void", "void")}
            assert not rig.world.world.requests


def test_a_late_slot_schedules_ahead_of_now(tmp_path: Path) -> None:
    """A slot that is run late asks for a time ahead of now, and is not started after that time."""
    rig = Rig(tmp_path)
    now = rig.clock.now()
    drafting = Drafting("test", "here", KEYRING, {})
    channel = rig.world.channels()["slack"]
    draft = draft_probe(drafting, NEWSLETTER, (channel,), slot=now.wall - 20.0, now=now, late_after=30.0)
    assert draft.publication.scheduled_time == now.wall + 5.0
    assert draft.steps[0].late_after == 25.0
