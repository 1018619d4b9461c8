"""Histories in which a stranger has left what no parser likes: the messages beside it are read all the same."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from prober.clock import SystemClock
from prober.model import Channel, ChannelKind, Message
from prober.observers.discord import DiscordObserver, DiscordSettings
from prober.observers.imap_folder import MOST_BYTES
from prober.observers.imap_session import CHUNK
from prober.observers.slack import SlackObserver, SlackSettings
from tests.conformance.mail_post import post_office, subjects

HOSTILE = {
    "deep arrays": "[" * 50_000 + "]" * 50_000,
    "deep objects": '{"a":' * 50_000 + "null" + "}" * 50_000,
    "deep and odd strings": '["]\\"[",' * 5000 + '"\\\\"' + "]" * 5000,
    "huge integer": "-" + "9" * 50_000,
    "huge number": "9" * 500 + "e" + "9" * 500,
}
CHANNEL = "1290000000000000100"


def _raw(document: object, hostile: str) -> web.Response:
    text = json.dumps(document).replace('"HERE"', hostile)
    return web.Response(body=text.encode(), content_type="application/json")


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{site.port}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("name", HOSTILE)
async def test_slack_history_with_hostile_json_is_read(name: str) -> None:
    """What one message nests or counts beyond all measure hides neither itself nor its neighbours."""
    control = {"type": "message", "ts": "1700000000.000001", "text": "control", "user": "U1"}
    hostile = {"type": "message", "ts": "1700000001.000001", "text": "hostile", "blocks": "HERE", "user": "U2"}
    after = {"type": "message", "ts": "1700000002.000001", "text": "after it", "user": "U2"}

    async def answer(request: web.Request) -> web.Response:
        method = request.path.rpartition("/")[2]
        if method == "auth.test":
            return _raw({"ok": True, "team_id": "T1", "user_id": "U1"}, "")
        if method == "chat.postMessage":
            return _raw({"ok": True, "ts": control["ts"], "channel": "C1"}, "")
        return _raw({"ok": True, "messages": [after, hostile, control], "has_more": False}, HOSTILE[name])

    async with serving(answer) as url:
        settings = SlackSettings.model_validate({"bot_token": "xoxb-1", "mode": "web", "poll": 1, "api_url": url})
        channel = Channel("slack", ChannelKind.SLACK, "slack", "C1")
        async with SlackObserver("slack", settings, (channel,), SystemClock()) as observer:
            first = await observer.read(None)
            batch = await observer.read(first.cursor)
    assert [message.texts[0] for message in first.messages] == ["hostile", "after it"]
    assert batch.readings["slack"].continues


@pytest.mark.parametrize("name", HOSTILE)
async def test_discord_history_with_hostile_json_is_read(name: str) -> None:
    """What one message nests or counts beyond all measure hides neither itself nor its neighbours."""
    control = {"id": str(10**18), "content": "control", "author": {"id": "1"}}
    hostile = {"id": str(10**18 + 1), "content": "hostile", "embeds": "HERE", "author": {"id": "2"}}
    after = {"id": str(10**18 + 2), "content": "after it", "author": {"id": "2"}}

    async def answer(request: web.Request) -> web.Response:
        if request.method == "POST":
            return _raw(control, "")
        if request.path.endswith("/messages"):
            return _raw([after, hostile, control], HOSTILE[name])
        return _raw({"id": CHANNEL, "guild_id": "5"}, "")

    async with serving(answer) as url:
        settings = DiscordSettings.model_validate({"token": "t", "mode": "rest", "api_url": url})
        channel = Channel("discord", ChannelKind.DISCORD, "discord", CHANNEL)
        async with DiscordObserver("discord", settings, (channel,), SystemClock()) as observer:
            first = await observer.read(None)
            batch = await observer.read(first.cursor)
    assert [message.texts[0] for message in first.messages] == ["hostile", "after it"]
    assert batch.readings["discord"].continues


def _volume(messages: tuple[Message, ...]) -> int:
    return sum(len(text) for message in messages for text in message.texts)


@pytest.mark.parametrize("anew", [False, True], ids=["after the cursor", "under a new UIDVALIDITY"])
async def test_flood_of_large_mails_is_read_in_bounded_bites(anew: bool) -> None:
    """However much lies in the mailbox, one read takes in a bounded part of it, and none claims more than it saw."""
    body, count = "x" * 400_000, 60
    size = 2 * len(body)  # the post office repeats its subject
    bite = MOST_BYTES + CHUNK * size
    async with post_office() as post, post.observer() as observer:
        batch = await observer.read(None)
        if anew:
            post.servers.new_validity("ada@w.sandbox.example")
        for number in range(count):
            await post.deliver(f"{number}\r\n\r\n{body}")
        seen: list[str] = []
        while True:
            batch = await observer.read(batch.cursor)
            assert _volume(batch.messages) <= bite
            seen += subjects(batch.messages)
            if batch.readings:
                break
    newest = list(map(str, range(count)))
    assert batch.readings["email"].continues is not anew
    # A mailbox that begins anew is read from its newest messages only; it proves nothing about earlier ones.
    assert seen == (newest[-len(seen) :] if anew else newest)
    assert len(seen) >= MOST_BYTES // size - 1
