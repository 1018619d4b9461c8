"""The sandbox as a process of its own: the world, its API and its protocol servers on free loopback ports."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import secrets
import signal
import sys
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

from prober.clock import Clock, SystemClock, wait_for_any
from prober.errors import ConfigurationError, SandboxError
from prober.model import ChannelKind
from prober.resources import contents_directory
from prober.sandbox.api import PublishingApi
from prober.sandbox.climate import Climate
from prober.sandbox.control import ControlApi
from prober.sandbox.dialects import DOCUMENTED, Dialect, dialect_named
from prober.sandbox.discord import DiscordServer
from prober.sandbox.mail import MailServers
from prober.sandbox.providers import Providers
from prober.sandbox.records import Place, Request, aws_place, sender_address, snowflake_from, standard_places
from prober.sandbox.slack import SlackServer
from prober.sandbox.weather import Weather, load_weather, weather_from
from prober.sandbox.world import World
from prober.scenario_files import load_content

if TYPE_CHECKING:
    from prober.sandbox.aws import AwsServers

POLL = "100ms"
"""How often an inbox of the sandbox may be read while deliveries are open: it is our own."""

_PR_SET_PDEATHSIG = 1
_MAILBOXES = {"email": "mailbox-1", "email-2": "mailbox-2"}
_AWS = "ses"


class _Server(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def suspend(self) -> None: ...

    async def resume(self) -> None: ...

    def drop_connections(self) -> None: ...


class Sandbox:
    """Everything between ``start`` and ``stop``; :meth:`configuration` says how to reach it."""

    def __init__(
        self, weather: Weather, dialect: Dialect = DOCUMENTED, clock: Clock | None = None, *, with_aws: bool = False
    ) -> None:
        self.world_id = secrets.token_hex(4)
        self._clock = clock or SystemClock()
        self._token, self._control_token, self._password = (secrets.token_hex(16) for _ in range(3))
        self._slack_tokens = {name: f"{name}-{secrets.token_hex(12)}" for name in ("xoxb", "xapp", "xoxp")}
        self._discord_token = secrets.token_hex(24)
        self._signing = {"id": "s", "secret": secrets.token_hex(16)}
        now = self._clock.now().wall
        self._places = standard_places(self.world_id, now) + ((aws_place(self.world_id),) if with_aws else ())
        kinds = {place.name: place.kind for place in self._places}
        names = {place.address: place.name for place in self._places}
        self._climate = Climate(weather, self._clock, kinds, names)
        self._mail, self._slack, self._discord = self._protocols(now)
        self._aws = self._with_aws() if with_aws else None
        self._providers = Providers(
            world_id=self.world_id,
            places=self._places,
            clock=self._clock,
            mail=self._mail,
            slack=self._slack,
            discord=self._discord,
            aws=self._aws,
            faults=self._climate,
        )
        self._world = World(
            self.world_id,
            places=self._places,
            contents=[
                load_content(path.stem, contents_directory()) for path in sorted(contents_directory().glob("*.yaml"))
            ],
            climate=self._climate,
            clock=self._clock,
            outlet=self._providers,
        )
        self._api = PublishingApi(self._world, token=self._token, dialect=dialect)
        self._control = ControlApi(self, self._control_token)
        self._servers: dict[str, _Server] = {
            "email": self._mail,
            "slack": self._slack,
            "discord": self._discord,
            "api": self._api,
            **({} if self._aws is None else {"s3": self._aws}),
        }
        self._forced: set[str] = set()
        self._changed = asyncio.Event()
        self._keeping = asyncio.Lock()
        self._stack = AsyncExitStack()
        self.tasks: tuple[asyncio.Task[None], ...] = ()

    async def start(self) -> None:
        """Listen everywhere. ``tasks`` then run until ``stop``: none of them ends unless something is broken."""
        self._stack.push_async_callback(self._control.stop)
        await self._control.start()
        for server in self._servers.values():
            self._stack.push_async_callback(server.stop)
            await server.start()
        self._stack.callback(self._providers.close)
        await self._stack.enter_async_context(self._world)
        keeper = asyncio.create_task(self._keep())
        self._stack.push_async_callback(_ended, keeper)
        self.tasks = (keeper, *self._world.tasks)
        await self._obey()

    async def stop(self) -> None:
        await self._stack.aclose()

    def ready(self) -> dict[str, Any]:
        """The line that says that the sandbox is ready, and how to reach it."""
        control = {"url": self._control.url, "token": self._control_token}
        return {"world_id": self.world_id, "configuration": self.configuration(), "control": control}

    def configuration(self) -> dict[str, Any]:
        """A whole ``prober.yaml`` for this sandbox."""
        return {
            "environment": "sandbox",
            "location": "local",
            "keys": [dict(self._signing)],
            "target": {
                "adapter": "publishing_module",
                "url": self._api.url,
                "token": self._token,
                "channels": [place.target_channel for place in self._places],
                "templates": dict(self._world.templates),
            },
            "observers": self._observers(),
            "channels": {
                place.name: {
                    "observer": self._observer(place),
                    "kind": place.kind.value,
                    "address": place.address,
                    "target_channel": place.target_channel,
                    "senders": [self._sender(place.kind)],
                }
                for place in self._places
            },
        }

    def _protocols(self, now: float) -> tuple[MailServers, SlackServer, DiscordServer]:
        mail = MailServers(
            dict.fromkeys(self._addresses(ChannelKind.EMAIL), self._password),
            faults=self._climate,
            world_id=self.world_id,
            clock=self._clock,
        )
        slack = SlackServer(
            world_id=self.world_id,
            channels=self._addresses(ChannelKind.SLACK),
            bot_token=self._slack_tokens["xoxb"],
            app_token=self._slack_tokens["xapp"],
            publisher_token=self._slack_tokens["xoxp"],
            faults=self._climate,
            clock=self._clock,
        )
        discord = DiscordServer(
            world_id=self.world_id,
            guild_id=snowflake_from(self.world_id, "guild", wall=now),
            channels=self._addresses(ChannelKind.DISCORD),
            token=self._discord_token,
            faults=self._climate,
            clock=self._clock,
        )
        return mail, slack, discord

    def _with_aws(self) -> AwsServers:
        # boto3 and moto take half a second to load, for those only who ask for AWS.
        from prober.sandbox.aws import AwsServers  # noqa: PLC0415

        address = aws_place(self.world_id).address
        return AwsServers(address, faults=self._climate, world_id=self.world_id, clock=self._clock)

    # --- what the control API asks ---------------------------------------------------------------------------

    def truth(self) -> Iterable[dict[str, Any]]:
        return self._providers.truth()

    def requests(self) -> Iterable[Request]:
        return tuple(self._world.requests)

    async def set_weather(self, weather: Weather) -> None:
        self._climate.set_weather(weather)
        self._changed.set()
        await self._obey()

    async def set_outage(self, server: str, on: bool) -> None:
        self._check(server)
        if on:
            self._forced.add(server)
        else:
            self._forced.discard(server)
        await self._obey()

    def drop(self, server: str) -> None:
        self._check(server)
        self._servers[server].drop_connections()

    def _check(self, server: str) -> None:
        if server not in self._servers:
            raise ConfigurationError(f"this sandbox has no {server!r}", "start it with --with-aws", field="server")

    # --- outages ---------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Open and close servers as the weather's windows open and close."""
        while True:
            self._changed.clear()
            await self._obey()
            await wait_for_any(self._clock, self._changed, self._climate.next_edge())

    async def _obey(self) -> None:
        async with self._keeping:
            for name, server in self._servers.items():
                out = name in self._forced or self._climate.outage(name)
                if out and name not in self._providers.down:
                    self._providers.down.add(name)
                    await server.suspend()
                elif not out and name in self._providers.down:
                    await server.resume()
                    self._providers.down.discard(name)

    # --- how to reach it -------------------------------------------------------------------------------------

    def _addresses(self, kind: ChannelKind) -> dict[str, str]:
        """The names by address of a kind's channels, without the one of AWS, which has no mailbox."""
        ours = [place for place in self._places if place.kind is kind and self._observer(place) != _AWS]
        return {place.address: f"prober-{place.name}" for place in ours}

    def _observer(self, place: Place) -> str:
        if place.kind is ChannelKind.EMAIL:
            return _MAILBOXES.get(place.name, _AWS)
        return place.kind.value

    def _sender(self, kind: ChannelKind) -> str:
        if kind is ChannelKind.EMAIL:
            return sender_address(self.world_id)
        if kind is ChannelKind.SLACK:
            return self._slack.workspace.publisher.bot_id
        (channel,) = self._addresses(kind)
        return self._discord.webhook_url(channel).split("/")[-2]

    def _observers(self) -> dict[str, dict[str, Any]]:
        inboxes = {
            _MAILBOXES[place.name]: {
                "adapter": "imap",
                "host": "127.0.0.1",
                "port": self._mail.imap_port,
                "username": place.address,
                "password": self._password,
                "tls": "none",
                "poll": POLL,
            }
            for place in self._places
            if place.name in _MAILBOXES
        }
        return {
            **inboxes,
            **({} if self._aws is None else {_AWS: self._aws.settings()}),
            "slack": {
                "adapter": "slack",
                "bot_token": self._slack_tokens["xoxb"],
                "app_token": self._slack_tokens["xapp"],
                "api_url": self._slack.api_url,
            },
            "discord": {
                "adapter": "discord",
                "token": self._discord_token,
                "api_url": self._discord.api_url,
                "gateway_url": self._discord.gateway_url,
            },
        }


