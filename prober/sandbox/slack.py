"""Slack for the sandbox: the Web API and Socket Mode on one loopback port, with the real one's refusals."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from prober.clock import Clock, wait_for_any
from prober.sandbox.faults import Faults, RequestFault
from prober.sandbox.slack_webhooks import take_webhook, webhook_path
from prober.sandbox.slack_workspace import Json, Refusal, Workspace
from prober.sandbox.truth import Visible

MOST_CONNECTIONS = 10


@dataclass(slots=True)
class _Envelope:
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    acked: bool = False


@dataclass(slots=True, eq=False)
class _Connection:
    socket: web.WebSocketResponse
    pending: dict[str, _Envelope] = field(default_factory=dict)
    leaving: bool = False


class SlackServer:
    """A workspace on a loopback port, with the prober's app in it and, as another app, the product.

    Channels whose id begins with ``G`` are private. ``on_visible`` is called around the moment at which the history
    shows a message. ``workspace.limits``, ``ack_timeout``, ``retry_pauses`` and ``refresh_warning`` (seconds) may be
    changed; ``requests`` counts the Web API's calls by method.
    """

    def __init__(
        self,
        *,
        world_id: str,
        channels: Mapping[str, str],
        bot_token: str,
        app_token: str,
        publisher_token: str,
        faults: Faults,
        clock: Clock,
    ) -> None:
        self.workspace = Workspace(
            world_id=world_id,
            channels=channels,
            bot_token=bot_token,
            app_token=app_token,
            publisher_token=publisher_token,
            faults=faults,
            clock=clock,
            announce=self._announce,
        )
        self.ack_timeout = 3.0
        self.retry_pauses: tuple[float, ...] = (0.0, 0.0, 60.0, 300.0)
        self.refresh_warning = 10.0
        self.requests: Counter[str] = Counter()
        self.port = 0
        self._faults = faults
        self._clock = clock
        self._connections: list[_Connection] = []
        self._turn = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrivals = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    @property
    def on_visible(self) -> Callable[[Visible], None] | None:
        return self.workspace.on_visible

    @on_visible.setter
    def on_visible(self, told: Callable[[Visible], None] | None) -> None:
        self.workspace.on_visible = told

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/"

    def webhook_url(self, channel_id: str) -> str:
        """Where the product posts to a channel without a token."""
        return f"http://127.0.0.1:{self.port}{webhook_path(self.workspace, channel_id)}"

    @property
    def connections(self) -> int:
        """How many Socket Mode connections are open."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen on a free loopback port."""
        app = web.Application()
        app.router.add_route("*", "/api/{method}", self._api)
        app.router.add_get("/link/", self._link)
        app.router.add_post("/services/{team}/{bot}/{secret}", self._webhook)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self.resume()

    async def stop(self) -> None:
        """Close everything; no task or socket is left behind."""
        await self.suspend()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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
            raise RuntimeError("the Slack server has not been started")
        if self._site is None:
            self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
            await self._site.start()
            self.port = self._site.port
            self.workspace.socket_url = f"ws://127.0.0.1:{self.port}/link/"

    def drop_connections(self) -> None:
        """Cut every connection, Web API and Socket Mode alike, without a farewell."""
        for connection in self._connections:
            connection.leaving = True
        server = self._runner.server if self._runner is not None else None
        for handler in server.connections if server is not None else ():
            if handler.transport is not None:
                handler.transport.abort()

    async def refresh(self) -> None:
        """Announce that each connection will be closed, and close it ``refresh_warning`` seconds later."""
        for connection in self._connections:
            connection.leaving = True
            await _say(connection, {"type": "disconnect", "reason": "warning"})
            self._spawn(self._retire(connection))

    async def connected(self, count: int = 1) -> None:
        """Return once at least ``count`` Socket Mode connections are open and not about to be closed."""
        async with self._arrivals:
            await self._arrivals.wait_for(lambda: len(self._usable()) >= count)

    def revoke_scope(self, name: str) -> None:
        """Take a scope from both of the prober's tokens."""
        self.workspace.bot.scopes.discard(name)
        self.workspace.app.scopes.discard(name)

    def grant_scope(self, name: str) -> None:
        """Give a scope: ``connections:write`` to the prober's app token, any other to its bot token."""
        (self.workspace.app if name == "connections:write" else self.workspace.bot).scopes.add(name)

    def leave(self, channel_id: str) -> None:
        """Take the prober's bot out of a channel."""
        self.workspace.bot.channels.discard(channel_id)

    def join(self, channel_id: str) -> None:
        """Invite the prober's bot into a channel."""
        self.workspace.bot.channels.add(channel_id)

    def expire_tokens(self, error: str = "token_expired") -> None:
        """Refuse the prober's tokens from now on with ``error``; '' lets them in again."""
        self.workspace.bot.error = self.workspace.app.error = error

    def prune(self, channel_id: str) -> None:
        """Forget what a channel holds, as a retention policy does."""
        self.workspace.prune(channel_id)

    async def post(
        self,
        channel_id: str,
        text: str,
        *,
        blocks: list[Json] | None = None,
        attachments: list[Json] | None = None,
        metadata: Json | None = None,
        subtype: str | None = None,
        edited: Json | None = None,
        thread_ts: str | None = None,
        files: list[Json] | None = None,
    ) -> str:
        """Post as the product and return the message's ts.

        Without ``subtype`` it is a ``bot_message``, as an incoming webhook makes it; '' leaves the subtype out.
        """
        body: Json = {"blocks": blocks, "attachments": attachments, "metadata": metadata, "edited": edited}
        body |= {"subtype": "bot_message" if subtype is None else subtype, "thread_ts": thread_ts, "files": files}
        return str(self.workspace.append(self.workspace.publisher, channel_id, text, body)["ts"])

    # --- Socket Mode -----------------------------------------------------------------------------------------

    def _announce(self, channel_id: str, message: Json) -> None:
        late = self._faults.push("slack", channel_id)
        event = self.workspace.event(channel_id, message)
        if late is not None and event is not None:
            self._spawn(self._deliver(event, late))

    async def _deliver(self, payload: Json, late: float) -> None:
        """Send an event until some connection has acknowledged it, on the schedule of Slack's retries."""
        if late > 0:
            await self._clock.sleep(late)
        for attempt, pause in enumerate(self.retry_pauses):
            if pause > 0:
                await self._clock.sleep(pause)
            if await self._send(payload, attempt):
                return

    async def _send(self, payload: Json, attempt: int) -> bool:
        usable = self._usable()
        if not usable:
            return False
        connection = usable[next(self._turn) % len(usable)]
        name, envelope = secrets.token_hex(16), _Envelope()
        connection.pending[name] = envelope
        body = {"type": "events_api", "envelope_id": name, "payload": payload, "accepts_response_payload": False}
        body |= {"retry_attempt": attempt, "retry_reason": "timeout" if attempt else ""}
        if await _say(connection, body):
            await wait_for_any(self._clock, envelope.settled, self.ack_timeout)
        connection.pending.pop(name, None)
        return envelope.acked

    async def _link(self, request: web.Request) -> web.StreamResponse:
        fault = self._faults.request("slack", "link")
        spoiled = await self._spoil(fault, request) if fault is not None else None
        if spoiled is not None:
            return spoiled
        ticket = request.query.get("ticket", "")
        if ticket not in self.workspace.tickets:
            return web.Response(status=403)
        self.workspace.tickets.discard(ticket)
        socket = web.WebSocketResponse(heartbeat=10)
        await socket.prepare(request)
        connection = _Connection(socket)
        if len(self._connections) >= MOST_CONNECTIONS:
            await _say(connection, {"type": "disconnect", "reason": "too_many_websockets"})
            await socket.close()
            return socket
        self._connections.append(connection)
        about = {"app_id": self.workspace.app.app_id}
        hello = {"type": "hello", "num_connections": self.connections, "connection_info": about}
        try:
            if await _say(connection, hello):
                async with self._arrivals:
                    self._arrivals.notify_all()
                await _take_acks(connection)
        finally:
            self._connections.remove(connection)
            for envelope in connection.pending.values():
                envelope.settled.set()
        return socket

    async def _retire(self, connection: _Connection) -> None:
        await self._clock.sleep(self.refresh_warning)
        await _say(connection, {"type": "disconnect", "reason": "refresh_requested"})
        await connection.socket.close()

    def _usable(self) -> list[_Connection]:
        return [connection for connection in self._connections if not connection.leaving]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- Web API ---------------------------------------------------------------------------------------------

    async def _api(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        self.requests[method] += 1
        fault = self._faults.request("slack", method)
        if fault is not None:
            spoiled = await self._spoil(fault, request)
            if spoiled is not None:
                return spoiled
        headers = {"Date": self.workspace.date()}
        try:
            parameters = await _parameters(request)
            grant = self.workspace.authenticate(_token(request, parameters))
            headers["X-OAuth-Scopes"] = ",".join(sorted(grant.scopes))
            wait = self.workspace.throttle(method, grant, parameters)
            if wait > 0:
                return _limited(wait)
            answer = {"ok": True, **self.workspace.answer(method, grant, parameters)}
            return web.json_response(answer, headers=headers)
        except Refusal as refusal:
            return web.json_response(refusal.answer, headers=headers)

    async def _webhook(self, request: web.Request) -> web.StreamResponse:
        self.requests["webhook"] += 1
        fault = self._faults.request("slack", "webhook")
        spoiled = await self._spoil(fault, request) if fault is not None else None
        return spoiled or await take_webhook(self.workspace, request)

    async def _spoil(self, fault: RequestFault, request: web.Request) -> web.StreamResponse | None:
        await self._clock.sleep(fault.delay)
        if fault.status == 0 and request.transport is not None:
            request.transport.abort()
        if fault.status == 429:
            return _limited(fault.retry_after or 1.0)
        if fault.garbage:
            return web.Response(status=fault.status or 200, text="<html>\x00{", content_type="application/json")
        return None if fault.status is None else web.Response(status=fault.status or 500, text="upstream error")


async def _say(connection: _Connection, body: Json) -> bool:
    """Send one frame; False when the connection is gone."""
    try:
        await connection.socket.send_str(json.dumps(body))
    except (ConnectionError, RuntimeError):
        return False
    return True


async def _take_acks(connection: _Connection) -> None:
    async for frame in connection.socket:
        if frame.type is WSMsgType.TEXT:
            envelope = connection.pending.get(str(json.loads(frame.data).get("envelope_id", "")))
            if envelope is not None:
                envelope.acked = True
                envelope.settled.set()


def _token(request: web.Request, parameters: Json) -> str:
    header = request.headers.get("Authorization", "")
    return header.removeprefix("Bearer ") if header else str(parameters.get("token", ""))


async def _parameters(request: web.Request) -> Json:
    if request.content_type == "application/json":
        try:
            body = json.loads(await request.text() or "{}")
        except ValueError:
            raise Refusal("invalid_json") from None
        if not isinstance(body, dict):
            raise Refusal("json_not_object")
        return {**request.query, **body}
    return {**request.query, **await request.post()}


def _limited(seconds: float) -> web.Response:
    headers = {"Retry-After": str(max(1, round(seconds + 0.499)))}
    return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers=headers)
