"""Scheduled scenarios on the manual clock: every slot is run in time or counted with its reason, none twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from prober.draft import Drafting, draft_probe
from prober.launching import Budget, Limits, Maintenance
from prober.ledger.planning import PlannedProbe
from prober.ledger.slots import Timetable
from prober.ledger.tables import probes
from prober.model import Channel, Scenario, Schedule, SlotState
from prober.sandbox.manual_clock import START
from tests.flow.rig import SCENARIO, Life, Rig, conserved, total, verdicts

each = pytest.mark.usefixtures("each_database")
"""Where the database matters: the others would cost time and prove nothing more of it."""

MINUTELY = replace(SCENARIO, schedule=Schedule(every=60.0))


class Plan:
    """What recurs in a life, as a rig wants it."""

    def __init__(self, rig: Rig, scenario: Scenario = MINUTELY, limits: Limits | None = None, **rest: object) -> None:
        self.rig, self.scenario, self.limits, self.rest = rig, scenario, limits or Limits(), rest

    def __call__(self, drafting: Drafting, channels: Mapping[str, Channel]) -> Timetable:
        def draft(scenario: Scenario, slot: float, late_after: float) -> PlannedProbe:
            now = self.rig.clock.now()
            chosen = tuple(channels[name] for name in scenario.channels)
            return draft_probe(drafting, scenario, chosen, slot=slot, now=now, late_after=late_after)

        return Timetable((self.scenario,), {}, self.limits, draft, **self.rest)  # type: ignore[arg-type]


def errors_of_reading(conn: Connection) -> float:
    return total(conn, "internal_errors_total", component="observe")


def planned(conn: Connection) -> list[float]:
    return [row.slot - START for row in conn.execute(select(probes).order_by(probes.c.slot))]


async def counted(rig: Rig, life: Life) -> dict[str, float]:
    """The slots by state, those that there are."""

    def by_state(conn: Connection) -> dict[str, float]:
        found = {state.value: total(conn, "slots_total", state=state.value) for state in SlotState}
        return {state: value for state, value in found.items() if value}

    return await life.flow.ledger.read(by_state)


async def test_an_hour_of_slots_is_an_hour_of_probes(tmp_path: Path) -> None:
    """One probe a minute, each at its slot, whatever its predecessors do."""
    rig = Rig(tmp_path, "channels: {slack: {loss: 1.0}}")
    first = 60 - START % 60
    async with rig.world_turning(), rig.life(timetable=Plan(rig)) as life:
        await rig.clock.advance(3600)
        assert await life.flow.ledger.read(planned) == pytest.approx([first + 60 * n for n in range(60)])
        assert await counted(rig, life) == {"planned": 60, "started": 60}
        requested = [request.at - START for request in rig.world.world.requests]
        assert requested == pytest.approx([first + 60 * n for n in range(60)], abs=0.05)
        assert await life.flow.ledger.read(conserved)


async def test_slots_of_a_stop_are_down_and_never_made_up(tmp_path: Path) -> None:
    """Of ten minutes without a prober only the slot that is still in time is run; the others are counted."""
    rig = Rig(tmp_path)
    async with rig.world_turning():
        async with rig.life(timetable=Plan(rig)):
            await rig.clock.advance(120)
        await rig.clock.advance(600)
        async with rig.life(timetable=Plan(rig)) as life:
            await rig.clock.advance(125)
            assert await counted(rig, life) == {"planned": 5, "started": 5, "down": 9}


async def test_wall_clock_that_steps_repeats_no_slot(tmp_path: Path) -> None:
    """A step back runs no slot again; a step forward counts those it jumped over."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life(timetable=Plan(rig)) as life:
        await rig.clock.advance(300)
        rig.clock.step_wall(-120)
        await rig.clock.advance(300)
        assert await counted(rig, life) == {"planned": 8, "started": 8}
        rig.clock.step_wall(240)
        await rig.clock.advance(60)
        states = await counted(rig, life)
        assert states["planned"] == states["started"]
        assert sum(states.values()) - states["started"] == 8 + 5


