"""The client of the sandbox's control API: what tests and demos ask of a running sandbox."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from prober.clock import Instant
from prober.errors import SandboxError
from prober.sandbox.truth import Visible

_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message that became visible, on which channel, from which publication ("" for none), and what the weather
    had done to it."""

    visible: Visible
    channel: str
    publication_id: str
    damaged: bool = False
    junk: bool = False


class SandboxControl:
    """An async context manager. Every call raises SandboxError when the sandbox says no or has ended."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def truth(self) -> tuple[Arrival, ...]:
        """Everything that has become visible, oldest first."""
        body = await self._ask("GET", "/truth")
        return tuple(_arrival(one) for one in body["visible"])

    async def publications(self) -> list[dict[str, Any]]:
        """Every request to the publishing API that could have had an effect, oldest first."""
        return list((await self._ask("GET", "/publications"))["requests"])

    async def set_weather(self, weather: Mapping[str, Any] | str) -> None:
        """Change the weather at once; a mapping, or YAML text."""
        await self._ask("POST", "/weather", weather if isinstance(weather, str) else json.dumps(dict(weather)))

    async def outage(self, server: str, on: bool = True) -> None:
        """Close (or open again) ``email``, ``slack``, ``discord``, ``api``, or with AWS ``s3``."""
        await self._ask("POST", "/outage", json.dumps({"server": server, "on": on}))

    async def drop(self, server: str) -> None:
        """Cut all connections of one server; it goes on listening."""
        await self._ask("POST", "/drop", json.dumps({"server": server}))

    async def _ask(self, method: str, path: str, body: str | None = None) -> Any:
        if self._session is None:
            raise SandboxError("the control client has not been entered")
        try:
            async with self._session.request(method, self._url + path, data=body) as response:
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise SandboxError(f"the sandbox does not answer: {type(error).__name__}") from error
        if response.status != 200:
            raise SandboxError(f"the sandbox says {response.status}: {answer.get('error', '')}")
        return answer


def _arrival(said: Mapping[str, Any]) -> Arrival:
    before, after = Instant(**said["before"]), Instant(**said["after"])
    visible = Visible(said["server"], said["address"], said["message_id"], before, after)
    return Arrival(visible, said["channel"], said["publication_id"], said["damaged"], said["junk"])
