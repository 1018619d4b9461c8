"""The Discord observer against the sandbox's Discord, over real sockets."""

from __future__ import annotations

import asyncio
import statistics
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from prober.clock import SystemClock
from prober.errors import Unreadable
from prober.interval import offset_from_exchange
from prober.model import Channel, ChannelKind, How, Message
from prober.observers.discord import DiscordObserver, DiscordSettings
from prober.observers.discord_rest import DiscordRest
from prober.sandbox.discord import DiscordServer, Limit
from prober.sandbox.faults import Faults, RequestFault
from prober.sandbox.truth import Truth

TOKEN = "sandbox-bot-token"
GUILD = "1290000000000000001"
ALERTS, NEWS = "1290000000000000100", "1290000000000000200"
CHANNELS = (
    Channel("alerts", ChannelKind.DISCORD, "discord", ALERTS),
    Channel("news", ChannelKind.DISCORD, "discord", NEWS),
)
HISTORY_ROUTE = "GET /channels/{channel}/messages"


class HurriedClock(SystemClock):
    """The machine's clock, on which pauses are fifty times shorter."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 50)


@dataclass
class Spoiled(Faults):
    """Faults that a test sets by hand."""

    routes: dict[str, RequestFault] = field(default_factory=dict)
    late: float | None = 0.0
    offset: float = 0.0

    def push(self, server: str, address: str) -> float | None:
        return self.late

    def request(self, server: str, action: str) -> RequestFault | None:
        return self.routes.get(action)

    def clock_offset(self, server: str) -> float:
        return self.offset


@dataclass
class World:
    """A running Discord, its weather and its truth."""

    server: DiscordServer
    faults: Spoiled
    truth: Truth
    clock: SystemClock = field(default_factory=HurriedClock)

    def observer(self, token: str = TOKEN, **settings: Any) -> DiscordObserver:
        told = {"token": token, "api_url": self.server.api_url, "gateway_url": self.server.gateway_url, **settings}
        return DiscordObserver("discord", DiscordSettings.model_validate(told), CHANNELS, self.clock)

    def controls(self, channel: str = ALERTS) -> int:
        return sum("delivery-prober control" in each["content"] for each in self.server.history(channel))

    async def pushing(self, observer: DiscordObserver) -> list[Message]:
        """Wait until pushes flow; what was pushed meanwhile."""
        return await self.heard(observer, lambda _: observer.pushing)

    async def heard(self, observer: DiscordObserver, enough: Callable[[list[Message]], bool]) -> list[Message]:
        """Wait until enough has been pushed."""
        messages: list[Message] = []
        async with asyncio.timeout(20):
            while not enough(messages):
                messages += (await observer.wait(self.clock.now().plus(1.0))).pushed
        return messages


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as started:
        yield started


@asynccontextmanager
async def running(guild: str = GUILD) -> AsyncIterator[World]:
    faults, truth = Spoiled(), Truth()
    channels = {ALERTS: "alerts", NEWS: "news"}
    server = DiscordServer(
        world_id="w1", guild_id=guild, channels=channels, token=TOKEN, faults=faults, clock=SystemClock()
    )
    server.on_visible = truth.add
    await server.start()
    try:
        yield World(server, faults, truth)
    finally:
        await server.stop()


async def reason_of(observer: DiscordObserver, cursor: str | None = None) -> str:
    with pytest.raises(Unreadable) as caught:
        await observer.read(cursor)
    assert caught.value.detail
    assert TOKEN not in str(caught.value)
    return caught.value.reason


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


async def test_nothing_is_missed_across_a_hundred_dropped_connections(world: World) -> None:
    """Every message that came while the connection fell a hundred times is returned, in complete reads."""
    posted: list[str] = []
    found: set[str] = set()
    async with world.observer() as observer:
        cursor = (await observer.read(None)).cursor
        for number in range(100):
            found |= {message.id for message in await world.pushing(observer)}
            posted.append(await world.server.post(ALERTS, f"before {number}"))
            world.server.drop_connections()
            posted.append(await world.server.post(NEWS, f"after {number}"))
            async with asyncio.timeout(5):
                wake = await observer.wait(world.clock.now().plus(60))
            found |= {message.id for message in wake.pushed}
            if number % 10 == 9:
                batch = await read_through(observer, cursor)
                assert all(reading.continues for reading in batch.readings.values())
                cursor, found = batch.cursor, found | {message.id for message in batch.messages}
    assert found == set(posted)
    assert world.server.identifies == 1


async def read_through(observer: DiscordObserver, cursor: str | None) -> Any:
    """A read, again where a connection was dropped under it."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await observer.read(cursor)
            except Unreadable as error:
                assert error.reason in {"unreachable", "timeout", "protocol"}
                await observer.wait(SystemClock().now().plus(1))


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


