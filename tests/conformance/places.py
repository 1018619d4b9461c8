"""Every place that an observer reads, with the same handles: what the one suite for observers runs over."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import pytest

from prober.clock import SystemClock
from prober.model import ChannelKind, Message, PublicationKind
from prober.observers import Observer
from prober.observers.imap import ImapObserver, ImapSettings
from prober.sandbox.aws import PREFIX
from prober.sandbox.faults import RequestFault
from prober.sandbox.front import Front
from prober.sandbox.inprocess import InProcessWorld, WorldObserver
from prober.sandbox.records import Outgoing
from prober.sandbox.slack import SlackServer
from prober.sandbox.weather import weather_from
from tests.conformance import discord_world, mail_post, s3_world, slack_world
from tests.servers.dovecot import PASSWORD, Dovecot, Mailbox, recreate

CLOCK = SystemClock()
_NAME = re.compile(r"message \d+")


class Place(Protocol):
    """One place. ``obstacles`` are what may take sight away, by name, with the reason that is then told.

    ``pushes_whole`` says that a push is the message itself, not only that there is news.
    """

    channel: str
    pushes_whole: bool
    obstacles: ClassVar[Mapping[str, str]]

    def observer(self) -> Observer:
        """Another observer of the same account."""

    async def post(self, name: str) -> None:
        """Let a message become visible, whether anybody can see it or not."""

    async def cut(self) -> None:
        """End every connection; new ones are let in at once."""

    def mute(self) -> None:
        """Let nothing be pushed any more."""

    async def forget(self) -> None:
        """Make every known position worthless, as retention and renumbering do."""

    async def obstruct(self, name: str) -> None:
        """Put an obstacle in the way."""

    async def clear(self, name: str) -> None:
        """Take it away."""


def name_of(message: Message) -> str:
    """The name under which a message was posted."""
    found = _NAME.search("\n".join(message.texts))
    assert found is not None, message
    return found[0]


class WorldPlace:
    """A board of the world in this process: Slack's."""

    channel = "slack"
    pushes_whole = True
    obstacles: ClassVar[Mapping[str, str]] = {
        "outage": "unreachable",
        "refused login": "login_refused",
        "rate limit": "rate_limited",
        "garbage": "protocol",
    }
    _WEATHERS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "outage": {"outage": True},
        "refused login": {"logins": "refused"},
        "rate limit": {"rate_limit": {"share": 1}},
        "garbage": {"requests": {"garbage_rate": 1}},
        "mute": {"pushes": {"drop": 1}},
    }

    def __init__(self) -> None:
        self.world = InProcessWorld(CLOCK)
        self._channel = self.world.channels()[self.channel]
        self._board = self.world.board(self._channel.address)
        self._active: set[str] = set()

    def observer(self) -> Observer:
        return WorldObserver("world", self.world, (self._channel,))

    async def post(self, name: str) -> None:
        message = Outgoing("slack", ChannelKind.SLACK, self._channel.address, "", "", PublicationKind.ALERT, (), name,
                           "", secrets.token_hex(4))  # fmt: skip
        self._board.post(message, CLOCK.now())

    async def cut(self) -> None:
        await self.obstruct("outage")
        await asyncio.sleep(0)
        await self.clear("outage")

    def mute(self) -> None:
        self._active.add("mute")
        self._weather()

    async def forget(self) -> None:
        self._board.first = self._board.end + 1
        self._board.posts.clear()

    async def obstruct(self, name: str) -> None:
        self._active.add(name)
        self._weather()

    async def clear(self, name: str) -> None:
        self._active.discard(name)
        self._weather()

    def _weather(self) -> None:
        merged = {key: value for name in sorted(self._active) for key, value in self._WEATHERS[name].items()}
        self.world.set_weather(weather_from({"channels": {"slack": merged}}))


class ImapPlace:
    """A mailbox of the sandbox."""

    channel = mail_post.EMAIL.name
    pushes_whole = False
    obstacles: ClassVar[Mapping[str, str]] = {
        "outage": "unreachable",
        "refused login": "login_refused",
        "garbage": "protocol",
        "silence": "timeout",
        "cut answer": "unreachable",
    }
    _FAULTS: ClassVar[Mapping[str, RequestFault]] = {
        "garbage": RequestFault(garbage=True),
        "silence": RequestFault(delay=30.0),
        "cut answer": RequestFault(status=0),
    }

    def __init__(self, post: mail_post.Post) -> None:
        self._post = post

    def observer(self) -> Observer:
        return self._post.observer(read_timeout=1)

    async def post(self, name: str) -> None:
        await self._post.deliver(name)

    async def cut(self) -> None:
        self._post.servers.drop_connections()

    def mute(self) -> None:
        self._post.faults.drops_pushes = True

    async def forget(self) -> None:
        self._post.servers.new_validity(mail_post.ADA)

    async def obstruct(self, name: str) -> None:
        if name == "outage":
            await self._post.servers.suspend()
        elif name == "refused login":
            self._post.faults.lets_in = False
            self._post.servers.drop_connections()
        else:
            self._post.faults.requests["search"] = self._FAULTS[name]

    async def clear(self, name: str) -> None:
        self._post.faults.lets_in = True
        self._post.faults.requests.clear()
        if name == "outage":
            await self._post.servers.resume()