async def run(weather: Weather, dialect: Dialect, *, with_parent: bool, with_aws: bool = False) -> None:
    """Run until a signal or, with a parent, its end. Raises SandboxError when a part of the sandbox breaks."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sandbox = Sandbox(weather, dialect, with_aws=with_aws)
    try:
        await sandbox.start()
        sys.stdout.write(json.dumps(sandbox.ready()) + "\n")
        sys.stdout.flush()
        if with_parent:
            loop.add_reader(sys.stdin.fileno(), _watch_parent, stop)
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([stopping, *sandbox.tasks], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in done - {stopping}:
            raise SandboxError(f"a part of the sandbox has ended: {task.exception()!r}") from task.exception()
    finally:
        loop.remove_reader(sys.stdin.fileno())
        await sandbox.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m prober.sandbox``: prints one JSON line when it is ready; 2 for a wrong option or weather."""
    parser = argparse.ArgumentParser(prog="python -m prober.sandbox", description=__doc__)
    parser.add_argument("--weather", metavar="NAME|FILE", help="the weather; fair without it")
    parser.add_argument("--dialect", default=DOCUMENTED.name, help="how the API answers: documented or seen")
    parser.add_argument("--with-parent", action="store_true", help="end when the parent process or stdin ends")
    parser.add_argument("--with-aws", action="store_true", help="with an inbox that SES puts into a bucket")
    options = parser.parse_args(arguments)
    try:
        if options.with_parent:
            _die_with_parent()
        weather = load_weather(options.weather) if options.weather else weather_from({})
        dialect = dialect_named(options.dialect)
        asyncio.run(run(weather, dialect, with_parent=options.with_parent, with_aws=options.with_aws))
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (SandboxError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _watch_parent(stop: asyncio.Event) -> None:
    with contextlib.suppress(BlockingIOError):
        if os.read(sys.stdin.fileno(), 4096) == b"":
            stop.set()
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())


def _die_with_parent() -> None:
    """Ask Linux for SIGKILL when the parent ends; elsewhere the end of stdin must do."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
