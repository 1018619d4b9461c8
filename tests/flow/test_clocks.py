"""Clocks that step, leap and sleep: slots, deadlines and latencies stay right."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from prober.draft import draft_probe
from prober.ledger.planning import PlannedProbe
from prober.model import Schedule
from prober.schedule import lateness_bound, offset_for, slots
from tests.flow.rig import LOCATION, SCENARIO, Life, Rig, conserved, total, verdicts

CHANNELS = ("email", "slack", "discord")
MIXED = "channels: {email: {latency: 10s}, slack: {latency: 31s}, discord: {loss: 1.0}}"
FAR = [-86_400.0, -60.0, 60.0, 86_400.0]
PERIOD = 60.0


def due_drafts(life: Life, after: float, period: float = PERIOD) -> list[PlannedProbe]:
    """What a planner that has planned up to ``after`` (wall) finds to plan now."""
    now = life.flow.clock.now()
    channels = tuple(life.channels[name] for name in CHANNELS)
    found = slots(Schedule(every=period), offset_for(SCENARIO.name, LOCATION, period), after, now.wall)
    return [
        draft_probe(life.drafting, SCENARIO, channels, slot=slot, now=now, late_after=lateness_bound(period))
        for slot in found
    ]


async def in_loop(rig: Rig, life: Life, drafts: Sequence[PlannedProbe]) -> None:
    """Launch while the manual clock lets the ledger work."""
    launching = asyncio.ensure_future(life.loops.launch(drafts))
    await rig.clock.advance(0)
    await launching


@pytest.mark.parametrize("step", FAR)
@pytest.mark.parametrize("at", [0.0, 5.0, 29.99, 30.0, 119.99])
async def test_step_at_any_moment_changes_no_verdict(tmp_path: Path, step: float, at: float) -> None:
    """Deadline, horizon and latency count on boottime, whenever the wall clock steps and whereto."""
    rig = Rig(tmp_path, MIXED)
    async with rig.world_turning(), rig.life() as life:
        await life.launch(1)
        await rig.clock.advance(at)
        rig.clock.step_wall(step)
        await rig.clock.advance(max(0.0, 29.98 - at))
        (probe,) = await rig.results(life)
        if at < 29.98:
            assert verdicts(probe)["discord"] == ("open", "open")
        await rig.clock.advance(121.0 - max(at, 29.98))
        (probe,) = await rig.results(life)
        assert verdicts(probe) == {
            "email": ("on_time", "delivered"),
            "slack": ("overdue", "delivered"),
            "discord": ("overdue", "lost"),
        }
        for delivery, truth in zip(probe.deliveries, (10.0, 31.0), strict=False):
            assert delivery.latency is not None
            assert delivery.latency.lower - 1e-6 <= truth <= delivery.latency.upper + 1e-6
            assert delivery.latency.upper == pytest.approx(truth, abs=0.01)
        assert await life.flow.ledger.read(conserved)
        assert not life.loops.internal_errors


@pytest.mark.parametrize("step", FAR)
async def test_step_between_plan_and_slot_neither_hastens_nor_drops_the_probe(tmp_path: Path, step: float) -> None:
    """A probe that is planned for in ten seconds leaves in ten seconds, whatever the wall clock shows then."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life() as life:
        now = rig.clock.now()
        channels = tuple(life.channels[name] for name in CHANNELS)
        draft = draft_probe(
            life.drafting, SCENARIO, channels, slot=now.wall + 10, now=now, late_after=lateness_bound(PERIOD)
        )
        await in_loop(rig, life, [draft])
        rig.clock.step_wall(step)
        await rig.clock.advance(9.9)
        assert not rig.world.world.requests
        await rig.clock.advance(0.2)
        assert len(rig.world.world.requests) == 1
        await rig.clock.advance(10)
        (probe,) = await rig.results(life)
        assert verdicts(probe) == dict.fromkeys(CHANNELS, ("on_time", "delivered"))
        assert await life.flow.ledger.read(total, "slots_total", state="late") == 0


async def test_step_back_repeats_no_slot(tmp_path: Path) -> None:
    """Wall time that comes a second time brings no second probe: a slot has one, whoever plans it and how often."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life() as life:
        before = rig.clock.now().wall
        await rig.clock.advance(PERIOD)
        await in_loop(rig, life, due_drafts(life, before))
        await rig.clock.advance(5)
        rig.clock.step_wall(-60)
        await rig.clock.advance(PERIOD)
        await in_loop(rig, life, due_drafts(life, before))
        await rig.clock.advance(5)
        assert len(rig.world.world.requests) == 1
        assert await life.flow.ledger.read(total, "slots_total", state="planned") == 1
        assert await life.flow.ledger.read(conserved)


@pytest.mark.parametrize(("leap", "period"), [(86_400.0, 900.0), (3_600.0, 60.0)])
async def test_leap_forward_makes_up_for_nothing_in_a_burst(tmp_path: Path, leap: float, period: float) -> None:
    """Slots that a leap skipped are planned and counted as late; only what is still fresh is published."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life() as life:
        before = rig.clock.now().wall
        rig.clock.step_wall(leap)
        drafts = due_drafts(life, before, period)
        assert len(drafts) in {leap / period, leap / period + 1}
        await in_loop(rig, life, drafts)
        await rig.clock.advance(10)
        assert len(rig.world.world.requests) <= 1
        late = await life.flow.ledger.read(total, "slots_total", state="late")
        assert late == len(drafts) - len(rig.world.world.requests)
        assert await life.flow.ledger.read(conserved)