async def test_the_days_last_identifies_are_not_spent(world: World) -> None:
    """With few IDENTIFYs left the gateway stays away, says so, and reading goes on."""
    world.server.session_starts = 3
    async with world.observer() as observer:
        cursor = (await observer.read(None)).cursor
        posted = await world.server.post(ALERTS, "by REST")
        assert [message.id for message in (await observer.read(cursor)).messages] == [posted]
        await world.heard(observer, lambda _: "IDENTIFY" in observer.trouble)
        assert not observer.pushing
    assert world.server.identifies == 0


async def test_a_pushed_message_keeps_its_first_receipt_when_it_is_read(world: World) -> None:
    """A read returns a message that was pushed with the instant of the push."""
    async with world.observer() as observer:
        await world.pushing(observer)
        cursor = (await observer.read(None)).cursor
        await world.server.post(ALERTS, "once")
        (pushed,) = await world.heard(observer, bool)
        assert (await observer.read(cursor)).messages == (pushed,)


async def test_a_dropped_push_is_found_by_a_read(world: World) -> None:
    """Silence on the gateway hides nothing: a read finds what was never pushed, and says poll."""
    async with world.observer() as observer:
        await world.pushing(observer)
        cursor = (await observer.read(None)).cursor
        world.faults.late = None
        posted = await world.server.post(ALERTS, "unpushed")
        assert [(each.id, each.how) for each in (await observer.read(cursor)).messages] == [(posted, How.POLL)]


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


async def test_a_vanished_right_to_read_history_is_no_silence(world: World) -> None:
    """Discord's empty list is Unreadable; once the right is back the old anchor still holds."""
    async with world.observer() as observer:
        cursor = (await observer.read(None)).cursor
        world.server.revoke("READ_MESSAGE_HISTORY", ALERTS)
        posted = await world.server.post(ALERTS, "hidden")
        for _ in range(3):
            assert await reason_of(observer, cursor) == "missing_access"
        assert world.controls() == 2
        world.server.grant("READ_MESSAGE_HISTORY", ALERTS)
        batch = await observer.read(cursor)
    assert [message.id for message in batch.messages] == [posted]
    assert batch.readings["alerts"].continues


@pytest.mark.parametrize(("permission", "started"), [("VIEW_CHANNEL", True), ("SEND_MESSAGES", False)])
async def test_a_missing_permission_is_told_by_name(world: World, permission: str, started: bool) -> None:
    """Without the right to view, or to post the first control message, the read says what to grant."""
    async with world.observer(mode="rest") as observer:
        cursor = (await observer.read(None)).cursor if started else None
        world.server.revoke(permission, ALERTS)
        with pytest.raises(Unreadable, match=permission) as caught:
            await observer.read(cursor)
        assert caught.value.reason == "missing_access"


async def test_withheld_content_is_no_silence(world: World) -> None:
    """A blank message of another author is Unreadable; one that mentions the bot is read."""
    async with world.observer(mode="rest") as observer:
        first = await observer.read(None)
        world.server.grant_message_content = False
        bot = str(int(GUILD) + 2)
        mentioned = await world.server.post(ALERTS, f"<@{bot}> hello")
        second = await observer.read(first.cursor)
        assert [message.id for message in second.messages] == [mentioned]
        blank = await world.server.post(ALERTS, "for others")
        assert await reason_of(observer, second.cursor) == "content_intent"
        world.server.grant_message_content = True
        assert [message.id for message in (await observer.read(second.cursor)).messages] == [blank]


async def test_a_blank_push_is_not_a_message_but_a_reason_to_read(world: World) -> None:
    """A pushed message without content is not passed on as an empty one."""
    async with world.observer() as observer:
        await world.pushing(observer)
        await observer.wait(world.clock.now())
        world.server.grant_message_content = False
        await world.server.post(ALERTS, "", type=0)
        wake = await observer.wait(world.clock.now().plus(60))
        assert (wake.pushed, wake.unread) == ((), True)


