"""Discord's gateway through discord.py: what is pushed, and when each frame was in our hands.

discord.py speaks the protocol (HELLO, IDENTIFY, RESUME, heartbeats, zlib); the loop round it is ours, because
``Client.connect`` waits up to many minutes between attempts, forgets the session when it gives up, and reconnects
without a pause when a server accepts and hangs up. Its parsers are switched off: they would build members, guilds
and a task of their own out of frames of which only a message's is wanted.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import yarl

from prober.clock import Clock, Instant, wait_for_any
from prober.errors import Unreadable
from prober.model import How
from prober.observers.discord_rest import DiscordRest
from prober.observers.discord_text import is_message
from prober.observers.json_reading import read_json

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="'audioop' is deprecated", category=DeprecationWarning)
    import discord
    from discord.gateway import DiscordWebSocket, ReconnectWebSocket
    from discord.http import Route

_HANDSHAKE = 10.0
_LOGIN = 5.0
_FAREWELL = 0.3
_SHORT = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_IDENTIFY_SPACING = 5.0
_AFTER_INVALIDATION = 1.0
_STARTS_KEPT = 20
_LONGEST_EXHAUSTION = 300.0
_RETRY_AFTER = {"auth": 5.0, "intents": 300.0}
_MOST_ARRIVALS = 10_000
_DISPATCH = 0
_OF_THE_SESSION = {"READY", "RESUMED"}


@dataclass(slots=True)
class Arrival:
    """One message as pushed, with the instant at which its frame was in our hands."""

    payload: dict[str, Any]
    seen: Instant
    how: How


@dataclass(slots=True)
class Inbox:
    """What the gateway has told since somebody last looked.

    ``unread``: only a read can tell what is new. ``refusal``: Discord will not let us in until somebody mends it.
    ``receipts``: how the newest pushed messages were first seen, by id. ``doubtful``: since the last complete read
    the connection was down at least once.
    """

    changed: asyncio.Event = field(default_factory=asyncio.Event)
    arrivals: list[Arrival] = field(default_factory=list)
    receipts: OrderedDict[str, tuple[Instant, How]] = field(default_factory=OrderedDict)
    unread: bool = False
    doubtful: bool = True
    refusal: Unreadable | None = None

    def add(self, arrival: Arrival) -> None:
        snowflake = arrival.payload["id"]
        if snowflake in self.receipts:
            return
        self.receipts[snowflake] = (arrival.seen, arrival.how)
        if len(self.receipts) > _MOST_ARRIVALS:
            self.receipts.popitem(last=False)
        if len(self.arrivals) < _MOST_ARRIVALS:
            self.arrivals.append(arrival)
        else:
            self.unread = True
        self.changed.set()

    def doubt(self) -> None:
        """The connection was lost, or is back: between the two anything may have come."""
        self.unread = self.doubtful = True
        self.changed.set()

    def take(self) -> tuple[list[Arrival], bool]:
        """What was told since the last call, and whether only a read can tell the rest."""
        arrivals, unread = self.arrivals, self.unread
        self.arrivals, self.unread = [], False
        self.changed.clear()
        return arrivals, unread


def _telling(gateway: DiscordGateway) -> type[DiscordWebSocket]:
    """discord.py's connection, which tells the gateway of each step before it takes it."""

    class Telling(DiscordWebSocket):
        def __init__(self, socket: aiohttp.ClientWebSocketResponse, *, loop: asyncio.AbstractEventLoop) -> None:
            super().__init__(socket, loop=loop)
            gateway.opened(self)

        async def identify(self) -> None:
            gateway.identifying()
            await super().identify()

        async def received_message(self, msg: Any, /) -> None:
            frame = self._decompressor.decompress(msg) if isinstance(msg, bytes) else msg
            if frame is not None:
                await super().received_message(gateway.received(frame))

    return Telling


