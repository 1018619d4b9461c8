"""Every place that an observer reads, by name: what the one suite for observers runs over."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar

import pytest

from prober.model import ChannelKind, PublicationKind
from prober.observers import Observer
from prober.sandbox.front import Front
from prober.sandbox.inprocess import InProcessWorld, WorldObserver
from prober.sandbox.records import Outgoing
from prober.sandbox.weather import weather_from
from tests.conformance import discord_world, mail_post, s3_world, slack_world
from tests.conformance.chat_places import DiscordPlace, SlackPlace
from tests.conformance.mail_places import DovecotPlace, ImapPlace, S3Place
from tests.conformance.place import CLOCK, Place
from tests.servers.dovecot import Dovecot


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
