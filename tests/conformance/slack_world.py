"""A sandbox Slack with weather set by hand, and an observer of it, for the conformance tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from prober.clock import SystemClock
from prober.errors import Unreadable
from prober.model import Channel, ChannelKind, Message, Wake
from prober.observers.slack import SlackObserver, SlackSettings
from prober.sandbox.faults import Faults, RequestFault
from prober.sandbox.slack import SlackServer

BOT, APP, PRODUCT = "xoxb-canary-bot", "xapp-canary-app", "xoxb-canary-product"
PUBLIC, PRIVATE = "C0PUBLIC", "G0PRIVATE"
CHANNELS = (
    Channel("slack", ChannelKind.SLACK, "slack", PUBLIC),
    Channel("slack-2", ChannelKind.SLACK, "slack", PRIVATE),
)
CLOCK = SystemClock()


@dataclass
class Weather(Faults):
    """Faults that a test sets by hand."""

    late: float | None = 0.0
    requests: dict[str, RequestFault] = field(default_factory=dict)
    logins: bool = True
    offset: float = 0.0

    def push(self, server: str, address: str) -> float | None:
        return self.late

    def request(self, server: str, action: str) -> RequestFault | None:
        return self.requests.get(action)

    def login(self, server: str) -> bool:
        return self.logins

    def clock_offset(self, server: str) -> float:
        return self.offset


@asynccontextmanager
async def slack_server(weather: Faults, world: str = "w1") -> AsyncIterator[SlackServer]:
    server = SlackServer(
        world_id=world,
        channels={PUBLIC: "probes", PRIVATE: "probes-private"},
        bot_token=BOT,
        app_token=APP,
        publisher_token=PRODUCT,
        faults=weather,
        clock=CLOCK,
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def observer_of(server: SlackServer, **settings: object) -> SlackObserver:
    given = {"bot_token": BOT, "app_token": APP, "api_url": server.api_url, **settings}
    return SlackObserver("slack", SlackSettings.model_validate(given), CHANNELS, CLOCK)


@asynccontextmanager
async def listening(server: SlackServer) -> AsyncIterator[tuple[SlackObserver, str]]:
    """An observer that is connected, has read once, and has nothing waiting; and its cursor."""
    async with observer_of(server) as observer:
        await server.connected()
        await wake_until(observer, lambda wake: wake.unread)
        batch = await observer.read(None)
        yield observer, batch.cursor


async def wake_until(observer: SlackObserver, enough: Callable[[Wake], bool], seconds: float = 10) -> Wake:
    async with asyncio.timeout(seconds):
        while True:
            wake = await observer.wait(CLOCK.now().plus(seconds))
            if enough(wake):
                return wake


async def pushed(observer: SlackObserver) -> Message:
    wake = await wake_until(observer, lambda wake: bool(wake.pushed))
    return wake.pushed[0]


async def unreadable(observer: SlackObserver, cursor: str | None) -> Unreadable:
    """Why a read sees nothing, or why it does not see all channels."""
    try:
        batch = await observer.read(cursor)
    except Unreadable as error:
        return error
    assert batch.blind, "the read saw everything"
    assert not batch.blind.keys() & batch.readings.keys()
    blindness = next(iter(batch.blind.values()))
    return Unreadable(blindness.reason, blindness.detail)


def history(server: SlackServer, channel: str = PUBLIC) -> list[dict[str, Any]]:
    """What lies in a channel, the oldest first."""
    return list(server.workspace._histories[channel].messages)