class DovecotPlace:
    """A mailbox of Debian's Dovecot behind a door; it pushes half a second late, so a read comes first."""

    channel = "email"
    pushes_whole = False
    obstacles: ClassVar[Mapping[str, str]] = {"outage": "unreachable", "refused login": "login_refused"}

    def __init__(self, box: Mailbox, door: Front) -> None:
        self._box, self._door = box, door

    def observer(self) -> Observer:
        settings = ImapSettings.model_validate(self._box.settings(port=self._door.port, read_timeout=5))
        return ImapObserver("mailbox", settings, (replace(mail_post.EMAIL, address=self._box.address),), CLOCK)

    async def post(self, name: str) -> None:
        raw = f"From: news@target.example\r\nTo: {self._box.address}\r\nSubject: {name}\r\n\r\nhello\r\n"
        self._box.put(raw.encode())

    async def cut(self) -> None:
        self._door.drop_connections()

    def mute(self) -> None:
        """Its pushes come later than any read that this suite does."""

    async def forget(self) -> None:
        await asyncio.to_thread(self._renumber)
        self._door.drop_connections()

    def _renumber(self) -> None:
        """Dovecot numbers by whole seconds: made anew within one a folder has its old number."""
        before = now = self._validity()
        while now == before:
            recreate(self._box, "INBOX")
            now = self._validity()

    def _validity(self) -> int:
        with self._box.client() as client:
            return int(client.folder_status("INBOX", ["UIDVALIDITY"])[b"UIDVALIDITY"])

    async def obstruct(self, name: str) -> None:
        if name == "outage":
            await self._door.suspend()
        else:
            await asyncio.to_thread(self._box.set_password, "another")
            self._door.drop_connections()

    async def clear(self, name: str) -> None:
        if name == "outage":
            await self._door.resume()
        else:
            await asyncio.to_thread(self._box.set_password, PASSWORD)


class S3Place:
    """A bucket of the sandbox's AWS, and its queue."""

    channel = s3_world.INBOX.name
    pushes_whole = True
    obstacles: ClassVar[Mapping[str, str]] = {
        "outage": "unreachable",
        "no right to read": "missing_access",
        "client-side encryption": "encrypted",
    }

    def __init__(self, bucket: s3_world.Bucket) -> None:
        self._bucket = bucket
        self._s3 = bucket.servers.client("s3")
        self._numbers = iter(range(1_000_000))
        self._prefix = PREFIX

    def observer(self) -> Observer:
        return self._bucket.observer(prefix=self._prefix)

    async def post(self, name: str) -> None:
        try:
            await self._bucket.deliver(name)
        except ConnectionError:  # the way in is out, too; what lies there is there all the same
            self._bucket.put(f"unannounced-{next(self._numbers)}", s3_world.mail(name))

    async def cut(self) -> None:
        self._bucket.servers.drop_connections()

    def mute(self) -> None:
        self._bucket.faults.late = None

    async def forget(self) -> None:
        """Another prefix behind the observer's name: what was read of the first says nothing about it."""
        self._prefix = "inbound"

    async def obstruct(self, name: str) -> None:
        bucket = self._bucket.servers.bucket
        if name == "outage":
            await self._bucket.servers.suspend()
        elif name == "no right to read":
            self._s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(s3_world.no_reading(self._bucket)))
        else:
            self._s3.put_object(Bucket=bucket, Key=self._sealed, Body=b"\x00", Metadata={"x-amz-iv": "AAAA"})

    async def clear(self, name: str) -> None:
        bucket = self._bucket.servers.bucket
        if name == "outage":
            await self._bucket.servers.resume()
        elif name == "no right to read":
            self._s3.delete_bucket_policy(Bucket=bucket)
        else:
            self._s3.delete_object(Bucket=bucket, Key=self._sealed)

    @property
    def _sealed(self) -> str:
        return f"{PREFIX}sealed"


