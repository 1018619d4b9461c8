"""The sandbox's Slack refuses, limits and repeats as the real one does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from prober.sandbox.faults import RequestFault
from prober.sandbox.slack import MOST_CONNECTIONS, SlackServer
from prober.sandbox.slack_workspace import Limit
from prober.sandbox.truth import Truth
from tests.conformance.slack_world import APP, BOT, CLOCK, PRIVATE, PRODUCT, PUBLIC, Weather, slack_server

Json = dict[str, Any]


class Caller:
    """A bare client of the Web API and of Socket Mode."""

    def __init__(self, server: SlackServer, session: aiohttp.ClientSession, stack: AsyncExitStack) -> None:
        self.server = server
        self._session = session
        self._stack = stack

    async def call(self, method: str, token: str = BOT, **parameters: Any) -> Json:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self._session.post(self.server.api_url + method, json=parameters, headers=headers) as answer:
            body: Json = await answer.json()
            return body | {"status": answer.status, "retry_after": answer.headers.get("Retry-After")}

    async def hook(self, url: str, **request: Any) -> tuple[int, str]:
        async with self._session.post(url, **request) as answer:
            return answer.status, await answer.text()

    async def connect(self) -> aiohttp.ClientWebSocketResponse:
        url = (await self.call("apps.connections.open", APP))["url"]
        return await self._stack.enter_async_context(self._session.ws_connect(url))


@pytest.fixture
def weather() -> Weather:
    return Weather()


@pytest.fixture
async def caller(weather: Weather) -> AsyncIterator[Caller]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(slack_server(weather))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Caller(server, session, stack)


async def test_tokens_are_told_apart(caller: Caller) -> None:
    """No token, a wrong one, an expired one and one of the wrong sort have each their own refusal."""
    assert (await caller.call("auth.test", ""))["error"] == "not_authed"
    assert (await caller.call("auth.test", "xoxb-other"))["error"] == "invalid_auth"
    assert (await caller.call("auth.test", APP))["error"] == "not_allowed_token_type"
    assert (await caller.call("apps.connections.open", BOT))["error"] == "not_allowed_token_type"
    assert (await caller.call("auth.test"))["team_id"] == caller.server.workspace.team_id
    assert (await caller.call("no.such.method"))["error"] == "unknown_method"
    caller.server.expire_tokens()
    assert (await caller.call("auth.test"))["error"] == "token_expired"
    assert (await caller.call("auth.test", PRODUCT))["ok"]


@pytest.mark.parametrize(
    ("method", "scope", "channel"),
    [
        ("conversations.history", "channels:history", PUBLIC),
        ("conversations.history", "groups:history", PRIVATE),
        ("conversations.info", "channels:read", PUBLIC),
        ("chat.postMessage", "chat:write", PUBLIC),
    ],
)
async def test_a_missing_scope_is_named(caller: Caller, method: str, scope: str, channel: str) -> None:
    """The refusal says what is needed and what is provided."""
    assert (await caller.call(method, channel=channel, text="x"))["ok"]
    caller.server.revoke_scope(scope)
    refused = await caller.call(method, channel=channel, text="x")
    assert (refused["error"], refused["needed"]) == ("missing_scope", scope)
    assert scope not in refused["provided"].split(",")


async def test_membership_is_needed(caller: Caller) -> None:
    """A public channel says not_in_channel, a private one does not admit that it exists."""
    caller.server.leave(PUBLIC)
    caller.server.leave(PRIVATE)
    assert (await caller.call("conversations.history", channel=PUBLIC))["error"] == "not_in_channel"
    assert (await caller.call("conversations.history", channel=PRIVATE))["error"] == "channel_not_found"
    assert (await caller.call("conversations.history", channel="C0NOBODY"))["error"] == "channel_not_found"
    assert (await caller.call("conversations.info", channel=PUBLIC))["channel"]["is_member"] is False
    assert (await caller.call("chat.postMessage", channel=PUBLIC, text="x"))["error"] == "not_in_channel"


async def test_a_limit_answers_429_with_retry_after(caller: Caller) -> None:
    """Beyond its burst a method is refused, each method by itself."""
    caller.server.workspace.limits = {"conversations.history": Limit(per_minute=2, burst=1)}
    assert (await caller.call("conversations.history", channel=PUBLIC))["ok"]
    refused = await caller.call("conversations.history", channel=PUBLIC)
    assert (refused["status"], refused["error"]) == (429, "ratelimited")
    assert 25 <= int(refused["retry_after"]) <= 30
    assert (await caller.call("conversations.info", channel=PUBLIC))["ok"]


async def test_history_is_paged_newest_first(caller: Caller) -> None:
    """limit, cursor, oldest, latest and inclusive cut as Slack cuts."""
    stamps = [await caller.server.post(PUBLIC, str(number)) for number in range(5)]
    first = await caller.call("conversations.history", channel=PUBLIC, limit=2)
    assert [message["text"] for message in first["messages"]] == ["4", "3"]
    assert first["has_more"]
    cursor = first["response_metadata"]["next_cursor"]
    rest = await caller.call("conversations.history", channel=PUBLIC, limit=3, cursor=cursor)
    assert [message["text"] for message in rest["messages"]] == ["2", "1", "0"]
    assert not rest["has_more"]
    bounds = {"channel": PUBLIC, "oldest": stamps[1], "latest": stamps[3]}
    exclusive = await caller.call("conversations.history", **bounds)
    inclusive = await caller.call("conversations.history", inclusive=True, **bounds)
    assert [message["text"] for message in exclusive["messages"]] == ["2"]
    assert [message["text"] for message in inclusive["messages"]] == ["3", "2", "1"]
    for wrong, error in (({"cursor": "?"}, "invalid_cursor"), ({"oldest": "x"}, "invalid_ts_oldest")):
        assert (await caller.call("conversations.history", channel=PUBLIC, **wrong))["error"] == error


async def test_a_bot_deletes_only_its_own(caller: Caller) -> None:
    """The prober's bot cannot delete the product's message."""
    theirs = await caller.server.post(PUBLIC, "theirs")
    ours = (await caller.call("chat.postMessage", channel=PUBLIC, text="ours"))["ts"]
    assert (await caller.call("chat.delete", channel=PUBLIC, ts=theirs))["error"] == "cant_delete_message"
    assert (await caller.call("chat.delete", channel=PUBLIC, ts=ours))["ok"]
    assert (await caller.call("chat.delete", channel=PUBLIC, ts=ours))["error"] == "message_not_found"
    assert (await caller.call("chat.postMessage", channel=PUBLIC, text=""))["error"] == "no_text"


async def test_metadata_needs_its_scope_and_the_question(caller: Caller) -> None:
    """Metadata is shown only to an app that may read it and asks for it."""
    await caller.server.post(PUBLIC, "x", metadata={"event_type": "t", "event_payload": {"k": "v"}})
    plain = await caller.call("conversations.history", channel=PUBLIC)
    asked = await caller.call("conversations.history", channel=PUBLIC, include_all_metadata=True)
    caller.server.revoke_scope("metadata.message:read")
    denied = await caller.call("conversations.history", channel=PUBLIC, include_all_metadata=True)
    assert ["metadata" in answer["messages"][0] for answer in (plain, asked, denied)] == [False, True, False]


async def test_each_event_goes_to_exactly_one_connection(caller: Caller) -> None:
    """Two connections share the events, and an acknowledged one is never sent again."""
    caller.server.ack_timeout, caller.server.retry_pauses = 0.05, (0.0, 0.0)
    sockets = [await caller.connect(), await caller.connect()]
    hellos = [await socket.receive_json(timeout=5) for socket in sockets]
    assert [hello["num_connections"] for hello in hellos] == [1, 2]
    posted = {await caller.server.post(PUBLIC, str(number)) for number in range(10)}
    heard: list[str] = []

    async def listen(socket: aiohttp.ClientWebSocketResponse) -> None:
        while len(heard) < len(posted):
            body = await socket.receive_json()
            assert body["retry_attempt"] == 0
            heard.append(body["payload"]["event"]["ts"])
            await socket.send_json({"envelope_id": body["envelope_id"]})

    listeners = [asyncio.create_task(listen(socket)) for socket in sockets]
    async with asyncio.timeout(60):
        await asyncio.wait(listeners, return_when=asyncio.FIRST_COMPLETED)
    for listener in listeners:
        listener.cancel()
    await asyncio.gather(*listeners, return_exceptions=True)
    assert sorted(heard) == sorted(posted)


async def test_an_event_without_acknowledgement_is_sent_again(caller: Caller) -> None:
    """The repeated event has the same event id and counts its attempt."""
    caller.server.ack_timeout, caller.server.retry_pauses = 0.02, (0.0, 0.0)
    socket = await caller.connect()
    await socket.receive_json(timeout=5)
    await caller.server.post(PUBLIC, "x")
    first, second = await socket.receive_json(timeout=5), await socket.receive_json(timeout=5)
    assert [body["retry_attempt"] for body in (first, second)] == [0, 1]
    assert first["payload"]["event_id"] == second["payload"]["event_id"]


async def test_an_eleventh_connection_is_turned_away(caller: Caller) -> None:
    """Ten connections are let in; a ticket opens one connection only."""
    url = (await caller.call("apps.connections.open", APP))["url"]
    for _ in range(MOST_CONNECTIONS):
        socket = await caller.connect()
        assert (await socket.receive_json(timeout=5))["type"] == "hello"
    over = await caller.connect()
    assert (await over.receive_json(timeout=5))["reason"] == "too_many_websockets"
    async with aiohttp.ClientSession() as session, session.ws_connect(url):
        pass
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(url)


async def test_the_truth_brackets_what_history_shows(caller: Caller, weather: Weather) -> None:
    """on_visible is told once per message, with the ts on Slack's own, perhaps wrong, clock."""
    truth = Truth()
    caller.server.on_visible = truth.add
    weather.offset = -3600.0
    ts = await caller.server.post(PUBLIC, "x")
    (visible,) = truth.at(PUBLIC)
    assert visible.message_id == ts
    assert visible.after.since(visible.before) >= 0
    assert visible.before.wall - 3600.001 <= float(ts) <= visible.after.wall - 3599.999


