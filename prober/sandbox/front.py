"""A door in front of a server: bytes are carried to it while the door is open, and connections can be cut."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

HOST = "127.0.0.1"
_PIECE = 65536


class Front:
    """Forwards a loopback port of its own to another one, whose server knows nothing of outages."""

    def __init__(self) -> None:
        self.port = 0
        self.open = False
        self._behind = 0
        self._place: socket.socket | None = None
        self._listener: asyncio.Server | None = None
        self._conversations: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def start(self, behind: int) -> None:
        """Listen on a free port for the server on port ``behind``."""
        self._behind = behind
        # Bound but never listening: it keeps the port ours while the door is shut.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._place.bind((HOST, 0))
        self.port = self._place.getsockname()[1]
        await self.resume()

    async def stop(self) -> None:
        await self.suspend()
        if self._place is not None:
            self._place.close()
            self._place = None

    async def suspend(self) -> None:
        """Refuse connections and cut those that there are, until :meth:`resume`."""
        self.open = False
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        for _ in range(5):
            await asyncio.sleep(0)  # who has just connected gets as far as to be cut
        self.drop_connections()
        if self._conversations:
            await asyncio.wait(tuple(self._conversations), timeout=5.0)
        if listener is not None:
            await listener.wait_closed()

    async def resume(self) -> None:
        """Listen again on the same port; without effect while listening."""
        if self._listener is None:
            self.open = True
            self._listener = await asyncio.start_server(self._converse, HOST, self.port, reuse_address=True)

    def drop_connections(self) -> None:
        """Cut every connection; a client may connect again at once."""
        for task, writers in tuple(self._conversations.items()):
            for writer in writers:
                writer.transport.abort()
            task.cancel()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a stream's callback always runs in one
        if not self.open:
            writer.transport.abort()  # the door was shut on it
            return
        writers = self._conversations[task] = [writer]
        try:
            inner_reader, inner_writer = await asyncio.open_connection(HOST, self._behind)
            writers.append(inner_writer)
            await asyncio.gather(_carry(reader, inner_writer), _carry(inner_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # cut, on purpose or by either side
        finally:
            del self._conversations[task]
            for its in writers:
                its.close()
            for its in writers:
                with suppress(OSError):
                    await its.wait_closed()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
