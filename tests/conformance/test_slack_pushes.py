"""Pushes from Slack by Socket Mode: at once, across losses, and gone without a trace, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from prober.model import How, Wake
from prober.sandbox.faults import RequestFault
from prober.sandbox.slack import SlackServer
from prober.sandbox.truth import Truth
from tests.conformance.slack_world import (
    APP,
    CLOCK,
    PUBLIC,
    Weather,
    listening,
    observer_of,
    pushed,
    slack_server,
    unreadable,
    wake_until,
)


@pytest.fixture
def weather() -> Weather:
    return Weather()


@pytest.fixture
async def server(weather: Weather) -> AsyncIterator[SlackServer]:
    async with slack_server(weather) as started:
        started.workspace.limits = {}
        yield started


async def test_a_push_is_seen_within_milliseconds_of_the_truth(server: SlackServer) -> None:
    """A pushed message carries the instant of its frame, right after it became visible."""
    truth = Truth()
    server.on_visible = truth.add
    async with listening(server) as (observer, _):
        ts = await server.post(PUBLIC, "hello & https://a.example/x")
        message = await pushed(observer)
    visible = truth.at(PUBLIC)[-1]
    assert (message.channel, message.id, message.how, visible.message_id) == ("slack", ts, How.PUSH, ts)
    assert message.seen.since(visible.before) >= 0
    assert message.seen.since(visible.after) < 0.25
    assert message.texts[0] == "hello & https://a.example/x"
    assert message.sender == server.workspace.publisher.bot_id
    assert message.stamp is not None
    assert message.stamp.at == int(float(ts))  # the digits behind the second are an id, no clock


async def test_an_outage_is_told_and_ends_soon_after_the_server_is_back(server: SlackServer) -> None:
    """The loss wakes, reads fail as unreachable, and 2 s after its return the connection is back and wakes again."""
    async with listening(server) as (observer, cursor):
        await server.suspend()
        await wake_until(observer, lambda wake: wake.unread)
        assert (await unreadable(observer, cursor)).reason == "unreachable"
        assert observer.push_trouble
        away = await server.post(PUBLIC, "in the dark")
        await server.resume()
        back = CLOCK.now()
        await wake_until(observer, lambda wake: wake.unread)
        assert CLOCK.now().since(back) < 2.0
        assert observer.push_trouble == ""
        batch = await observer.read(cursor)
        assert [(message.id, message.how) for message in batch.messages] == [(away, How.HISTORY)]
        await server.post(PUBLIC, "in the light")
        assert (await pushed(observer)).texts == ("in the light",)


async def test_a_retried_envelope_is_read_from_the_history(server: SlackServer) -> None:
    """The late instant of a repeated push is not taken for a sighting: the observer asks to be read."""
    server.ack_timeout, server.retry_pauses = 0.05, (0.0, 0.1, 0.1, 0.1)
    async with listening(server) as (observer, cursor), AsyncExitStack() as stack:
        thief = await steal(server, stack)
        ts = await server.post(PUBLIC, "one")
        other = await server.post(PUBLIC, "two")
        wake = await wake_until(observer, lambda wake: wake.unread)
        assert len(wake.pushed) <= 1
        await thief.close()
        batch = await observer.read(cursor)
    assert [message.id for message in batch.messages] == [ts, other]
    assert How.HISTORY in {message.how for message in batch.messages}


async def steal(server: SlackServer, stack: AsyncExitStack) -> aiohttp.ClientWebSocketResponse:
    """A second consumer of the same app, which acknowledges nothing."""
    session = await stack.enter_async_context(aiohttp.ClientSession(headers={"Authorization": f"Bearer {APP}"}))
    async with session.post(f"{server.api_url}apps.connections.open") as answer:
        url = (await answer.json())["url"]
    socket = await stack.enter_async_context(session.ws_connect(url))
    await socket.receive()
    return socket


async def test_a_second_consumer_of_the_app_is_told(server: SlackServer) -> None:
    """An app whose events somebody else takes too is named as trouble."""
    async with AsyncExitStack() as stack:
        await steal(server, stack)
        async with listening(server) as (observer, _):
            assert "1 other connection" in observer.push_trouble


async def test_a_push_is_acknowledged(server: SlackServer) -> None:
    """An envelope that was heard is not sent again."""
    server.ack_timeout, server.retry_pauses = 0.2, (0.0, 0.0)
    async with listening(server) as (observer, _):
        await server.post(PUBLIC, "once")
        await pushed(observer)
        assert await observer.wait(CLOCK.now().plus(0.4)) == Wake()


async def test_a_refused_handshake_is_tried_again(server: SlackServer, weather: Weather) -> None:
    """While Slack refuses the socket itself the trouble is told, without its ticket; then pushes flow."""
    weather.requests["link"] = RequestFault(status=503)
    async with observer_of(server) as observer:
        while "503" not in observer.push_trouble:
            assert await observer.wait(CLOCK.now().plus(0.02)) == Wake()
        assert "ticket" not in observer.push_trouble
        weather.requests.clear()
        await wake_until(observer, lambda wake: wake.unread)
        assert observer.push_trouble == ""


async def test_a_refresh_opens_the_new_connection_before_the_old_one_ends(server: SlackServer) -> None:
    """While Slack replaces a connection, two are open, and pushes go on."""
    server.refresh_warning = 0.5
    async with listening(server) as (observer, _):
        await server.refresh()
        await server.connected()
        assert server.connections == 2
        await server.post(PUBLIC, "meanwhile")
        assert (await pushed(observer)).texts == ("meanwhile",)
        assert observer.push_trouble == ""


async def test_a_refused_app_token_leaves_the_reads(server: SlackServer) -> None:
    """Without Socket Mode the observer still reads completely and says why nothing is pushed."""
    async with observer_of(server, app_token="xapp-wrong") as observer:
        cursor = (await observer.read(None)).cursor
        ts = await server.post(PUBLIC, "read, not pushed")
        assert [message.id for message in (await observer.read(cursor)).messages] == [ts]
        async with asyncio.timeout(60):
            wake = await observer.wait(CLOCK.now().plus(15))
        assert wake.unread
        assert "invalid_auth" in observer.push_trouble


async def test_leaving_is_quick_and_leaves_nothing_behind(server: SlackServer) -> None:
    """Connected, reconnecting or never connected: leaving takes less than a second and ends every task."""
    tasks = asyncio.all_tasks()
    for state in ("connected", "reconnecting", "fresh"):
        observer = await observer_of(server).__aenter__()
        if state != "fresh":
            await wake_until(observer, lambda wake: wake.unread)
        if state == "reconnecting":
            await server.suspend()
            await wake_until(observer, lambda wake: wake.unread)
        began = CLOCK.now()
        await observer.__aexit__(None, None, None)
        assert CLOCK.now().since(began) < 1.0
        await server.resume()
    leaked = {task for task in asyncio.all_tasks() - tasks if "slack" in task.get_name()}
    assert leaked == set()
