"""When the Discord observer cannot see: each reason by its name, never silence, and sight comes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from prober.clock import SystemClock
from prober.errors import Unreadable
from prober.observers.discord_rest import DiscordRest
from prober.sandbox.discord_limits import Limit
from prober.sandbox.faults import RequestFault
from tests.conformance.discord_world import ALERTS, GUILD, HISTORY_ROUTE, TOKEN, World, reason_of, running


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as started:
        yield started


async def test_the_days_last_identifies_are_not_spent(world: World) -> None:
    """With few IDENTIFYs left the gateway stays away, says so, and reading goes on."""
    world.server.session_starts = 3
    async with world.observer() as observer:
        cursor = (await observer.read(None)).cursor
        posted = await world.server.post(ALERTS, "by REST")
        assert [message.id for message in (await observer.read(cursor)).messages] == [posted]
        await world.heard(observer, lambda _: "IDENTIFY" in observer.push_trouble)
        assert not observer.pushing
    assert world.server.identifies == 0


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
        batch = await observer.read(cursor)
        assert permission in batch.blind["alerts"].detail
        assert batch.blind["alerts"].reason == "missing_access"
        assert "alerts" not in batch.readings
        assert batch.readings  # the other channel is seen all the same


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
        async with asyncio.timeout(60):
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
        assert "stolen-token" not in repr(observer) + observer.push_trouble + repr(vars(observer))


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


@pytest.mark.parametrize("state", ["connected", "connecting", "outage", "hung"])
async def test_leaving_is_quick_and_leaves_nothing_behind(world: World, state: str) -> None:
    """Leaving takes less than a second in any state, and no task, thread or connection stays."""
    world.clock = SystemClock()
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
    await world.server.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    for thread in threading.enumerate():
        if thread.name.startswith("keep-alive-handler"):
            thread.join(1)
            assert not thread.is_alive()
