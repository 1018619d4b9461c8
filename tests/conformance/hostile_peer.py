"""Whoever may stand where a provider or a target should: a peer on loopback that never behaves as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from prober.sandbox.front import HOST
from tests.conformance.scripted_api import free_port

Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Manner:
    """How a peer behaves; ``act`` is given each connection, None: nobody listens. Before one that hangs only time ends
    what is asked of it."""

    name: str
    act: Act | None
    hangs: bool = False


async def _close(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    return None


async def _mute(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(65_536):
        pass


async def _endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b"[" * 4096 + b"\r\n")
        await writer.drain()


async def _noise(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(range(256)) * 256)
    await writer.drain()


async def _refusing_mailbox(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n")
    while line := await reader.readline():
        writer.write(line.split(b" ")[0] + b" NO " + line.strip() + b"\r\n")


def _answering(status: str, body: bytes | None, *headers: str) -> Act:
    """HTTP with this answer to everything; None: what was asked comes back, whatever it holds."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = await reader.readuntil(b"\r\n\r\n")
            told = asked if body is None else body
            length = f"Content-Length: {len(told)}"
            head = "\r\n".join([f"HTTP/1.1 {status}", "Content-Type: application/json", length, *headers, "", ""])
            writer.write(head.encode() + told)
            await writer.drain()

    return act


MANNERS = (
    Manner("nobody", None),
    Manner("closing", _close),
    Manner("mute", _mute, hangs=True),
    Manner("noise", _noise),
    Manner("endless", _endless, hangs=True),
    Manner("mailbox that says no", _refusing_mailbox),
    Manner("500 with what was asked", _answering("500 Oh", None)),
    Manner("400 with what was asked", _answering("400 Bad", None)),
    Manner("401", _answering("401 Unauthorized", b'{"message": "no", "code": 0}')),
    Manner("403", _answering("403 Forbidden", b'{"message": "no", "code": 50001}')),
    Manner("404", _answering("404 Not Found", b"{}")),
    Manner("429 for an hour", _answering("429 Slow", b'{"retry_after": 3600}', "Retry-After: 3600")),
    Manner("redirecting for ever", _answering("302 Found", b"", "Location: /again")),
    Manner("200 and a page", _answering("200 OK", b"<html>hello</html>")),
    Manner("200 and a list", _answering("200 OK", b"[]")),
    Manner("200 and strange shapes", _answering("200 OK", b'{"ok": true, "data": 7, "id": {}, "flags": "x"}')),
    Manner("200 and a deep nest", _answering("200 OK", b"[" * 100_000)),
    Manner("200 and no date", _answering("200 OK", b'{"ok": true}', "Date: when it was")),
)


@asynccontextmanager
async def standing(manner: Manner) -> AsyncIterator[int]:
    """The peer's port."""
    if manner.act is None:
        yield await free_port()
        return
    act, connections = manner.act, set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            await act(reader, writer)
        writer.transport.abort()  # what is still to be written would keep it open
        connections.discard(task)

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await _turns()  # who has just connected is served before it is ended
        for task in tuple(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await _turns()  # an aborted transport closes its socket with the loop's next turn
        await server.wait_closed()


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
