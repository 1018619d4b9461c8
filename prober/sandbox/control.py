"""The sandbox's control API: loopback, a port of its own, a bearer token."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from prober.errors import ConfigurationError
from prober.nearest import did_you_mean
from prober.sandbox.dialects import answer
from prober.sandbox.records import Request
from prober.sandbox.weather import parse_weather, weather_from

SERVERS = ("email", "slack", "discord", "api", "s3")


class Controlled(Protocol):
    """What can be asked of a running sandbox."""

    def truth(self) -> Iterable[dict[str, Any]]: ...

    def requests(self) -> Iterable[Request]: ...

    async def set_weather(self, weather: Any) -> None: ...

    async def set_outage(self, server: str, on: bool) -> None: ...

    def drop(self, server: str) -> None: ...


class ControlApi:
    """Listens between ``start`` and ``stop``."""

    def __init__(self, sandbox: Controlled, token: str) -> None:
        self.port = 0
        self._sandbox = sandbox
        self._token = token
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/truth", self._truth)
        app.router.add_get("/publications", self._publications)
        app.router.add_post("/weather", self._weather)
        app.router.add_post("/outage", self._outage)
        app.router.add_post("/drop", self._drop)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = site.port

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return answer({"error": "the control token is needed"}, 401)
        try:
            return await handler(request)
        except ConfigurationError as error:
            return answer({"error": str(error)}, 400)
        except ValueError as error:
            return answer({"error": f"the body is not what is needed: {type(error).__name__}"}, 400)

    async def _ready(self, request: web.Request) -> web.Response:
        return answer({"ready": True})

    async def _truth(self, request: web.Request) -> web.Response:
        return answer({"visible": list(self._sandbox.truth())})

    async def _publications(self, request: web.Request) -> web.Response:
        return answer({"requests": [asdict(one) for one in self._sandbox.requests()]})

    async def _weather(self, request: web.Request) -> web.Response:
        """The body is a weather as YAML or JSON; an empty one is fair weather."""
        text = await request.text()
        weather = parse_weather(text) if text.strip() else weather_from({})
        await self._sandbox.set_weather(weather)
        return answer({"weather": weather.model_dump(mode="json", by_alias=True, exclude_unset=True)})

    async def _outage(self, request: web.Request) -> web.Response:
        body = await _mapping(request)
        server, on = _server(body), body.get("on")
        if not isinstance(on, bool):
            raise ConfigurationError("expected true or false", field="on")
        await self._sandbox.set_outage(server, on)
        return answer({"server": server, "on": on})

    async def _drop(self, request: web.Request) -> web.Response:
        server = _server(await _mapping(request))
        self._sandbox.drop(server)
        return answer({"server": server})


async def _mapping(request: web.Request) -> dict[str, Any]:
    body = await request.json()
    if not isinstance(body, dict):
        raise ConfigurationError("expected a JSON object")
    return body


def _server(body: dict[str, Any]) -> str:
    server = body.get("server")
    if server not in SERVERS:
        raise ConfigurationError(f"there is no server {server!r}", did_you_mean(str(server), SERVERS), field="server")
    return str(server)
