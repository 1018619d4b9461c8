"""The manual clock: sleepers wake in order at their own moments, and nothing moves by itself."""

from __future__ import annotations

import asyncio
import threading

import pytest

from prober.clock import wait_for_any
from prober.sandbox import manual_clock
from prober.sandbox.manual_clock import ManualClock, settle_loop


async def test_sleepers_wake_in_order_each_at_its_own_moment() -> None:
    """An advance passes every sleeper's moment in order, those that begin to sleep on the way included."""
    clock, seen = ManualClock(), list[tuple[str, float]]()
    start = clock.now()

    async def tick(name: str, period: float) -> None:
        for _ in range(3):
            await clock.sleep(period)
            seen.append((name, clock.now().since(start)))

    tasks = [asyncio.ensure_future(tick("slow", 2.0)), asyncio.ensure_future(tick("quick", 1.5))]
    await clock.advance(4.5)
    assert seen == [("quick", 1.5), ("slow", 2.0), ("quick", 3.0), ("slow", 4.0), ("quick", 4.5)]
    await clock.advance(100)
    await asyncio.gather(*tasks)
    assert clock.sleepers == 0
    assert clock.now().since(start) == 104.5


async def test_a_step_moves_the_wall_only() -> None:
    """A stepped wall clock wakes nobody."""
    clock = ManualClock()
    start = clock.now()
    sleeping = asyncio.ensure_future(clock.sleep(10))
    await clock.advance(1)
    clock.step_wall(-60)
    await clock.advance(1)
    assert (clock.now().boottime - start.boottime, clock.now().wall - start.wall) == (2.0, -58.0)
    assert not sleeping.done()
    await clock.advance(8)
    await sleeping


async def test_a_suspend_wakes_all_at_once_and_late() -> None:
    """After a suspend what was due meanwhile wakes at the moment of waking up."""
    clock = ManualClock()
    start, seen = clock.now(), list[float]()

    async def wake(after: float) -> None:
        await clock.sleep(after)
        seen.append(clock.now().since(start))

    tasks = [asyncio.ensure_future(wake(after)) for after in (1, 2, 200)]
    await clock.advance(0)
    await clock.suspend(100)
    assert seen == [100.0, 100.0]
    await clock.advance(100)
    await asyncio.gather(*tasks)


async def test_cancelled_sleepers_leave_nothing_behind() -> None:
    """Long waits that end early do not pile up."""
    clock, event = ManualClock(), asyncio.Event()
    for _ in range(3000):
        waiting = asyncio.ensure_future(wait_for_any(clock, event, 86_400))
        await asyncio.sleep(0)
        event.set()
        assert await waiting
        event.clear()
    assert len(clock._sleepers) <= manual_clock._CROWD + 1
    assert clock.sleepers == 0


async def test_time_waits_for_watched_threads() -> None:
    """Where work goes on in a thread, an advance ends only when it is done."""
    clock, release, done = ManualClock(), threading.Event(), threading.Event()

    def work() -> None:
        release.wait(5)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    asked: list[bool] = []

    def busy() -> bool:
        asked.append(True)
        if len(asked) > 3:
            release.set()
        return not done.is_set()

    clock.watch(busy)
    await clock.advance(1)
    assert done.is_set()
    thread.join()


async def test_a_task_that_spins_is_said() -> None:
    """What never sleeps ends the advance with an error, not with a hanging test."""
    loop = asyncio.get_running_loop()
    spinning = True

    def spin() -> None:
        if spinning:
            loop.call_soon(spin)

    spin()
    with pytest.raises(RuntimeError, match="spins"):
        await settle_loop(1000)
    spinning = False