async def test_a_disallowed_intent_is_told_with_its_mend(world: World) -> None:
    """Close code 4014 makes the observer Unreadable and names the switch in the portal."""
    world.server.grant_message_content = False
    async with world.observer() as observer:
        async with asyncio.timeout(10):
            while not (await observer.wait(world.clock.now().plus(60))).unread:
                continue
        with pytest.raises(Unreadable, match="MESSAGE CONTENT") as caught:
            await observer.read(None)
        assert caught.value.reason == "intents"
        world.server.grant_message_content = True
        await world.pushing(observer)
        assert (await observer.read(None)).readings


async def test_a_refused_token_is_told_and_not_shown(world: World) -> None:
    """A bad token is Unreadable ``auth``, and stands in no text of the observer."""
    async with world.observer("stolen-token") as observer:
        assert await reason_of(observer) == "auth"
        assert "stolen-token" not in repr(observer) + observer.trouble + repr(vars(observer))


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


async def test_a_short_rate_limit_is_waited_for_and_a_long_one_is_told(world: World) -> None:
    """A 429 is obeyed: within a read when it is short, else Unreadable, and no request goes out meanwhile."""
    world.server.limits[HISTORY_ROUTE] = Limit(1, 0.3)
    async with world.observer(mode="rest") as observer:
        cursor = (await observer.read(None)).cursor
        cursor = (await observer.read(cursor)).cursor
        world.server.limits.clear()
        world.faults.routes[HISTORY_ROUTE] = RequestFault(status=429, retry_after=60)
        assert await reason_of(observer, cursor) == "rate_limited"
        asked = world.server.requests[HISTORY_ROUTE]
        assert await reason_of(observer, cursor) == "rate_limited"
        assert world.server.requests[HISTORY_ROUTE] == asked


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (RequestFault(garbage=True), "protocol"),
        (RequestFault(status=0), "unreachable"),
        (RequestFault(status=503), "unreachable"),
        (RequestFault(status=400), "protocol"),
        (RequestFault(status=404), "missing_access"),
    ],
)
async def test_each_failure_is_typed(world: World, fault: RequestFault, reason: str) -> None:
    """Whatever Discord answers instead of its history has its own reason, and the next read recovers."""
    async with world.observer(mode="rest") as observer:
        cursor = (await observer.read(None)).cursor
        world.faults.routes[HISTORY_ROUTE] = fault
        assert await reason_of(observer, cursor) == reason
        world.faults.routes.clear()
        assert (await observer.read(cursor)).readings["alerts"].continues


async def test_a_silent_server_times_out(world: World) -> None:
    """A request that is not answered in time is Unreadable ``timeout``."""
    world.faults.routes[HISTORY_ROUTE] = RequestFault(delay=5)
    async with DiscordRest(TOKEN, world.server.api_url, world.clock, timeout=0.1) as rest:
        with pytest.raises(Unreadable) as caught:
            await rest.messages_from(ALERTS, "1")
    assert caught.value.reason == "timeout"


async def test_sight_returns_after_an_outage(world: World) -> None:
    """While the server is gone reads are ``unreachable``; afterwards both reads and pushes come back by themselves."""
    world.clock = SystemClock()
    async with world.observer() as observer:
        await world.pushing(observer)
        cursor = (await observer.read(None)).cursor
        await world.server.suspend()
        assert await reason_of(observer, cursor) == "unreachable"
        posted = await world.server.post(ALERTS, "during the outage")
        await world.server.resume()
        back = world.clock.now()
        batch = await observer.read(cursor)
        assert [message.id for message in batch.messages] == [posted]
        assert batch.readings["alerts"].continues
        await world.pushing(observer)
        assert world.clock.now().since(back) < 10
    assert world.server.identifies == 1


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


@pytest.mark.parametrize("state", ["connected", "connecting", "outage", "hung"])
async def test_leaving_is_quick_and_leaves_nothing_behind(world: World, state: str) -> None:
    """Leaving takes less than a second in any state, and no task, thread or connection stays."""
    world.clock = SystemClock()
    before = asyncio.all_tasks()
    if state == "outage":
        await world.server.suspend()
    if state == "hung":
        world.faults.routes["GET /users/@me"] = RequestFault(delay=30)
    async with world.observer() as observer:
        if state == "connected":
            await world.pushing(observer)
        else:
            await observer.wait(world.clock.now().plus(0.0 if state == "connecting" else 0.2))
        leaving = world.clock.now()
    assert world.clock.now().since(leaving) < 1
    mine = {
        task
        for task in asyncio.all_tasks() - before
        if "_handler" not in repr(task) and "RequestHandler" not in repr(task)
    }
    assert not mine
    for thread in threading.enumerate():
        if thread.name.startswith("keep-alive-handler"):
            thread.join(1)
            assert not thread.is_alive()
