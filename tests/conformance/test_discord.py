"""What the Discord observer sees of the sandbox's Discord, over real sockets: nothing missed, nothing invented."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator

import pytest

from prober.interval import offset_from_exchange
from prober.model import How
from tests.conformance.discord_world import ALERTS, NEWS, World, running


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as started:
        yield started


async def test_a_push_is_seen_within_milliseconds_after_the_truth(world: World) -> None:
    """A pushed message's receipt is an upper bound on its truth, and lies milliseconds behind it."""
    async with world.observer() as observer:
        await world.pushing(observer)
        lags = []
        for number in range(30):
            posted = await world.server.post(ALERTS, f"alert {number}")
            (message,) = await world.heard(observer, bool)
            (truth,) = (visible for visible in world.truth if visible.message_id == posted)
            assert (message.id, message.how, message.channel) == (posted, How.PUSH, "alerts")
            assert message.seen.since(truth.before) >= 0
            lags.append(message.seen.since(truth.after))
    assert statistics.median(lags) < 0.02


@pytest.mark.parametrize("mode", ["gateway", "rest"])
async def test_reading_begins_now_and_misses_nothing_after(world: World, mode: str) -> None:
    """A first read returns nothing old and begins a new since; the next one returns all that came after it."""
    await world.server.post(ALERTS, "old")
    async with world.observer(mode=mode) as observer:
        first = await observer.read(None)
        assert first.messages == ()
        assert [(each.continues, each.ended.since(each.started) >= 0) for each in first.readings.values()] == [
            (False, True)
        ] * 2
        assert {control.channel for control in first.controls} == {"alerts", "news"}
        posted = [await world.server.post(channel, "new") for channel in (ALERTS, NEWS, ALERTS)]
        second = await observer.read(first.cursor)
        assert {message.id for message in second.messages} == set(posted)
        assert all(reading.continues for reading in second.readings.values())
        assert second.controls == ()
        assert (await observer.read(second.cursor)).messages == ()


async def test_a_cursor_resumes_in_a_new_observer(world: World) -> None:
    """What came while no observer ran is found in the history, without a gap in coverage."""
    async with world.observer() as observer:
        cursor = (await observer.read(None)).cursor
    posted = [await world.server.post(ALERTS, f"missed {number}") for number in range(250)]
    async with world.observer(mode="rest") as observer:
        batch = await observer.read(cursor)
    assert [message.id for message in batch.messages] == posted
    assert {message.how for message in batch.messages} == {How.HISTORY}
    assert all(reading.continues for reading in batch.readings.values())


async def test_a_replay_is_an_upper_bound_only_and_asks_for_a_read(world: World) -> None:
    """What a RESUME replays is labelled history, and every reconnect asks for a read."""
    async with world.observer() as observer:
        await world.pushing(observer)
        world.server.drop_connections()
        posted = await world.server.post(ALERTS, "while away")
        (message,) = await world.heard(observer, bool)
        assert (message.id, message.how) == (posted, How.HISTORY)
        world.server.drop_connections()
        assert (await observer.wait(world.clock.now().plus(60))).unread
    assert (world.server.identifies, world.server.resumes >= 1) == (1, True)


async def test_a_requested_reconnect_resumes_and_a_lost_session_identifies_anew(world: World) -> None:
    """Op 7 costs no IDENTIFY; op 9 costs one; pushes flow after both."""
    async with world.observer() as observer:
        await world.pushing(observer)
        await world.server.reconnect_all()
        await world.heard(observer, lambda _: world.server.resumes == 1 and observer.pushing)
        assert world.server.identifies == 1
        await world.server.invalidate_sessions()
        await world.heard(observer, lambda _: world.server.identifies == 2 and observer.pushing)
        posted = await world.server.post(NEWS, "again")
        assert [message.id for message in await world.heard(observer, bool)] == [posted]


async def test_a_message_with_a_lower_id_that_shows_later_is_not_missed(world: World) -> None:
    """Discord makes ids on many machines: one a second lower than the newest is still returned, once."""
    async with world.observer(mode="rest") as observer:
        first = await observer.read(None)
        world.faults.offset = 1.0
        newest = await world.server.post(ALERTS, "quick")
        second = await observer.read(first.cursor)
        late = {**world.server.history(ALERTS)[-1], "id": str(int(newest) - (500 << 22)), "content": "slow"}
        world.server.insert(late)
        third = await observer.read(second.cursor)
        assert [message.id for message in (*second.messages, *third.messages)] == [newest, late["id"]]
        assert (await observer.read(third.cursor)).messages == ()


async def test_a_lost_anchor_begins_a_new_since(world: World) -> None:
    """Where the known messages were deleted the read continues nothing, and posts a new anchor."""
    async with world.observer(mode="rest") as observer:
        first = await observer.read(None)
        for message in world.server.history(ALERTS):
            world.server.forget(ALERTS, message["id"])
        second = await observer.read(first.cursor)
        assert (second.readings["alerts"].continues, second.readings["news"].continues) == (False, True)
        assert [control.channel for control in second.controls] == ["alerts"]
        assert (await observer.read(second.cursor)).readings["alerts"].continues


async def test_another_world_behind_the_same_names_is_noticed(world: World) -> None:
    """A cursor of another guild, or one that is none, continues nothing."""
    async with world.observer(mode="rest") as observer:
        cursor = (await observer.read(None)).cursor
    async with running(guild="1290000000000000901") as other, other.observer(mode="rest") as observer:
        for stale in (cursor, "not JSON", "[1]", '{"alerts":{"anchor":"x"}}', '{"alerts":{"anchor":"1","known":7}}'):
            batch = await observer.read(stale)
            assert not any(reading.continues for reading in batch.readings.values())


async def test_a_control_message_bounds_the_providers_clock(world: World) -> None:
    """The true offset of Discord's clock lies within what one control message tells."""
    world.faults.offset = 42.0
    async with world.observer(mode="rest") as observer:
        control = await observer.control("alerts")
        offset = offset_from_exchange(
            control.sent.wall, control.answered.wall, control.stamp.at, control.stamp.resolution, control.stamp.source
        )
        assert 42.0 in offset
        assert offset.width < 1
        with pytest.raises(KeyError):
            await observer.control("elsewhere")
    (posted,) = world.server.history(ALERTS)
    assert posted["flags"] == 1 << 12


async def test_control_messages_are_never_returned(world: World) -> None:
    """Our own control messages appear neither as pushes nor in reads."""
    async with world.observer() as observer:
        await world.pushing(observer)
        cursor = (await observer.read(None)).cursor
        await observer.control("alerts")
        posted = await world.server.post(ALERTS, "real")
        assert [message.id for message in await world.heard(observer, bool)] == [posted]
        assert [message.id for message in (await observer.read(cursor)).messages] == [posted]