class DiscordGateway:
    """Keeps one gateway connection up, resuming its session, and fills ``inbox``.

    ``up`` says that pushes flow now; ``trouble`` is the last reason why they did not.
    """

    def __init__(
        self, *, token: str, api_url: str, gateway_url: str, rest: DiscordRest, inbox: Inbox, clock: Clock
    ) -> None:
        self.inbox = inbox
        self.up = False
        self.trouble = ""
        self._token = token
        self._api_url = api_url.rstrip("/")
        self._first_url = yarl.URL(gateway_url) if gateway_url else DiscordWebSocket.DEFAULT_GATEWAY
        self._rest = rest
        self._clock = clock
        self._socket: DiscordWebSocket | None = None
        self._socket_class = _telling(self)
        self._session: str | None = None
        self._sequence: int | None = None
        self._resume_url: yarl.URL | None = None
        self._identified: Instant | None = None
        self._opened: Instant | None = None
        self._replaying = False
        self._attempts = 0
        self._mended = asyncio.Event()
        self._was_disallowed = False

    async def run(self) -> None:
        """Connect and stay connected until cancelled; whatever goes wrong is on record in ``trouble``."""
        while True:
            try:
                async with self._logged_in() as client:
                    while True:
                        await self._converse(client)
                        await self._pause()
            except Exception as error:  # noqa: BLE001 - this task is the only sight between two reads: it must not end
                await self._set_back(error)

    async def look_for_the_intent(self) -> None:
        """Try again at once where the intent was disallowed and is granted now; raises Unreadable.

        Only its being granted *since* is a reason: an IDENTIFY that is refused for another one must not be repeated.
        """
        if await self._rest.may_read_content():
            if self._was_disallowed:
                self._mended.set()
        else:
            self._was_disallowed = True

    def opened(self, socket: DiscordWebSocket) -> None:
        """A connection exists from here on, and must be closed whatever becomes of its handshake."""
        self._socket = socket

    def identifying(self) -> None:
        """An IDENTIFY leaves now: only few may."""
        self._identified = self._clock.now()

    def received(self, frame: str) -> str:
        """Take the receipt instant of a frame, and what it says; returns what discord.py needs to read of it.

        That is never what people wrote: a message too deep for its parser would end the connection, be replayed on
        the next one, and end that too.
        """
        seen = self._clock.now()
        told = read_json(frame)
        event = told.get("t")
        match event:
            case "MESSAGE_CREATE" if is_message(told.get("d")):
                how = How.HISTORY if self._replaying else How.PUSH
                self.inbox.add(Arrival(told["d"], seen, how))
            case "READY" | "RESUMED":
                self.up, self._replaying, self.trouble, self.inbox.refusal = True, False, "", None
                self.inbox.doubt()
        if told.get("op") != _DISPATCH or event in _OF_THE_SESSION:
            return frame
        return json.dumps({"op": _DISPATCH, "t": event, "s": told.get("s"), "d": None})

    @asynccontextmanager
    async def _logged_in(self) -> AsyncIterator[discord.Client]:
        Route.BASE = self._api_url
        client = discord.Client(
            intents=discord.Intents(guilds=True, guild_messages=True, message_content=True),
            max_messages=None,
            chunk_guilds_at_startup=False,
            member_cache_flags=discord.MemberCacheFlags.none(),
        )
        client._connection.parsers = {}
        try:
            async with asyncio.timeout(_LOGIN):
                await client.login(self._token)
            yield client
        finally:
            await client.close()

    async def _converse(self, client: discord.Client) -> None:
        """One connection from its handshake to its end. Returns when Discord asks for, or allows, another."""
        resume = self._session is not None
        if not resume:
            await self._await_identify()
        self._replaying, self._opened = resume, self._clock.now()
        code = 1000  # ends the session: when we are cancelled nobody will resume it
        try:
            async with asyncio.timeout(_HANDSHAKE):
                socket = await self._socket_class.from_client(
                    client,
                    initial=True,
                    gateway=(self._resume_url if resume else None) or self._first_url,
                    session=self._session,
                    sequence=self._sequence,
                    resume=resume,
                )
            while True:
                await socket.poll_event()
        except ReconnectWebSocket as ended:
            code, self.trouble = 4000, f"the connection ended; Discord allows to {ended.op.lower()}"
        except Exception:
            code = 4000
            raise
        finally:
            await self._leave(code)

    async def _leave(self, code: int) -> None:
        """Close the connection, with 4000 so that its session lives on, and remember where to go on."""
        socket, self._socket, self.up = self._socket, None, False
        if socket is None:
            self._resume_url = None
            return
        self._session, self._sequence = socket.session_id, socket.sequence
        self._resume_url = socket.gateway if self._session else None
        self.inbox.doubt()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await socket.close(code=code)

    async def _await_identify(self) -> None:
        """Wait until one more IDENTIFY is allowed: one in 5 s, and never the day's last ones.

        Past the day's number Discord ends every session and resets the token.
        """
        while True:
            left, renewed_in = await self._rest.session_starts()
            if left > _STARTS_KEPT:
                break
            self.trouble = f"only {left} IDENTIFYs are left for {renewed_in:.0f} s; reading goes on by REST"
            await self._clock.sleep(min(max(renewed_in, 1.0), _LONGEST_EXHAUSTION))
        if self._identified is not None:
            since = self._clock.now().since(self._identified)
            await self._clock.sleep(max(_AFTER_INVALIDATION, _IDENTIFY_SPACING - since))

    async def _set_back(self, error: Exception) -> None:
        self.trouble = f"{type(error).__name__}: {error}"
        refusal = _refusal(error)
        if refusal is not None:
            self._session = self._resume_url = None
            if refusal.reason == "intents":  # a refused token is told by each read itself
                self.inbox.refusal = refusal
            self.inbox.doubt()
            self._mended.clear()
            self._was_disallowed = False
            await wait_for_any(self._clock, self._mended, _RETRY_AFTER[refusal.reason])
        await self._pause()

    async def _pause(self) -> None:
        """Nothing after a connection that lasted, else a pause that doubles up to 2 s."""
        lasted = self._opened is not None and self._clock.now().since(self._opened) >= _SHORT
        self._opened = None
        self._attempts = 0 if lasted else self._attempts + 1
        if self._attempts:
            await self._clock.sleep(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._attempts - 1, 10)))


def _refusal(error: Exception) -> Unreadable | None:
    """What only a person can mend; None for what may mend itself."""
    if isinstance(error, discord.LoginFailure):
        return Unreadable("auth", "Discord refuses the bot token; copy the current one from the developer portal")
    if not isinstance(error, discord.ConnectionClosed):
        return None
    if error.code == 4004:
        return Unreadable("auth", "Discord's gateway refuses the bot token; copy the current one from the portal")
    if error.code in {4013, 4014}:
        return Unreadable(
            "intents", "Discord disallows an intent; enable MESSAGE CONTENT in the developer portal under Bot"
        )
    return None
