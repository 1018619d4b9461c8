"""Every target adapter before the same world, each behind the seam: what the one suite for targets runs over."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from prober.clock import SystemClock
from prober.model import Publication, PublicationKind, Step, StepAction
from prober.sandbox.inprocess import InProcessWorld, WorldTarget
from prober.sandbox.records import Request
from prober.sandbox.weather import parse_weather
from prober.targets import Target
from prober.targets.http import HttpTarget
from prober.targets.http_form import read_settings
from prober.targets.publishing_module import PublishingModule, PublishingModuleSettings
from tests.conformance.api_caller import CONTENT_ID, TOKEN, UNKNOWN, Caller, running

PATIENCE = 60.0
"""Seconds that a busy machine may take to answer."""

DESCRIBED = Path(__file__).parent / "described_api.yaml"
CREATE = Step("p1", 0, StepAction.CREATE)


@dataclass
class Bench:
    """A target and the world behind it; ``go_down`` lets nobody connect any more."""

    target: Target
    world: InProcessWorld
    go_down: Callable[[], Any]

    def publication(self, *channels: str, scheduled_after: float | None = None) -> Publication:
        """A publication to the world's channels of these names, ``unknown`` for one that it does not have."""
        ids = {place.name: place.target_channel for place in self.world.places} | {"unknown": UNKNOWN}
        scheduled = None if scheduled_after is None else SystemClock().now().wall + scheduled_after
        return Publication(
            probe="p1",
            scenario="publication",
            kind=PublicationKind.MANUAL,
            target_channels=tuple(ids[name] for name in channels),
            content_id=CONTENT_ID,
            marker="dp1" + "a" * 45,
            scheduled_time=scheduled,
            correlation_id="here-p1",
        )

    def requests(self) -> list[Request]:
        """The requests that could have had an effect."""
        return list(self.world.world.requests)


Maker = Callable[[str], AbstractAsyncContextManager[Bench]]


@asynccontextmanager
async def in_process(weather: str) -> AsyncIterator[Bench]:
    """The world itself, without sockets."""
    sandbox = InProcessWorld(SystemClock(), parse_weather(weather))
    async with sandbox, WorldTarget(sandbox, _timeout(weather)) as target:

        async def go_down() -> None:
            sandbox.climate.set_weather(parse_weather("api: {outage: true}"))

        yield Bench(target, sandbox, go_down)


def _timeout(weather: str) -> float:
    """Seconds that an answer may take: few only where none comes."""
    return 1.0 if "timeout_rate" in weather else PATIENCE


def _access(caller: Caller, weather: str) -> dict[str, Any]:
    """How the API is reached; its allow-list has an id, too, that the world does not know."""
    channels = [*caller.ids.values(), UNKNOWN]
    patience = {"timeout": _timeout(weather), "connect_timeout": PATIENCE}
    return {"url": caller.api.url, "token": TOKEN, "channels": channels, **patience}


def publishing_module(dialect: str) -> Maker:
    """The world behind its API, in one dialect."""

    @asynccontextmanager
    async def behind(weather: str) -> AsyncIterator[Bench]:
        async with running(dialect, weather) as caller:
            settings = PublishingModuleSettings(**_access(caller, weather))
            async with PublishingModule(settings, SystemClock()) as target:
                yield Bench(target, caller.sandbox, caller.api.suspend)

    return behind


@asynccontextmanager
async def described(weather: str) -> AsyncIterator[Bench]:
    """The same API, described in YAML."""
    async with running("documented", weather) as caller:
        settings = read_settings({**yaml.safe_load(DESCRIBED.read_text(encoding="utf-8")), **_access(caller, weather)})
        async with HttpTarget(settings, SystemClock()) as target:
            yield Bench(target, caller.sandbox, caller.api.suspend)


TARGETS: Mapping[str, Maker] = {
    "publishing_module documented": publishing_module("documented"),
    "publishing_module seen": publishing_module("seen"),
    "http": described,
    "world": in_process,
}


def tasks_and_sockets() -> tuple[int, int]:
    """How many tasks this loop has, and this process open sockets."""
    links = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    return len(asyncio.all_tasks()), sum("socket:" in link for link in links)
