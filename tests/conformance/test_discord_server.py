"""The sandbox's Discord refuses what the real one refuses, as a stock client and as a bare one see it."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from prober.observers.discord_rest import USER_AGENT
from tests.conformance.discord_world import ALERTS, NEWS, TOKEN, World, running

CONTENT = 1 << 15
GUILDS, MESSAGES = 1 << 0, 1 << 9
HEADERS = {"Authorization": f"Bot {TOKEN}", "User-Agent": USER_AGENT}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as started:
        yield started


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def identified(socket: aiohttp.ClientWebSocketResponse, intents: object, token: str = TOKEN) -> None:
    assert (await socket.receive_json())["op"] == 10
    await socket.send_json({"op": 2, "d": {"token": token, "intents": intents, "properties": {}}})


async def until(socket: aiohttp.ClientWebSocketResponse, name: str) -> dict[str, Any]:
    while (told := await socket.receive_json())["t"] != name:
        continue
    assert isinstance(told["d"], dict)
    return told["d"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (HEADERS, 200),
        ({**HEADERS, "Authorization": "Bot wrong"}, 401),
        ({"User-Agent": USER_AGENT}, 401),
        ({**HEADERS, "User-Agent": "curl/8"}, 403),
    ],
)
async def test_who_may_call(world: World, session: aiohttp.ClientSession, headers: dict[str, str], status: int) -> None:
    """A call needs the bot's token and a User-Agent in Discord's form."""
    async with session.get(f"{world.server.api_url}/users/@me", headers=headers) as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")


@pytest.mark.parametrize(
    ("intents", "token", "code"),
    [
        (GUILDS | MESSAGES | CONTENT, TOKEN, 4014),
        (GUILDS | 1 << 1, TOKEN, 4014),
        (1 << 40, TOKEN, 4013),
        ("all", TOKEN, 4013),
        (GUILDS, "wrong", 4004),
    ],
)
async def test_who_may_identify(
    world: World, session: aiohttp.ClientSession, intents: object, token: str, code: int
) -> None:
    """A disallowed intent, an invalid one and a wrong token close the gateway with their codes."""
    world.server.grant_message_content = False
    async with session.ws_connect(world.server.gateway_url) as socket:
        await identified(socket, intents, token)
        assert (await socket.receive()).data == code


@pytest.mark.parametrize(("frame", "code"), [("{", 4002), ("[]", 4002), ('{"op":99}', 4001), ('{"op":3,"d":{}}', 4003)])
async def test_what_may_be_sent(world: World, session: aiohttp.ClientSession, frame: str, code: int) -> None:
    """Frames that are no JSON, unknown or too early close the gateway with their codes."""
    async with session.ws_connect(world.server.gateway_url) as socket:
        await socket.receive_json()
        await socket.send_str(frame)
        assert (await socket.receive()).data == code


async def test_an_intent_that_was_not_asked_for_withholds_content(world: World, session: aiohttp.ClientSession) -> None:
    """Without MESSAGE_CONTENT a pushed message is blank, unless it mentions the bot."""
    async with session.ws_connect(world.server.gateway_url) as socket:
        await identified(socket, GUILDS | MESSAGES)
        bot = (await until(socket, "READY"))["user"]["id"]
        await world.server.post(ALERTS, "secret", embeds=[{"title": "secret"}])
        blank = await until(socket, "MESSAGE_CREATE")
        assert (blank["content"], blank["embeds"]) == ("", [])
        await world.server.post(ALERTS, f"<@{bot}> hello")
        assert (await until(socket, "MESSAGE_CREATE"))["content"] == f"<@{bot}> hello"


async def test_a_session_resumes_with_what_it_missed(world: World, session: aiohttp.ClientSession) -> None:
    """RESUME replays each missed event once, in order; an unknown session is invalid."""
    async with session.ws_connect(world.server.gateway_url) as socket:
        await identified(socket, GUILDS | MESSAGES | CONTENT)
        ready = await until(socket, "READY")
        await until(socket, "GUILD_CREATE")
        await socket.send_json({"op": 1, "d": 2})
        assert (await socket.receive_json())["op"] == 11
        await socket.close(code=4000)
    posted = [await world.server.post(ALERTS, f"missed {number}") for number in range(3)]
    async with session.ws_connect(ready["resume_gateway_url"]) as socket:
        await socket.receive_json()
        await socket.send_json({"op": 6, "d": {"token": TOKEN, "session_id": ready["session_id"], "seq": 2}})
        told = [await socket.receive_json() for _ in range(4)]
        assert [each["d"].get("id") for each in told[:3]] == posted
        assert [each["s"] for each in told] == [3, 4, 5, 6]
        assert told[3]["t"] == "RESUMED"
    async with session.ws_connect(world.server.gateway_url) as socket:
        await socket.receive_json()
        await socket.send_json({"op": 6, "d": {"token": TOKEN, "session_id": "unknown", "seq": 2}})
        assert await socket.receive_json() == {"t": None, "s": None, "op": 9, "d": False}


async def test_a_client_that_closes_normally_ends_its_session(world: World, session: aiohttp.ClientSession) -> None:
    """Closing with 1000 ends a session: it cannot be resumed."""
    async with session.ws_connect(world.server.gateway_url) as socket:
        await identified(socket, GUILDS)
        ready = await until(socket, "READY")
        await socket.close(code=1000)
    async with session.ws_connect(world.server.gateway_url) as socket:
        await socket.receive_json()
        await socket.send_json({"op": 6, "d": {"token": TOKEN, "session_id": ready["session_id"], "seq": 1}})
        assert (await socket.receive_json())["op"] == 9


async def test_frames_share_one_zlib_stream(world: World, session: aiohttp.ClientSession) -> None:
    """With compress=zlib-stream each frame ends in a sync flush of one stream."""
    async with session.ws_connect(f"{world.server.gateway_url}?compress=zlib-stream") as socket:
        inflate = zlib.decompressobj()
        packed = await socket.receive_bytes()
        assert packed.endswith(b"\x00\x00\xff\xff")
        assert json.loads(inflate.decompress(packed))["op"] == 10
        await socket.send_json({"op": 1, "d": None})
        assert json.loads(inflate.decompress(await socket.receive_bytes()))["op"] == 11


async def test_a_webhook_answers_with_the_message_only_when_asked(world: World, session: aiohttp.ClientSession) -> None:
    """wait=true answers with the message, the default with 204; an unknown webhook is refused."""
    url = world.server.webhook_url(NEWS)
    async with session.post(url, json={"content": "one"}) as answer:
        assert answer.status == 204
    async with session.post(f"{url}?wait=true", json={"content": "two"}) as answer:
        assert (await answer.json())["content"] == "two"
    async with session.post(url, json={"content": ""}) as answer:
        assert answer.status == 400
    async with session.post(f"{url}0", json={"content": "three"}) as answer:
        assert answer.status == 404
    assert [each["content"] for each in world.server.history(NEWS)] == ["one", "two"]


async def test_a_bot_deletes_only_its_own(world: World, session: aiohttp.ClientSession) -> None:
    """A bot's own message can be deleted, the product's cannot."""
    messages = f"{world.server.api_url}/channels/{ALERTS}/messages"
    foreign = await world.server.post(ALERTS, "product")
    async with session.post(messages, json={"content": "mine"}, headers=HEADERS) as answer:
        own = (await answer.json())["id"]
    for snowflake, status in ((foreign, 403), (own, 204), (own, 404)):
        async with session.delete(f"{messages}/{snowflake}", headers=HEADERS) as answer:
            assert answer.status == status


async def test_history_pages_as_discord_does(world: World, session: aiohttp.ClientSession) -> None:
    """``after`` gives the next ones, ``before`` and the default the newest ones, each page newest first."""
    ids = [await world.server.post(ALERTS, str(number)) for number in range(10)]
    url = f"{world.server.api_url}/channels/{ALERTS}/messages"

    async def page(**query: str) -> list[str]:
        async with session.get(url, params=query, headers=HEADERS) as answer:
            return [message["id"] for message in await answer.json()]

    assert await page(after=ids[2], limit="3") == ids[3:6][::-1]
    assert await page(before=ids[5], limit="2") == ids[3:5][::-1]
    assert await page(limit="2") == ids[8:][::-1]
    async with session.get(url, params={"limit": "101"}, headers=HEADERS) as answer:
        assert answer.status == 400


async def test_every_message_is_in_the_truth_once(world: World) -> None:
    """Each message's visibility is told once, between two instants in order."""
    posted = [await world.server.post(channel, "x") for channel in (ALERTS, NEWS, ALERTS)]
    assert [visible.message_id for visible in world.truth] == posted
    assert all(visible.after.since(visible.before) >= 0 for visible in world.truth)
    assert [visible.address for visible in world.truth] == [ALERTS, NEWS, ALERTS]
