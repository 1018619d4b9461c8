"""Discord's limits as its headers tell them: buckets that routes share, the invalid requests of an address."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from prober.clock import Instant, SystemClock
from prober.errors import Unreadable
from prober.model import How
from prober.observers import discord_rest
from prober.observers.discord_rest import DiscordRest
from tests.conformance.discord_world import ALERTS, NEWS, World, running

SNOWFLAKE = "1290000000000000999"


class Scripted:
    """A Discord of a few routes, whose limits a test sets by hand."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.headers: dict[str, dict[str, str]] = {}
        self.status: dict[str, int] = {}

    async def answer(self, request: web.Request) -> web.Response:
        route = f"{request.method} {request.path}"
        self.asked[route] += 1
        status = self.status.get(route, 200)
        body: object = [] if request.method == "GET" else {"id": SNOWFLAKE}
        if status == 429:
            body = {"message": "limited", "retry_after": 60.0, "global": False}
        return web.json_response(body, status=status, headers=self.headers.get(route, {}))


@pytest.fixture
async def scripted() -> AsyncIterator[tuple[Scripted, TestServer]]:
    script = Scripted()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.answer)
    server = TestServer(app)
    async with server:
        yield script, server


class Leaping(SystemClock):
    """The machine's clock, ``ahead`` seconds on."""

    ahead = 0.0

    def now(self) -> Instant:
        return super().now().plus(self.ahead)


def full(bucket: str, after: float = 60.0) -> dict[str, str]:
    return {"X-RateLimit-Bucket": bucket, "X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": str(after)}


async def refused(asking: asyncio.Future[object] | object) -> str:
    with pytest.raises(Unreadable) as caught:
        await asking  # type: ignore[misc]
    assert caught.value.reason == "rate_limited"
    return caught.value.detail


async def test_routes_that_share_a_bucket_wait_for_each_other(scripted: tuple[Scripted, TestServer]) -> None:
    """A bucket that one route has emptied is left alone by the other, per channel, and not by what has its own."""
    script, server = scripted
    read, post = "GET /channels/{}/messages", "POST /channels/{}/messages"
    for channel in (ALERTS, NEWS):
        script.headers[read.format(channel)] = {"X-RateLimit-Bucket": "shared", "X-RateLimit-Remaining": "1"}
        script.headers[post.format(channel)] = {"X-RateLimit-Bucket": "shared", "X-RateLimit-Remaining": "1"}
    clock = Leaping()
    async with DiscordRest("token", str(server.make_url("/")), clock) as rest:
        await rest.messages_from(ALERTS, "1")
        await rest.messages_from(NEWS, "1")
        script.headers[post.format(ALERTS)] = full("shared")
        await rest.post_control(ALERTS)
        assert "lets GET" in await refused(rest.messages_from(ALERTS, "1"))
        assert script.asked[read.format(ALERTS)] == 1
        await rest.messages_from(NEWS, "1")
        clock.ahead = 61.0
        await rest.messages_from(ALERTS, "1")


async def test_invalid_requests_stop_long_before_discord_bans_the_address(
    scripted: tuple[Scripted, TestServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past our share of refused requests nothing leaves any more, with the mend, until the ten minutes are over."""
    monkeypatch.setattr(discord_rest, "INVALID_KEPT", 5)
    script, server = scripted
    route = f"GET /channels/{ALERTS}/messages"
    script.status[route] = 403
    clock = Leaping()
    async with DiscordRest("token", str(server.make_url("/")), clock) as rest:
        for _ in range(5):
            with pytest.raises(Unreadable, match="VIEW_CHANNEL"):
                await rest.messages_from(ALERTS, "1")
        assert "correct the token, the bot's rights" in await refused(rest.messages_from(ALERTS, "1"))
        assert "bans addresses" in await refused(rest.messages_from(NEWS, "1"))
        assert script.asked.total() == 5
        clock.ahead = 601.0
        script.status.clear()
        await rest.messages_from(ALERTS, "1")
    assert discord_rest.INVALID_WITHIN == 600


async def test_a_limit_of_a_shared_resource_is_no_invalid_request(
    scripted: tuple[Scripted, TestServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 429 of scope shared is not ours to answer for."""
    monkeypatch.setattr(discord_rest, "INVALID_KEPT", 1)
    script, server = scripted
    route = f"GET /channels/{ALERTS}/messages"
    script.status[route], script.headers[route] = 429, {"X-RateLimit-Scope": "shared"}
    async with DiscordRest("token", str(server.make_url("/")), SystemClock()) as rest:
        assert "in again in" in await refused(rest.messages_from(ALERTS, "1"))
        await rest.messages_from(NEWS, "1")
        script.status[f"GET /channels/{NEWS}/messages"] = 429
        await refused(rest.messages_from(NEWS, "1"))
        assert "bans addresses" in await refused(rest.guild_of(ALERTS))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as started:
        started.clock = SystemClock()  # whose five minutes are five minutes
        yield started


async def test_an_intent_that_is_granted_is_noticed_by_the_next_reads(world: World) -> None:
    """After 4014 each read looks at the application's flags, which costs no IDENTIFY; then pushes flow again."""
    world.server.grant_message_content = False
    async with world.observer() as observer:
        async with asyncio.timeout(60):
            while not observer.push_trouble:
                await observer.wait(world.clock.now().plus(0.05))
        for _ in range(3):
            with pytest.raises(Unreadable, match="MESSAGE CONTENT"):
                await observer.read(None)
        assert world.server.identifies == 1
        world.server.grant_message_content = True
        async with asyncio.timeout(60):
            while not observer.pushing:
                with pytest.raises(Unreadable, match="MESSAGE CONTENT"):
                    await observer.read(None)
                await observer.wait(world.clock.now().plus(0.5))
        assert world.server.identifies == 2
        assert (await observer.read(None)).readings


async def test_a_control_message_is_told_once_by_its_push(world: World) -> None:
    """Posted and pushed: under one id, with the instant of the frame, and read later with the same instant."""
    async with world.observer() as observer:
        cursor = (await observer.read(None)).cursor
        await world.pushing(observer)
        await observer.wait(world.clock.now())
        posted = await observer.control("alerts")
        seen = posted.shown
        async with asyncio.timeout(60):
            while seen is None:
                wake = await observer.wait(world.clock.now().plus(1))
                seen = next((each for each in wake.controls_seen if each.id == posted.id), None)
        assert (seen.channel, seen.how) == ("alerts", How.PUSH)
        batch = await observer.read(cursor)
        assert [each for each in batch.controls_seen if each.id == posted.id] == [seen]
        assert batch.messages == ()


async def test_rest_alone_costs_no_identify(world: World) -> None:
    """A short-lived process may read all day long."""
    async with world.observer(mode="rest") as observer:
        batch = await observer.read(None)
        assert [seen.id for seen in batch.controls_seen] == [control.id for control in batch.controls]
        ts = await world.server.post(ALERTS, "hello")
        assert [message.id for message in (await observer.read(batch.cursor)).messages] == [ts]
    assert world.server.identifies == 0