class SlackPlace:
    """A channel of the sandbox's Slack; the observer reads a second one beside it."""

    channel = "slack"
    pushes_whole = True
    obstacles: ClassVar[Mapping[str, str]] = {
        "outage": "unreachable",
        "expired token": "auth",
        "no scope": "missing_scope",
        "not a member": "not_in_channel",
        "garbage": "protocol",
        "503": "unreachable",
        "content withheld": "missing_scope",
    }
    _FAULTS: ClassVar[Mapping[str, RequestFault]] = {
        "garbage": RequestFault(garbage=True),
        "503": RequestFault(status=503),
    }

    def __init__(self, server: SlackServer, weather: slack_world.Weather) -> None:
        self._server, self._weather = server, weather
        self._blank = ""

    def observer(self) -> Observer:
        return slack_world.observer_of(self._server)

    async def post(self, name: str) -> None:
        await self._server.post(slack_world.PUBLIC, name)

    async def cut(self) -> None:
        self._server.drop_connections()

    def mute(self) -> None:
        self._weather.late = None

    async def forget(self) -> None:
        self._server.prune(slack_world.PUBLIC)

    async def obstruct(self, name: str) -> None:
        server, public = self._server, slack_world.PUBLIC
        match name:
            case "outage":
                await server.suspend()
            case "expired token":
                server.expire_tokens()
            case "no scope":
                server.revoke_scope("channels:history")
            case "not a member":
                server.leave(public)
            case "content withheld":
                self._blank = await server.post(public, "", subtype="")
            case _:
                self._weather.requests["conversations.history"] = self._FAULTS[name]

    async def clear(self, name: str) -> None:
        server, public = self._server, slack_world.PUBLIC
        match name:
            case "outage":
                await server.resume()
            case "expired token":
                server.expire_tokens("")
            case "no scope":
                server.grant_scope("channels:history")
            case "not a member":
                server.join(public)
            case "content withheld":
                server.workspace.forget(public, self._blank)
            case _:
                self._weather.requests.clear()


class DiscordPlace:
    """A channel of the sandbox's Discord; the observer reads a second one beside it."""

    channel = "alerts"
    pushes_whole = True
    obstacles: ClassVar[Mapping[str, str]] = {
        "outage": "unreachable",
        "no right to read history": "missing_access",
        "no right to view": "missing_access",
        "content withheld": "content_intent",
        "garbage": "protocol",
        "503": "unreachable",
    }
    _FAULTS: ClassVar[Mapping[str, RequestFault]] = {
        "garbage": RequestFault(garbage=True),
        "503": RequestFault(status=503),
    }
    _RIGHTS: ClassVar[Mapping[str, str]] = {
        "no right to read history": "READ_MESSAGE_HISTORY",
        "no right to view": "VIEW_CHANNEL",
    }

    def __init__(self, world: discord_world.World) -> None:
        self._world = world
        world.clock = CLOCK

    def observer(self) -> Observer:
        return self._world.observer()

    async def post(self, name: str) -> None:
        await self._world.server.post(discord_world.ALERTS, name)

    async def cut(self) -> None:
        self._world.server.drop_connections()

    def mute(self) -> None:
        self._world.faults.late = None

    async def forget(self) -> None:
        for message in self._world.server.history(discord_world.ALERTS):
            self._world.server.forget(discord_world.ALERTS, message["id"])

    async def obstruct(self, name: str) -> None:
        server = self._world.server
        if name == "outage":
            await server.suspend()
        elif name == "content withheld":
            async with asyncio.timeout(30):
                while not server.connected:  # once it is in, a switch in the portal does not end the session
                    await CLOCK.sleep(0.02)
            server.grant_message_content = False
        elif name in self._RIGHTS:
            server.revoke(self._RIGHTS[name], discord_world.ALERTS)
        else:
            self._world.faults.routes[discord_world.HISTORY_ROUTE] = self._FAULTS[name]

    async def clear(self, name: str) -> None:
        server = self._world.server
        if name == "outage":
            await server.resume()
        elif name in self._RIGHTS:
            server.grant(self._RIGHTS[name], discord_world.ALERTS)
        server.grant_message_content = True
        self._world.faults.routes.clear()


Maker = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Place]]


@asynccontextmanager
async def _world(_: pytest.FixtureRequest) -> AsyncIterator[Place]:
    place = WorldPlace()
    async with place.world:
        yield place


@asynccontextmanager
async def _imap(_: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with mail_post.post_office() as post:
        yield ImapPlace(post)


@asynccontextmanager
async def _dovecot(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    server: Dovecot = request.getfixturevalue("dovecot_server")
    door = Front()
    await door.start(server.port)
    try:
        yield DovecotPlace(server.mailbox(), door)
    finally:
        await door.stop()


@asynccontextmanager
async def _s3(_: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with s3_world.open_bucket(secrets.token_hex(4)) as bucket:
        yield S3Place(bucket)


@asynccontextmanager
async def _slack(_: pytest.FixtureRequest) -> AsyncIterator[Place]:
    weather = slack_world.Weather()
    async with slack_world.slack_server(weather) as server:
        server.workspace.limits = {}
        yield SlackPlace(server, weather)


@asynccontextmanager
async def _discord(_: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with discord_world.running() as world:
        yield DiscordPlace(world)


PLACES: Mapping[str, tuple[Maker, type[Place]]] = {
    "world": (_world, WorldPlace),
    "imap": (_imap, ImapPlace),
    "dovecot": (_dovecot, DovecotPlace),
    "s3": (_s3, S3Place),
    "slack": (_slack, SlackPlace),
    "discord": (_discord, DiscordPlace),
}
OBSTACLES = [(name, obstacle) for name, (_, place) in PLACES.items() for obstacle in place.obstacles]
