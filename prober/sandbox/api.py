"""A stand-in of the Publishing Module's HTTP API on loopback, in either dialect."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import socket
import struct
from email.utils import formatdate
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from prober.sandbox.api_routes import PUBLICATION, Routes
from prober.sandbox.climate import GARBAGE, ApiFate
from prober.sandbox.dialects import DOCUMENTED, Dialect, answer
from prober.sandbox.records import Rejected, Request
from prober.sandbox.world import World

RATE_LIMIT = 1000
"""Requests per minute, as documented."""

SILENCE = 600.0
_MOST_BYTES = 1_000_000
_RESET = struct.pack("ii", 1, 0)


class PublishingApi:
    """The API of one world. ``token`` is the bearer token that the documented dialect demands."""

    def __init__(self, world: World, *, token: str, dialect: Dialect = DOCUMENTED) -> None:
        self.port = 0
        self._world = world
        self._token = token
        self._dialect = dialect
        self._routes = Routes(world, dialect)
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._minute = 0
        self._count = 0

    @property
    def url(self) -> str:
        """The base URL with its prefix."""
        return f"http://127.0.0.1:{self.port}{self._dialect.prefix}"

    async def start(self) -> None:
        """Listen on a free loopback port."""
        app = web.Application(middlewares=[self._outer, self._fate], client_max_size=_MOST_BYTES)
        for method, path, handler in self._routes.table():
            app.router.add_route(method, self._dialect.prefix + path, handler)
        app.router.add_get(self._dialect.health, self._routes.health)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=0.1,
            keepalive_timeout=self._dialect.keep_alive,
            handler_cancellation=True,
        )
        await self._runner.setup()
        await self.resume()

    async def stop(self) -> None:
        """Close everything."""
        await self.suspend()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def suspend(self) -> None:
        """Refuse new connections and drop the present ones."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self.drop_connections()

    async def resume(self) -> None:
        """Listen again, on the same port. Raises RuntimeError before ``start``."""
        if self._runner is None:
            raise RuntimeError("the API has not been started")
        if self._site is None:
            self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
            await self._site.start()
            self.port = self._site.port

    def drop_connections(self) -> None:
        """Cut every connection."""
        server = self._runner.server if self._runner is not None else None
        for handler in server.connections if server is not None else ():
            if handler.transport is not None:
                handler.transport.abort()

    # --- what holds for every call ---------------------------------------------------------------------------

    @web.middleware
    async def _outer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Redirects, limits, authentication, and every error in the dialect's shape."""
        place = self._redirected(request.path)
        if place:
            raise web.HTTPTemporaryRedirect(place + (f"?{request.query_string}" if request.query_string else ""))
        over = self._count_request()
        response = self._refusal(request, over) or await self._answer(request, handler)
        if response.prepared:
            return response
        response.headers["Date"] = formatdate(self._world.wall(), usegmt=True)
        if self._dialect.limits:
            limit = self._limit()
            response.headers["X-RateLimit-Limit"] = str(limit)
            response.headers["X-RateLimit-Remaining"] = str(max(0, limit - self._count))
            response.headers["X-RateLimit-Reset"] = str((self._minute + 1) * 60)
        else:
            response.headers["X-Correlation-ID"] = str(uuid4())
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        wall, path = self._world.wall(), request.path
        try:
            return await handler(request)
        except Rejected as error:
            if error.status == 422:
                shown = {"loc": ["body", *error.location], "msg": error.detail, "type": "value_error"}
                return self._dialect.invalid([shown], path, wall)
            return self._dialect.problem(error.status, error.title, error.detail, path, wall)
        except ValidationError as error:
            place = "query" if request.method == "GET" else "body"
            errors = error.errors(include_url=False, include_input=False, include_context=False)
            shown_all = [{**one, "loc": [place, *one["loc"]]} for one in errors]
            return self._dialect.invalid(shown_all, path, wall)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed) as error:
            return answer({"detail": error.reason}, error.status)
        except web.HTTPRequestEntityTooLarge as error:
            return self._dialect.problem(413, "Payload too large", error.text or "", path, wall)

    @web.middleware
    async def _fate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let the weather at the request: the effect comes first, then the time that the answer takes."""
        if request.match_info.http_exception is not None:
            return await handler(request)
        creates = request.method == "POST" and request.path.endswith(("/publications", "/schedule", "/alerts"))
        fate = self._world.climate.api_fate("create" if creates else request.method)
        response: web.StreamResponse | None = None
        status, effect = 500, False
        try:
            if fate.taken:
                response = await handler(request)
                status, effect = response.status, response.status < 400
        except Rejected as error:
            status = error.status
            raise
        except ValidationError:
            status = 422
            raise
        finally:
            self._note(request, status if fate.status is None else fate.status, effect)
            await self._world.clock.sleep(fate.delay)
        return await self._spoil(request, fate) or response or self._broken(request, 500)

    async def _spoil(self, request: web.Request, fate: ApiFate) -> web.StreamResponse | None:
        """What the weather makes of the answer; None for the true one."""
        if fate.status is None:
            return None
        if fate.status == -1:
            await asyncio.sleep(SILENCE)
        if fate.status in {0, -1}:
            return _cut(request)
        if fate.status == GARBAGE:
            return web.Response(body=b"\x00\xff<garbage>{", content_type="application/json")
        response = self._broken(request, fate.status)
        if self._dialect.redirects and fate.status == 500:
            return await _drop_after(request, response)
        return response

    def _broken(self, request: web.Request, status: int) -> web.Response:
        titles = {500: "Internal server error", 503: "Service unavailable", 429: "Too many requests"}
        title = titles.get(status, "Spoiled by the weather")
        response = self._dialect.problem(status, title, "the sandbox's weather", request.path, self._world.wall())
        if status in {429, 503}:
            response.headers["Retry-After"] = "1"
        return response

    def _note(self, request: web.Request, status: int, effect: bool) -> None:
        if request.method == "GET":
            return
        headers = request.headers
        names = ("X-Correlation-ID", "traceparent", "User-Agent")
        self._world.requests.append(
            Request(
                at=self._world.clock.now().wall,
                action=f"{request.method} {request.path.removeprefix(self._dialect.prefix)}",
                status=status,
                effect=effect,
                publication_id=request.get(PUBLICATION, ""),
                probe=headers.get("X-Synthetic-Probe", ""),
                idempotency_key=headers.get("Idempotency-Key", ""),
                detail={name: headers.get(name, "") for name in names},
            )
        )

    def _redirected(self, path: str) -> str:
        if not self._dialect.redirects:
            return ""
        if path == self._dialect.prefix:
            return f"{path}/"
        if path.endswith("/") and path.rstrip("/") not in {self._dialect.prefix, ""}:
            return path.rstrip("/")
        return ""

    def _limit(self) -> int:
        return self._world.climate.api().rate_limit or RATE_LIMIT

    def _count_request(self) -> bool:
        """Count one request of this minute; True when it is one too many."""
        minute = int(self._world.clock.now().wall // 60)
        if minute != self._minute:
            self._minute, self._count = minute, 0
        self._count += 1
        limited = self._dialect.limits or self._world.climate.api().rate_limit is not None
        return limited and self._count > self._limit()

    def _refusal(self, request: web.Request, over: bool) -> web.Response | None:
        wall, path = self._world.wall(), request.path
        given = request.headers.get("Authorization", "")
        if (
            self._dialect.authenticates
            and path != self._dialect.health
            and not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode())
        ):
            response = self._dialect.problem(401, "Unauthorized", "a valid bearer token is needed", path, wall)
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        if over:
            response = self._dialect.problem(429, "Too many requests", "the rate limit is spent", path, wall)
            response.headers["Retry-After"] = str(max(1, int((self._minute + 1) * 60 - wall) + 1))
            return response
        return None


def _cut(request: web.Request) -> web.Response:
    """End the connection with a reset."""
    transport = request.transport
    if transport is not None:
        raw = transport.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    return web.Response(status=500)


async def _drop_after(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Answer, then drop the connection without having said so: what a running build does after a 500."""
    await response.prepare(request)
    await response.write_eof()
    if request.transport is not None:
        request.transport.close()
    return response