async def test_a_server_returns_on_its_own_port(caller: Caller) -> None:
    """While suspended nothing answers; afterwards the same address does."""
    port = caller.server.port
    await caller.server.suspend()
    with pytest.raises(aiohttp.ClientConnectionError):
        await caller.call("auth.test")
    await caller.server.resume()
    assert (await caller.call("auth.test"))["ok"]
    assert caller.server.port == port


async def test_faults_spoil_one_method(caller: Caller, weather: Weather) -> None:
    """A delay comes first, then the true answer; a 429 carries its Retry-After."""
    weather.requests = {
        "auth.test": RequestFault(delay=0.1),
        "chat.postMessage": RequestFault(status=429, retry_after=7),
    }
    began = CLOCK.now()
    assert (await caller.call("auth.test"))["ok"]
    assert CLOCK.now().since(began) >= 0.1
    assert (await caller.call("chat.postMessage", channel=PUBLIC, text="x"))["retry_after"] == "7"


async def test_an_incoming_webhook_posts_as_the_product(caller: Caller, weather: Weather) -> None:
    """A webhook needs no token, posts to its own channel whatever the body names, and refuses in plain words."""
    url = caller.server.webhook_url(PUBLIC)
    attachments = [{"title": "[FIRING:1] Probe", "text": "words", "fallback": "words"}]
    alert = {"channel": PRIVATE, "username": "alertmanager", "attachments": attachments}
    assert await caller.hook(url, json=alert) == (200, "ok")
    assert await caller.hook(url, data={"payload": '{"text": "by form"}'}) == (200, "ok")
    shown = (await caller.call("conversations.history", channel=PUBLIC))["messages"]
    assert [(one["text"], one.get("attachments"), one["subtype"]) for one in shown] == [
        ("by form", None, "bot_message"),
        ("", attachments, "bot_message"),
    ]
    assert (await caller.call("conversations.history", channel=PRIVATE))["messages"] == []
    assert await caller.hook(url, json={"text": ""}) == (400, "no_text")
    assert await caller.hook(url, data=b"{", headers={"Content-Type": "application/json"}) == (400, "invalid_payload")
    assert await caller.hook(url[:-1] + "x", json=alert) == (404, "no_service")
    caller.server.workspace.limits["chat.postMessage"] = Limit(60, 0)
    assert (await caller.hook(url, json=alert))[0] == 429
    weather.requests["webhook"] = RequestFault(status=503)
    assert (await caller.hook(url, json=alert))[0] == 503


async def test_a_post_by_token_may_carry_attachments_alone(caller: Caller) -> None:
    """What Alertmanager sends to chat.postMessage, attachments without a text, is posted."""
    posted = await caller.call("chat.postMessage", PRODUCT, channel=PUBLIC, attachments=[{"text": "words"}])
    assert posted["ok"]
    assert posted["message"]["attachments"] == [{"text": "words"}]
