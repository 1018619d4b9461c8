"""A client of the sandbox's publishing API, with the API around it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from prober.clock import SystemClock
from prober.sandbox.api import PublishingApi
from prober.sandbox.boards import InProcessWorld
from prober.sandbox.dialects import DIALECTS
from prober.sandbox.weather import parse_weather

CONTENT_ID = "3f0c1a52-6a57-4a5e-9d5e-0a1b2c3d4e5f"
UNKNOWN = "1e0c1a52-6a57-4a5e-9d5e-0a1b2c3d4e5f"
TOKEN = "s3cret"
BOTH = pytest.mark.parametrize("dialect", ["documented", "seen"])


class Caller:
    """A client of one API."""

    def __init__(self, sandbox: InProcessWorld, api: PublishingApi, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.api = api
        self.session = session
        self.ids = {place.name: place.target_channel for place in sandbox.places}
        self.addresses = {place.name: place.address for place in sandbox.places}

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON and headers."""
        async with self.session.request(
            method, self.api.url + path, json=body, headers=headers, allow_redirects=False
        ) as response:
            said = await response.json(content_type=None) if response.content_type.endswith("json") else None
            return response.status, said, response.headers

    def publication(self, *names: str, **changes: object) -> dict[str, Any]:
        body = {
            "channels": [self.ids[name] for name in names],
            "publication_type": "manual",
            "content_ids": [CONTENT_ID],
        }
        return {**body, **changes}

    def at(self, seconds: float) -> str:
        return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


@asynccontextmanager
async def running(dialect: str = "documented", weather: str = "seed: 1") -> AsyncIterator[Caller]:
    sandbox = InProcessWorld(SystemClock(), parse_weather(weather))
    api = PublishingApi(sandbox.world, token=TOKEN, dialect=DIALECTS[dialect])
    headers = {"Authorization": f"Bearer {TOKEN}"} if dialect == "documented" else {}
    async with sandbox, aiohttp.ClientSession(headers=headers) as session:
        await api.start()
        try:
            yield Caller(sandbox, api, session)
        finally:
            await api.stop()


def detail(said: Any) -> str:
    """The text of an error in any of the shapes."""
    if "errors" in said:
        return str(said["errors"][0]["detail"])
    return str(said["detail"])
