"""Replicas in trouble of their own: hiccups, observers that cannot be opened or left, predecessors that are gone."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import pytest
from structlog.testing import capture_logs

from prober.clock import Instant
from prober.errors import LedgerError
from prober.judge import MIN_BLIND_GRACE
from prober.leasing import EVERY, STILL, Leasing
from prober.ledger.leases import Lease, Replica, leases_of
from prober.ledger.ledger import Ledger
from prober.ledger.reading import observer_rows
from prober.loops import FIRST_SIGHT
from prober.model import Batch, Scenario, Wake
from prober.sandbox.inprocess import WorldObserver
from prober.sight import MAX_RETRY
from tests.flow.rig import LOCATION, SCENARIO, Life, Rig, verdicts
from tests.flow.test_replicas import NAMES, WELL, Cut, published

SLACK = replace(SCENARIO, channels=("slack",))
DEAF_FOR = 5.0


class Deaf(WorldObserver):
    """It hears no pushes, and asks for a read once it has been waited on for a while, as real ones do."""

    reads = 0

    async def wait(self, until: Instant) -> Wake:
        left = until.since(self._clock.now())
        await self._clock.sleep(min(left, DEAF_FOR))
        return Wake(unread=left > DEAF_FOR)

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        type(self).reads += 1
        return await super().read(cursor, since)


@pytest.mark.parametrize("replica", ["", "a"], ids=["alone", "by lease"])
async def test_who_hears_no_pushes_reads_all_the_same(tmp_path: Path, replica: str) -> None:
    """To keep a lease, and to publish, disturbs no observer that waits until it asks for a read."""
    rig = Rig(tmp_path)
    rig.observer = Deaf
    async with rig.world_turning(), rig.life(observers=("slack",), replica=replica) as life:
        await rig.clock.advance(1)
        Deaf.reads = 0
        for _ in range(20):
            await life.launch(1, SLACK)
            await rig.clock.advance(3)
        assert Deaf.reads >= 60 / (2 * DEAF_FOR)


async def test_a_hiccup_now_and_then_costs_no_lease(tmp_path: Path) -> None:
    """However often the ledger has failed it before, who misses one beat is not replaced."""
    failing = False

    def boundary(phase: str, names: tuple[str, ...]) -> None:
        nonlocal failing
        if failing and phase == "before" and "keep_leases" in names:
            failing = False
            raise ConnectionError("on purpose")

    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life(boundary, replica="a") as one, rig.life(replica="b") as two:
        await rig.clock.advance(FIRST_SIGHT)
        for _ in range(8):
            failing = True
            await rig.clock.advance(30)
            assert not failing
        assert (set(one.loops.sights), set(two.loops.sights)) == (NAMES, set())
        assert {lease.epoch for lease in (await one.flow.ledger.read(leases_of, LOCATION)).values()} == {1}


class Unleavable(WorldObserver):
    """Its connection cannot be closed in order."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        raise ConnectionResetError("on purpose")


async def test_what_fails_while_it_is_left_is_not_begun_again(tmp_path: Path) -> None:
    """It would keep the process from ending for ever."""
    rig = Rig(tmp_path)
    rig.observer = Unleavable
    async with rig.world_turning(), AsyncExitStack() as stack:
        life = await stack.enter_async_context(rig.life(replica="a"))
        await rig.clock.advance(1)
        assert set(life.loops.sights) == NAMES
        with capture_logs():
            async with asyncio.timeout(30):
                await stack.aclose()


class Unopenable(WorldObserver):
    """It cannot be entered while it is ``shut``."""

    shut = True

    async def __aenter__(self) -> Self:
        if self.shut:
            raise OSError("on purpose")
        return await super().__aenter__()


async def test_an_observer_that_cannot_be_opened_is_blind(tmp_path: Path) -> None:
    """On record, so that what it would have seen becomes void; publishing does not wait for it any longer than for a
    read that fails."""
    rig = Rig(tmp_path)
    rig.observer, Unopenable.shut = Unopenable, True
    soon = replace(SLACK, within=5.0, give_up=10.0)
    # Each attempt logs a traceback, whose rendering would take the test's time.
    with capture_logs():
        async with rig.world_turning(), rig.life(observers=("slack",), replica="a") as life:
            await _blind_until_opened(rig, life, soon)


async def _blind_until_opened(rig: Rig, life: Life, scenario: Scenario) -> None:
    await rig.clock.advance(1)
    (row,) = await life.flow.ledger.read(observer_rows, LOCATION)
    assert (row.blind_reason, row.blind_detail) == ("own_fault", "OSError")
    await life.launch(1, scenario)
    await rig.clock.advance(1)
    assert published(rig) == 1
    await rig.clock.advance(scenario.give_up + MIN_BLIND_GRACE + 2 * MAX_RETRY)
    (probe,) = await rig.results(life)
    assert verdicts(probe) == {"slack": ("void", "void")}
    Unopenable.shut = False
    await rig.clock.advance(2 * MAX_RETRY)
    await life.launch(1, scenario)
    await rig.clock.advance(scenario.within)
    assert {"slack": WELL} in [verdicts(probe) for probe in await rig.results(life)]


async def test_who_comes_after_one_that_is_gone_does_not_rely_on_it(tmp_path: Path) -> None:
    """What an ended process has read is no sight of ours: as after any start, publishing waits until somebody looks."""
    rig, cut = Rig(tmp_path), Cut()
    async with rig.world_turning():
        async with rig.life(cut, replica="a") as one:
            await rig.clock.advance(1)
            assert set(one.loops.sights) == NAMES
            cut.off = True
        async with rig.life(replica="b") as two:
            await two.launch()
            while not published(rig):
                await rig.clock.advance(0.5)
            assert {name for name, sight in two.loops.sights.items() if sight.last_started is not None} == NAMES


async def test_beside_one_that_lives_nothing_is_waited_for_longer(tmp_path: Path) -> None:
    """Once it is seen to beat, what it has read is sight enough."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life(replica="a"):
        await rig.clock.advance(1)
        async with rig.life(replica="b") as two:
            ready = asyncio.create_task(two.loops.sighted(math.inf))
            await rig.clock.advance(3 * EVERY)
            assert ready.done()
            assert not two.loops.sights


class Stalling:
    """A ledger elsewhere that takes the first write, and then neither accepts nor refuses any."""

    shared = True
    stalls = False

    async def read(self, _act: object, *_about: object) -> dict[str, Lease]:
        return {}

    async def write(self, _act: object, _location: str, _me: Replica, held: dict[str, int], _wanted: object) -> Any:
        if self.stalls:
            await asyncio.Event().wait()
        return held or dict.fromkeys(NAMES, 1)


async def test_who_hears_nothing_of_its_beat_for_too_long_observes_no_more(tmp_path: Path) -> None:
    """A connection that is cut without a word ends after many minutes only; others have taken over long before."""
    rig, ledger = Rig(tmp_path), Stalling()
    async with rig.flow(replica="a") as (flow, _, _):
        leasing = Leasing(replace(flow, ledger=cast(Ledger, ledger)))
        await leasing.look()
        assert set(leasing.held) == NAMES
        await rig.clock.advance(EVERY)
        ledger.stalls = True
        look = asyncio.create_task(leasing.look())
        await rig.clock.advance((STILL - 1) * EVERY - 0.1)
        assert not look.done()
        assert set(leasing.held) == NAMES
        await rig.clock.advance(0.2)
        assert look.done()
        with pytest.raises(LedgerError, match="no answer"):
            await look
        assert leasing.held == {}
