"""Discord's gateway for the sandbox: HELLO, IDENTIFY, RESUME with replay, heartbeats, zlib-stream, its refusals."""

from __future__ import annotations

import itertools
import json
import zlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from prober.sandbox.discord_guild import VIEW, Guild, Json

_HEARTBEAT_MS = 41_250
_GUILDS, _GUILD_MESSAGES, _MESSAGE_CONTENT = 1 << 0, 1 << 9, 1 << 15
_ALL_INTENTS = (1 << 26) - 1
_PRIVILEGED = {1 << 1, 1 << 8}
_REPLAYED = 5_000
_LEFT_FOR_GOOD = {1000, 1001}

_DISPATCH, _HEARTBEAT, _IDENTIFY, _RESUME, _RECONNECT, _INVALID, _HELLO, _ACK = 0, 1, 2, 6, 7, 9, 10, 11


class _Closing(Exception):
    """The connection must be closed with a code that tells why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(slots=True, eq=False)
class _Connection:
    socket: web.WebSocketResponse
    deflate: Any = None
    session: _Session | None = None

    async def send(self, operation: int, data: Any, *, name: str | None = None, sequence: int | None = None) -> None:
        """Send one frame; a peer that has gone is noticed by its reader."""
        frame = json.dumps({"t": name, "s": sequence, "op": operation, "d": data}, separators=(",", ":"))
        with suppress(ConnectionError):
            if self.deflate is None:
                await self.socket.send_str(frame)
            else:
                packed = self.deflate.compress(frame.encode()) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
                await self.socket.send_bytes(packed)


@dataclass(slots=True, eq=False)
class _Session:
    id: str
    intents: int
    sequence: int = 0
    events: deque[tuple[int, str, Json]] = field(default_factory=lambda: deque(maxlen=_REPLAYED))
    connection: _Connection | None = None

    async def tell(self, name: str, data: Json) -> None:
        self.sequence += 1
        self.events.append((self.sequence, name, data))
        if self.connection is not None:
            await self.connection.send(_DISPATCH, data, name=name, sequence=self.sequence)

    async def replay(self, connection: _Connection, sequence: int) -> None:
        """Send what came after ``sequence``, also what comes meanwhile, and go on there."""
        while missed := [event for event in self.events if event[0] > sequence]:
            for number, name, data in missed:
                await connection.send(_DISPATCH, data, name=name, sequence=number)
                sequence = number
        self.connection, connection.session = connection, self
        await self.tell("RESUMED", {})


class Gateway:
    """The sessions and connections of one bot, and how many ``identifies`` and ``resumes`` came.

    ``may_log_in`` judges a token; ``url`` tells where to resume.
    """

    def __init__(self, guild: Guild, may_log_in: Callable[[object], bool], url: Callable[[], str]) -> None:
        self.identifies = 0
        self.resumes = 0
        self._guild = guild
        self._may_log_in = may_log_in
        self._url = url
        self._sessions: dict[str, _Session] = {}
        self._connections: set[_Connection] = set()
        self._numbers = itertools.count(1)

    @property
    def connected(self) -> int:
        """How many connections have a session now."""
        return sum(session.connection is not None for session in self._sessions.values())

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """One connection, from HELLO to its end."""
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        packed = request.query.get("compress") == "zlib-stream"
        connection = _Connection(socket, zlib.compressobj() if packed else None)
        self._connections.add(connection)
        try:
            await connection.send(_HELLO, {"heartbeat_interval": _HEARTBEAT_MS})
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    raise _Closing(4002, "Error while decoding payload.")
                await self._hear(connection, message.data)
        except _Closing as closing:
            await socket.close(code=closing.code, message=str(closing).encode())
        finally:
            self._connections.discard(connection)
            self._part(connection, socket.close_code)
        return socket

    async def tell_message(self, message: Json) -> None:
        """MESSAGE_CREATE for every session that may see it, as it may see it."""
        if not self._guild.may(message["channel_id"], VIEW):
            return
        for session in list(self._sessions.values()):
            if session.intents & _GUILD_MESSAGES:
                granted = bool(session.intents & _MESSAGE_CONTENT)
                seen = self._guild.as_seen(message, content=granted)
                await session.tell("MESSAGE_CREATE", {**seen, "guild_id": self._guild.id})

    async def reconnect_all(self) -> None:
        """Ask every client to reconnect and resume (op 7)."""
        for connection in list(self._connections):
            await connection.send(_RECONNECT, None)

    async def invalidate_sessions(self) -> None:
        """End every session: its clients must IDENTIFY anew (op 9, not resumable)."""
        self._sessions.clear()
        for connection in list(self._connections):
            connection.session = None
            await connection.send(_INVALID, False)

    async def _hear(self, connection: _Connection, text: str) -> None:
        try:
            told = json.loads(text)
            operation, data = told["op"], told.get("d")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _Closing(4002, "Error while decoding payload.") from None
        if operation == _HEARTBEAT:
            await connection.send(_ACK, None)
        elif operation in {_IDENTIFY, _RESUME}:
            if connection.session is not None:
                raise _Closing(4005, "Already authenticated.")
            self.identifies += operation == _IDENTIFY
            if not isinstance(data, dict) or not self._may_log_in(data.get("token")):
                raise _Closing(4004, "Authentication failed.")
            await (self._identify if operation == _IDENTIFY else self._resume)(connection, data)
        elif operation not in {3, 4, 8, 31}:
            raise _Closing(4001, "Unknown opcode.")
        elif connection.session is None:
            raise _Closing(4003, "Not authenticated.")

    async def _identify(self, connection: _Connection, data: Json) -> None:
        intents = data.get("intents")
        if not isinstance(intents, int) or intents & ~_ALL_INTENTS:
            raise _Closing(4013, "Invalid intent(s).")
        denied = _PRIVILEGED | (set() if self._guild.grant_message_content else {_MESSAGE_CONTENT})
        if any(intents & intent for intent in denied):
            raise _Closing(4014, "Disallowed intent(s).")
        session = _Session(f"{self._guild.id}-{next(self._numbers)}", intents, connection=connection)
        self._sessions[session.id] = connection.session = session
        await session.tell("READY", self._ready(session))
        if intents & _GUILDS:
            await session.tell("GUILD_CREATE", self._guild.guild())

    async def _resume(self, connection: _Connection, data: Json) -> None:
        session = self._sessions.get(str(data.get("session_id")))
        sequence = data.get("seq")
        if session is None or not isinstance(sequence, int):
            await connection.send(_INVALID, False)
            return
        if sequence > session.sequence:
            raise _Closing(4007, "Invalid seq.")
        oldest = session.events[0][0] if session.events else session.sequence + 1
        if sequence + 1 < oldest:
            del self._sessions[session.id]
            await connection.send(_INVALID, False)
            return
        self.resumes += 1
        session.connection = None
        await session.replay(connection, sequence)

    def _ready(self, session: _Session) -> Json:
        return {
            "v": 10,
            "user": self._guild.bot,
            "guilds": [{"id": self._guild.id, "unavailable": True}],
            "private_channels": [],
            "session_id": session.id,
            "session_type": "normal",
            "resume_gateway_url": self._url(),
            "application": {"id": self._guild.application_id, "flags": self._guild.application()["flags"]},
        }

    def _part(self, connection: _Connection, code: int | None) -> None:
        session = connection.session
        if session is not None and session.connection is connection:
            session.connection = None
            if code in _LEFT_FOR_GOOD:
                self._sessions.pop(session.id, None)
