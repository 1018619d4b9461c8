"""A thin TCP proxy before an IMAP server, which makes a worse one of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

_LITERAL = re.compile(rb"\{(\d+)\+?\}\r\n$")
_NEWS = re.compile(rb"^\* \d+ (EXISTS|RECENT)\r\n$", re.I)
_SEARCH = re.compile(rb"^\* SEARCH((?: \d+)*)\s*\r\n$", re.I)
_RENEWS = re.compile(rb"^\S+ (NOOP|SELECT|EXAMINE)\b", re.I)
_OPENS = re.compile(rb"^\S+ (SELECT|EXAMINE)\b", re.I)
_IDLE = re.compile(rb"^\S+ IDLE\b", re.I)


class Manner(StrEnum):
    """How the server behaves.

    ``deaf`` takes IDLE and never pushes. ``stale`` also searches in what it last showed, until NOOP or a folder is
    opened anew; ``frozen`` until a folder is opened anew, whatever else is asked. ``silent`` loses a connection
    without a word as soon as it idles: nothing passes, nothing is closed. ``reticent`` tells what a folder is for only
    when it is asked for it (RFC 6154 allows both).
    """

    DEAF = "deaf"
    STALE = "stale"
    FROZEN = "frozen"
    SILENT = "silent"
    RETICENT = "reticent"


@dataclass
class _Connection:
    manner: Manner
    fresh: bool = True
    idling: bool = False
    asked_for_use: bool = False
    known: set[bytes] = field(default_factory=set)

    def asks(self, line: bytes) -> bool:
        """Note what the client asks; False when it shall not pass."""
        if self.manner is Manner.SILENT and self.idling:
            return False
        renews = _OPENS if self.manner is Manner.FROZEN else _RENEWS
        self.fresh = self.fresh or renews.match(line) is not None
        self.asked_for_use = b"RETURN (SPECIAL-USE)" in line
        self.idling = _IDLE.match(line) is not None
        return True

    def answers(self, line: bytes) -> bytes:
        """What passes of a line of the server."""
        if self.manner is Manner.RETICENT:
            return line if self.asked_for_use else line.replace(b" \\Junk", b"")
        if self.manner is Manner.SILENT:
            return b"" if self.idling and not line.startswith(b"+") else line
        if _NEWS.match(line) and (self.idling or not self.fresh):
            return b""
        found = _SEARCH.match(line)
        if found is None or self.manner not in (Manner.STALE, Manner.FROZEN):
            return line
        uids = found[1].split()
        if self.fresh:
            self.known |= set(uids)
            self.fresh = False
        return b"* SEARCH" + b"".join(b" " + uid for uid in uids if uid in self.known) + b"\r\n"


@dataclass
class ImapProxy:
    """Where it listens, how many connections it has had, and how often IDLE was entered."""

    port: int = 0
    connections: int = 0
    idles: int = 0


@asynccontextmanager
async def imap_proxy(server_port: int, manner: Manner) -> AsyncIterator[ImapProxy]:
    """Listen on a free loopback port, for the server on another, in its manner."""
    proxy = ImapProxy()
    conversations: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.connections += 1
        task = asyncio.current_task()
        assert task is not None
        conversations.add(task)
        try:
            await _converse(reader, writer, server_port, _Connection(manner), proxy)
        finally:
            conversations.discard(task)

    listener = await asyncio.start_server(converse, "127.0.0.1", 0)
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listener.close()
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)
        await listener.wait_closed()


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, connection: _Connection, proxy: ImapProxy
) -> None:
    upstream, to_server = await asyncio.open_connection("127.0.0.1", port)

    async def up() -> None:
        while line := await reader.readline():
            if connection.asks(line):
                proxy.idles += connection.idling
                to_server.write(line)

    async def down() -> None:
        while line := await upstream.readline():
            writer.write(connection.answers(line))
            if literal := _LITERAL.search(line):
                writer.write(await upstream.readexactly(int(literal[1])))

    ways = [asyncio.ensure_future(way()) for way in (up, down)]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for stream in (writer, to_server):
            stream.transport.abort()
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
