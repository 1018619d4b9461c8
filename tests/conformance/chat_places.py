"""The places of chat for the suite for observers: the sandbox's Slack and Discord."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from prober.observers import Observer
from prober.sandbox.faults import RequestFault
from prober.sandbox.slack import SlackServer
from tests.conformance import discord_world, slack_world
from tests.conformance.place import CLOCK


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
            async with asyncio.timeout(60):
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