async def test_suspend_over_deadline_and_horizon_is_judged_from_history(tmp_path: Path) -> None:
    """After a suspend a complete read proves what came and what did not; between the two nothing is guessed."""
    rig = Rig(tmp_path, MIXED)
    async with rig.world_turning(), rig.life() as life:
        await life.launch(1)
        await rig.clock.advance(15)
        await rig.clock.suspend(3600)
        await rig.clock.advance(1)
        (probe,) = await rig.results(life)
        found = verdicts(probe)
        assert found["email"] == ("on_time", "delivered")
        assert found["discord"] == ("overdue", "lost")
        # It came while we slept, or just now: the interval spans the night, and the deadline lies in it.
        assert found["slack"] == ("ambiguous", "delivered")
        slack = probe.deliveries[1].latency
        assert slack is not None
        assert slack.lower <= 15.1
        assert slack.upper >= 3615
        assert await life.flow.ledger.read(conserved)


async def test_suspend_before_the_deadline_leaves_what_is_left_of_it(tmp_path: Path) -> None:
    """A suspend counts: the deadline comes on boottime, which went on while the machine slept."""
    rig = Rig(tmp_path, MIXED)
    async with rig.world_turning(), rig.life() as life:
        await life.launch(1)
        await rig.clock.advance(12)
        await rig.clock.suspend(10)
        await rig.clock.advance(7.9)
        (probe,) = await rig.results(life)
        assert verdicts(probe)["discord"] == ("open", "open")
        await rig.clock.advance(0.2)
        (probe,) = await rig.results(life)
        assert verdicts(probe)["discord"] == ("overdue", "open")
        await rig.clock.advance(100)
        (probe,) = await rig.results(life)
        assert verdicts(probe) == {
            "email": ("on_time", "delivered"),
            "slack": ("overdue", "delivered"),
            "discord": ("overdue", "lost"),
        }


async def test_suspend_over_a_slot_counts_it_as_late(tmp_path: Path) -> None:
    """A probe whose slot went by while the machine slept is not published late but counted, void and our own fault."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life() as life:
        now = rig.clock.now()
        channels = tuple(life.channels[name] for name in CHANNELS)
        draft = draft_probe(
            life.drafting, SCENARIO, channels, slot=now.wall + 10, now=now, late_after=lateness_bound(PERIOD)
        )
        await in_loop(rig, life, [draft])
        await rig.clock.advance(5)
        await rig.clock.suspend(600)
        await rig.clock.advance(1)
        assert not rig.world.world.requests
        (probe,) = await rig.results(life)
        assert verdicts(probe) == dict.fromkeys(CHANNELS, ("void", "void"))
        assert await life.flow.ledger.read(total, "slots_total", state="late") == 1


@pytest.mark.parametrize("step", [-60.0, 60.0])
async def test_scheduled_message_counts_from_its_announced_time_across_a_step(tmp_path: Path, step: float) -> None:
    """The target keeps to its own clock: a step of ours after the request moves neither bound of the latency."""
    rig = Rig(tmp_path, "channels: {email: {latency: 4s}}")
    scenario = replace(SCENARIO, channels=("email",), scheduled_after=20.0, within=10.0)
    async with rig.world_turning(), rig.life(observers=("email",)) as life:
        await life.launch(1, scenario)
        await rig.clock.advance(5)
        rig.clock.step_wall(step)
        await rig.clock.advance(30)
        (probe,) = await rig.results(life)
        assert verdicts(probe) == {"email": ("on_time", "delivered")}
        assert probe.deliveries[0].latency is not None
        assert probe.deliveries[0].latency.upper == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("step", [-60.0, 60.0])
async def test_step_between_two_lives_of_one_boot_changes_no_verdict(tmp_path: Path, step: float) -> None:
    """A restart after a step goes on by boottime: what arrived between is judged as if nothing had stepped."""
    rig = Rig(tmp_path, MIXED)
    async with rig.world_turning():
        async with rig.life() as life:
            await life.launch(1)
            await rig.clock.advance(5)
        rig.clock.step_wall(step)
        await rig.clock.advance(2)
        async with rig.life() as life:
            await rig.clock.advance(115)
            (probe,) = await rig.results(life)
            assert verdicts(probe) == {
                "email": ("on_time", "delivered"),
                "slack": ("overdue", "delivered"),
                "discord": ("overdue", "lost"),
            }
            assert await life.flow.ledger.read(conserved)
