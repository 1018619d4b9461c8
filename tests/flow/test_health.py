"""The target's dependencies: asked once a minute by all processes together, on record as it told them last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from prober.clock import Instant
from prober.ledger.dependencies import ASK_EVERY, claim_health, dependency_rows, record_health
from prober.ledger.ledger import Ledger
from prober.loops import Loops
from prober.sandbox.inprocess import WorldTarget
from prober.stages import Flow
from tests.flow.rig import LOCATION, Rig

OUT = (
    "windows: [{from: 100s, to: 200s, channels: {slack: {outage: true}}}, {from: 300s, to: 400s, api: {outage: true}}]"
)
UP = {"discord": 1, "email": 1, "slack": 1}


class AskedTarget(WorldTarget):
    """Notes when it was asked for its health."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig.world)
        self.asked: list[Instant] = []

    async def health(self) -> dict[str, bool | None]:
        self.asked.append(self._clock.now())
        return await super().health()


@asynccontextmanager
async def asking(rig: Rig, processes: int) -> AsyncIterator[tuple[AskedTarget, Flow]]:
    """So many processes over one ledger, all of which ask."""

    async def ignore(*_: object) -> None:
        return None

    target = AskedTarget(rig)
    async with rig.world_turning(), rig.life(observers=()) as life, AsyncExitStack() as stack:
        flow = replace(life.flow, target=target)
        for _ in range(processes):
            await stack.enter_async_context(Loops(flow, on_settled=ignore, on_change=ignore, asking_health=True))
        await rig.clock.advance(1)
        yield target, flow


async def states(rig: Rig, flow: Flow) -> dict[str, int | None]:
    """What readers see."""
    task = asyncio.ensure_future(flow.ledger.read(dependency_rows, flow.location))
    await rig.clock.advance(0)
    return {row.name: row.up for row in await task}


@pytest.mark.parametrize("processes", [1, 3])
async def test_asked_once_a_minute(tmp_path: Path, processes: int) -> None:
    """However many processes share a ledger, the target is asked once a minute."""
    rig = Rig(tmp_path)
    async with asking(rig, processes) as (target, _):
        await rig.clock.advance(600)
        gaps = [later.since(earlier) for earlier, later in zip(target.asked, target.asked[1:], strict=False)]
        assert all(gap >= ASK_EVERY - 1e-6 for gap in gaps)
        assert 9 <= len(target.asked) <= 11


async def test_states_come_and_go(tmp_path: Path) -> None:
    """A dependency that is out is down; while the target says nothing, nothing is known; then it is up again."""
    rig = Rig(tmp_path, OUT)
    async with asking(rig, 1) as (_, flow):
        assert await states(rig, flow) == UP
        await rig.clock.advance(180)
        assert await states(rig, flow) == {**UP, "slack": 0}
        await rig.clock.advance(100)
        assert await states(rig, flow) == UP
        await rig.clock.advance(80)
        assert await states(rig, flow) == dict.fromkeys(UP)
        await rig.clock.advance(100)
        assert await states(rig, flow) == UP


async def test_who_does_not_ask_does_not(tmp_path: Path) -> None:
    """A short run asks nothing of the kind."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life(observers=()) as life:
        await rig.clock.advance(300)
        assert await states(rig, life.flow) == {}


async def test_what_it_does_not_name_any_more_is_gone(ledger: Ledger) -> None:
    """A dependency that the target names no more is forgotten; other locations keep theirs."""
    for place in (LOCATION, "elsewhere"):
        assert await ledger.write(claim_health, place, 1000.0) == 0
        await ledger.write(record_health, place, 1000.0, {"database": True, "redis": None})
    assert await ledger.write(claim_health, LOCATION, 1010.0) == pytest.approx(50)
    assert await ledger.write(claim_health, LOCATION, 1060.0) == 0
    await ledger.write(record_health, LOCATION, 1060.0, {"database": False})
    told = {place: [(row.name, row.up, row.at) for row in await ledger.read(dependency_rows, place)]
            for place in (LOCATION, "elsewhere")}  # fmt: skip
    assert told == {
        LOCATION: [("database", 0, 1060.0)],
        "elsewhere": [("database", 1, 1000.0), ("redis", None, 1000.0)],
    }


async def test_a_clock_that_was_set_back_asks_on(ledger: Ledger) -> None:
    """A wall clock that jumps back by an hour does not end the asking for that hour."""
    assert await ledger.write(claim_health, LOCATION, 10_000.0) == 0
    assert await ledger.write(claim_health, LOCATION, 6_400.0) == 0
    assert await ledger.write(claim_health, LOCATION, 6_430.0) == pytest.approx(30)
