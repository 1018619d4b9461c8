"""A running sandbox Discord with its weather and its truth, for the observer's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from prober.clock import SystemClock
from prober.errors import Unreadable
from prober.model import Channel, ChannelKind, Message
from prober.observers.discord import DiscordObserver, DiscordSettings
from prober.sandbox.discord import DiscordServer
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
        async with asyncio.timeout(60):
            while not enough(messages):
                messages += (await observer.wait(self.clock.now().plus(1.0))).pushed
        return messages


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
    """Why a read sees nothing, or why it does not see all channels."""
    try:
        batch = await observer.read(cursor)
    except Unreadable as error:
        reason, detail = error.reason, error.detail
    else:
        assert batch.blind, "the read saw everything"
        assert not batch.blind.keys() & batch.readings.keys()
        reason, detail = next((blindness.reason, blindness.detail) for blindness in batch.blind.values())
    assert detail
    assert TOKEN not in detail
    return reason
