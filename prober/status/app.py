"""The HTTP server: its addresses, and what each answers. Nothing but a reload makes the prober act."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from prober.errors import ConfigurationError, LedgerError
from prober.metrics import registry_of
from prober.serving import Serving
from prober.status.json_answers import json_routes
from prober.status.module import module_page
from prober.status.page import page_routes

log = structlog.get_logger()

SERVING = web.AppKey("serving", Serving)

RELOADS_PER_MINUTE = 6

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(serving: Serving) -> web.Application:
    """The whole site of one service."""
    app = web.Application(middlewares=[_safely])
    app[SERVING] = serving
    app.add_routes(
        [
            web.get("/metrics", metrics),
            web.get("/-/healthy", healthy),
            web.get("/-/ready", ready),
            web.get("/-/startup", ready),
            web.get("/probe", probe),
            web.post("/-/reload", Reloading(serving).reload),
            *page_routes(serving),
            *json_routes(serving),
        ]
    )
    return app


@asynccontextmanager
async def listening(serving: Serving, host: str, port: int) -> AsyncIterator[int]:
    """Serve the site there while inside; the port, chosen by the system for 0.

    Raises ConfigurationError where nobody can listen there.
    """
    runner = web.AppRunner(application(serving), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            problem = f"cannot listen on {host}:{port}: {error.strerror or error}"
            raise ConfigurationError(problem, "choose another address", field="--listen") from None
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


@web.middleware
async def _safely(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The same headers on every answer; an unreadable ledger is a 503 with a sentence."""
    try:
        answer = await handler(request)
    except web.HTTPException as refused:
        refused.headers.update(_HEADERS)
        raise
    except LedgerError as error:
        log.warning("The ledger could not be read for a request.", action="request_failed", why=str(error))
        answer = web.Response(status=503, text="The ledger cannot be read now.\n")
    answer.headers.update({name: value for name, value in _HEADERS.items() if name not in answer.headers})
    return answer


async def metrics(request: web.Request) -> web.Response:
    """Prometheus' text, or OpenMetrics (with exemplars) for who accepts it."""
    registry = registry_of(await request.app[SERVING].metrics())
    if "application/openmetrics-text" in request.headers.get("Accept", ""):
        body = await asyncio.to_thread(generate_openmetrics, registry)
        return web.Response(body=body, headers={"Content-Type": OPENMETRICS})
    body = await asyncio.to_thread(generate_latest, registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def healthy(request: web.Request) -> web.Response:
    """200 while the loops run."""
    if request.app[SERVING].healthy:
        return web.Response(text="healthy\n")
    return web.Response(status=503, text="the loops do not run\n")


async def ready(request: web.Request) -> web.Response:
    """200 once every observer has looked once, or has failed to."""
    if request.app[SERVING].ready:
        return web.Response(text="ready\n")
    return web.Response(status=503, text="the observers have not looked yet\n")


async def probe(request: web.Request) -> web.Response:
    """The latest settled result of a scenario in blackbox_exporter's names; it starts nothing."""
    serving = request.app[SERVING]
    scenarios = {scenario.name: scenario for scenario in serving.loaded.scenarios}
    scenario = scenarios.get(request.query.get("module", ""))
    if scenario is None:
        return web.Response(status=400, text=f"module must name a scenario: {', '.join(scenarios)}\n")
    return web.Response(body=await module_page(serving, scenario), headers={"Content-Type": CONTENT_TYPE_LATEST})


class Reloading:
    """Reads the configuration again for who knows the token, a few times a minute at the most."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._asked: list[float] = []

    async def reload(self, request: web.Request) -> web.Response:
        """200 when the new configuration is in force, 400 with its first mistake when the old one stays."""
        token = self._serving.loaded.serve.token
        if token is None:
            return web.Response(status=403, text="no serve.token is configured: send SIGHUP instead\n")
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
            return web.Response(status=401, text="a bearer token is needed\n", headers={"WWW-Authenticate": "Bearer"})
        now = self._serving.clock.now().boottime
        self._asked = [at for at in self._asked if now - at < 60]
        if len(self._asked) >= RELOADS_PER_MINUTE:
            return web.Response(status=429, text="too many reloads\n", headers={"Retry-After": "60"})
        self._asked.append(now)
        try:
            self._serving.reload()
        except ConfigurationError as error:
            return web.Response(status=400, text=f"{error}\n")
        return web.Response(text="reloaded\n")
