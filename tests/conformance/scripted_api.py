"""A scripted conversation over HTTP on loopback, and raw servers for what no HTTP library would send."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from prober.clock import Instant, SystemClock

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Turn:
    """One expected request and the answer to it; ``body`` bytes go as they are, anything else as JSON."""

    expect: str
    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Heard:
    """One request that came, and when its headers had been read."""

    line: str
    headers: Mapping[str, str]
    body: bytes
    at: Instant

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedApi:
    """Plays its turns in order; a request that is not the next expected one gets a 599 and is noted as strange."""

    def __init__(self, *turns: Turn) -> None:
        self.turns = list(turns)
        self.heard: list[Heard] = []
        self.strange: list[str] = []
        self.origin = ""
        self.raw = False  # whether requests are compared as they were encoded
        self.on_turn: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"{self.origin}/api/v1"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        line = f"{request.method} {request.raw_path if self.raw else request.path_qs}"
        self.heard.append(Heard(line, dict(request.headers), await request.read(), SystemClock().now()))
        self.on_turn()
        turn = self.turns.pop(0) if self.turns else None
        if turn is None or turn.expect != line:
            self.strange.append(f"{line} instead of {turn.expect if turn else 'nothing'}")
            return web.Response(status=599)
        body = turn.body if isinstance(turn.body, bytes) else json.dumps(turn.body).encode()
        if turn.body is None:
            body = b""
        headers = {"Content-Type": "application/json", **turn.headers}
        return web.Response(status=turn.status, body=body, headers=headers)


@asynccontextmanager
async def scripted(*turns: Turn) -> AsyncIterator[ScriptedApi]:
    """The conversation on a free loopback port; at the end it must have been held to its last turn."""
    api = ScriptedApi(*turns)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api._answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        api.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield api
    finally:
        await runner.cleanup()
    assert not api.strange
    assert not api.turns, f"never asked: {api.turns}"


@dataclass
class Raw:
    """A raw server: where it is and how many connections it took."""

    origin: str
    connections: int = 0


@asynccontextmanager
async def raw_server(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[Raw]:
    """``talk`` on each connection, which is aborted when it returns."""
    tasks: set[asyncio.Task[None]] = set()
    raw = Raw("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw.connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    raw.origin = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield raw
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def whole_request(reader: asyncio.StreamReader) -> bytes:
    """Read one request, headers and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.decode("ascii").splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            length = int(value)
    return head + await reader.readexactly(length)


async def free_port() -> int:
    """A loopback port on which nothing listens."""
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