@each
async def test_two_probers_on_one_ledger_share_the_slots(tmp_path: Path) -> None:
    """Each slot is run by one of them, and counted once."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life(timetable=Plan(rig)) as one, rig.life(timetable=Plan(rig)):
        await rig.clock.advance(600)
        assert await counted(rig, one) == {"planned": 10, "started": 10}
        assert len(rig.world.world.requests) == 10


async def test_five_errors_stop_launching_but_for_a_trial_a_minute(tmp_path: Path) -> None:
    """While the API answers 503, slots are held back and counted; the first other answer ends that."""
    rig = Rig(tmp_path, "windows: [{from: 0s, to: 10m, api: {status: 503}}]")
    often = replace(SCENARIO, schedule=Schedule(every=10.0))
    async with rig.world_turning(), rig.life(timetable=Plan(rig, often)) as life:
        await rig.clock.advance(600)
        states = await counted(rig, life)
        assert sum(states.values()) - states["started"] == 60
        # Five errors, then one trial a minute for the rest of ten minutes.
        assert 5 + 9 <= states["planned"] <= 5 + 10
        await rig.clock.advance(120)
        healed = await counted(rig, life)
        assert healed["planned"] - states["planned"] >= 6
        await rig.clock.advance(60)
        assert (await counted(rig, life))["planned"] - healed["planned"] == 6


async def test_budget_kill_switch_and_maintenance_hold_launching_back(tmp_path: Path) -> None:
    """Each slot that is not run says why; what is in flight is still observed and settled."""
    rig = Rig(tmp_path)
    switch = tmp_path / "stop"
    begin = START - START % 60 + 60
    limits = Limits(Budget(per_hour=12), maintenance=(Maintenance(start=begin + 300, end=begin + 600),))
    async with rig.world_turning(), rig.life(timetable=Plan(rig, limits=limits, kill_switch=str(switch))) as life:
        await rig.clock.advance(begin - START + 30)
        switch.touch()
        await rig.clock.advance(120)
        switch.unlink()
        await rig.clock.advance(1200)
        assert await counted(rig, life) == {
            "planned": 12, "started": 12, "killed": 2, "maintenance": 5, "budget": 4,
        }  # fmt: skip
        assert await life.flow.ledger.read(conserved)


@each
async def test_short_lived_process_runs_only_the_newest_slot(tmp_path: Path) -> None:
    """A pass of cron runs the newest slot, though it is almost a period old, and counts the others as down."""
    rig = Rig(tmp_path)
    often = replace(SCENARIO, schedule=Schedule(every=60.0))
    async with rig.world_turning():
        await rig.clock.advance(59)
        async with rig.life(timetable=Plan(rig, often, newest_only=True)) as life:
            await rig.clock.advance(1)
            assert await counted(rig, life) == {"planned": 1, "started": 1}
        await rig.clock.advance(180)
        async with rig.life(timetable=Plan(rig, often, newest_only=True)) as life:
            await rig.clock.advance(1)
            assert await counted(rig, life) == {"planned": 2, "started": 2, "down": 2}


async def test_drain_launches_no_more_and_waits_for_what_is_open(tmp_path: Path) -> None:
    """A graceful stop plans and takes nothing further, and ends once all is settled, or at its bound."""
    rig = Rig(tmp_path, "channels: {slack: {latency: 8s}}")
    async with rig.world_turning(), rig.life(timetable=Plan(rig)) as life:
        await rig.clock.advance(40 + 60 + 1)  # START lies 20 s behind the minute
        assert await counted(rig, life) == {"planned": 2, "started": 2}
        draining = asyncio.ensure_future(life.loops.drain(30.0))
        await rig.clock.advance(5)
        assert not draining.done()
        await rig.clock.advance(5)
        assert await draining
        await rig.clock.advance(300)
        assert await counted(rig, life) == {"planned": 2, "started": 2}


@each
async def test_drain_ends_at_its_bound_and_leaves_the_rest_on_record(tmp_path: Path) -> None:
    """What is still open at the bound stays open for the next life, which settles it."""
    rig = Rig(tmp_path, "channels: {slack: {latency: 20s}}")
    async with rig.world_turning():
        async with rig.life(timetable=Plan(rig)) as life:
            await rig.clock.advance(41)
            draining = asyncio.ensure_future(life.loops.drain(5.0))
            await rig.clock.advance(6)
            assert await draining is False
        async with rig.life() as life:
            await rig.clock.advance(30)
            (probe,) = await rig.results(life)
            assert set(verdicts(probe).values()) == {("on_time", "delivered")}


@each
async def test_errors_of_ours_are_added_to_the_totals(tmp_path: Path) -> None:
    """What went wrong in memory is on record after the next beat, once."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life() as life:
        life.loops.internal_errors["observe", "KeyError"] += 2
        assert life.loops.internal_errors.unrecorded == {("observe", "KeyError"): 2}
        await rig.clock.advance(3)
        assert not life.loops.internal_errors.unrecorded
        life.loops.internal_errors["observe", "KeyError"] += 1
        await rig.clock.advance(3)
        assert await life.flow.ledger.read(errors_of_reading) == 3
