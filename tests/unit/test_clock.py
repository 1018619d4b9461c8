"""Instants across wall-clock steps and boots, and waiting on a clock."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.clock import CROSS_BOOT_UNCERTAINTY, Instant, SystemClock, boot_id, rfc3339, wait_for_any
from prober.sandbox.manual_clock import ManualClock

CALM = settings(deadline=None)  # the machine may be busy with other tests
TICKS = st.integers(0, 2**31 * 64).map(lambda ticks: ticks / 64)
GAPS = st.integers(-(10**6), 10**6).map(lambda ticks: ticks / 64)
BOOTS = st.sampled_from(["one", "two"])
INSTANTS = st.builds(Instant, TICKS, TICKS, BOOTS)


@CALM
@given(INSTANTS, GAPS)
def test_a_later_instant_is_later_on_both_clocks(instant: Instant, gap: float) -> None:
    """``plus`` moves both clocks, stays in the boot, and ``since`` gives back what was added."""
    later = instant.plus(gap)
    assert later.since(instant) == gap == later.wall - instant.wall == later.boottime - instant.boottime
    assert later.boot_id == instant.boot_id


@CALM
@given(INSTANTS, GAPS, GAPS)
def test_a_step_of_the_wall_clock_changes_no_duration_within_a_boot(instant: Instant, gap: float, step: float) -> None:
    """Within one boot durations come from the boottime alone, and without doubt."""
    stepped = Instant(instant.wall + gap + step, instant.boottime + gap, instant.boot_id)
    assert stepped.since(instant) == gap
    assert stepped.doubt(instant) == 0


@CALM
@given(INSTANTS, GAPS, TICKS)
def test_across_boots_the_wall_clock_serves_with_doubt(instant: Instant, gap: float, boottime: float) -> None:
    """Boottimes of two boots are never compared, and the answer says that it may be wrong."""
    other = Instant(instant.wall + gap, boottime, "another")
    assert other.since(instant) == gap
    assert other.doubt(instant) == instant.doubt(other) == CROSS_BOOT_UNCERTAINTY


@CALM
@given(INSTANTS, INSTANTS)
def test_since_is_antisymmetric(one: Instant, other: Instant) -> None:
    """From one to the other is minus the way back."""
    assert one.since(other) == -other.since(one)


@CALM
@given(INSTANTS, TICKS)
def test_at_wall_reads_the_wall_time_asked_for(instant: Instant, wall: float) -> None:
    """The instant at a wall time shows it, on the boottime that belongs to it."""
    then = instant.at_wall(wall)
    assert then.wall == wall
    assert then.since(instant) == wall - instant.wall


@CALM
@given(st.integers(0, 4_102_444_800_000_000))
def test_rfc3339_is_read_back_to_the_microsecond(microseconds: int) -> None:
    """The text form is UTC, always with six decimals, and means the same instant."""
    text = rfc3339(microseconds / 1e6)
    assert len(text) == 27
    assert text.endswith("Z")
    assert datetime.fromisoformat(text).timestamp() == pytest.approx(microseconds / 1e6, abs=1e-6)
    assert Instant(microseconds / 1e6, 0.0, "one").rfc3339() == text


def test_rfc3339_by_example() -> None:
    """A known instant reads as expected."""
    assert rfc3339(1_790_000_000.25) == "2026-09-21T14:13:20.250000Z"


def test_the_system_clock_never_goes_back_and_knows_its_boot() -> None:
    """Boottime does not decrease, wall time is the machine's, and the boot's name is short and stable."""
    clock = SystemClock()
    before = time.time()
    first, second = clock.now(), clock.now()
    assert second.since(first) >= 0
    assert before <= first.wall + 1
    assert first.boot_id == second.boot_id == boot_id()
    assert len(boot_id()) == 12


async def test_the_system_clock_sleeps_at_least_as_long_as_asked() -> None:
    """A sleep ends after its time, and one of a negative time at once."""
    clock = SystemClock()
    before = clock.now()
    await clock.sleep(0.02)
    assert clock.now().since(before) >= 0.019
    await asyncio.wait_for(clock.sleep(-5), 2)


async def test_a_wait_ends_with_its_event() -> None:
    """An event that is set while the clock stands still ends the wait, and nothing is left behind."""
    clock, event = ManualClock(), asyncio.Event()
    waiting = asyncio.ensure_future(wait_for_any(clock, event, 60.0))
    await clock.advance(59.0)
    assert not waiting.done()
    event.set()
    assert await asyncio.wait_for(waiting, 2) is True
    assert clock.sleepers == 0


async def test_a_wait_ends_with_its_time() -> None:
    """Without the event the wait ends when its seconds have passed, neither before nor after."""
    clock, event = ManualClock(), asyncio.Event()
    waiting = asyncio.ensure_future(wait_for_any(clock, event, 60.0))
    await clock.advance(59.99)
    assert not waiting.done()
    await clock.advance(0.01)
    assert await asyncio.wait_for(waiting, 2) is False
    assert not event.is_set()


async def test_a_wait_without_bound_waits_for_its_event() -> None:
    """With None only the event ends the wait, be it after a year."""
    clock, event = ManualClock(), asyncio.Event()
    waiting = asyncio.ensure_future(wait_for_any(clock, event, None))
    await clock.advance(365 * 86400.0)
    assert not waiting.done()
    event.set()
    assert await asyncio.wait_for(waiting, 2) is True


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_a_wait_that_is_over_does_not_wait(seconds: float) -> None:
    """No time left, or an event already set, is answered at once."""
    clock, event = ManualClock(), asyncio.Event()
    assert await asyncio.wait_for(wait_for_any(clock, event, seconds), 2) is False
    event.set()
    assert await asyncio.wait_for(wait_for_any(clock, event, seconds), 2) is True
    assert await asyncio.wait_for(wait_for_any(clock, event, 3600.0), 2) is True


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    """Cancelling a wait cancels its sleep and its watch on the event."""
    clock, event = ManualClock(), asyncio.Event()
    waiting = asyncio.ensure_future(wait_for_any(clock, event, 60.0))
    await clock.advance(1.0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert clock.sleepers == 0
    assert len(asyncio.all_tasks()) == 1
