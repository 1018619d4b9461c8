"""Slack's Web API and Socket Mode as the observer needs them: errors mapped, limits respected, losses told.

slack_sdk's SocketModeClient is not used: it tells nobody of a lost connection, logs an expired token and goes on
for ever, closes the old connection before it opens the next one, and reaches its listeners through a queue. The
few frames that are needed are read here straight from aiohttp, behind the SDK's own ``apps.connections.open``.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from prober.clock import Clock, Instant
from prober.errors import Unreadable
from prober.observers.json_reading import read_json

PATIENCE: Final = 3.0
"""Seconds for which a call waits by itself when Slack asks it to come back later."""

_TIMEOUT: Final = aiohttp.ClientTimeout(total=10, sock_connect=5)
_WEBSOCKET: Final = aiohttp.ClientWSTimeout(ws_close=0.2)
_HEARTBEAT: Final = 4.0
_LINGER: Final = 30.0
_FOREIGN: Final = (
    SlackClientError,
    aiohttp.ClientError,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
)

GONE: Final = "message_gone"
DENIED: Final = "message_denied"
"""Reasons that only the removal of a message has: it is not there, or not ours to remove."""

_REASONS: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(
        ("invalid_auth", "not_authed", "token_expired", "token_revoked", "account_inactive", "not_allowed_token_type"),
        ("auth", "put a valid token of the prober's own Slack app into the configuration"),
    ),
    **dict.fromkeys(
        ("org_login_required", "access_denied", "team_access_not_granted", "two_factor_setup_required"),
        ("auth", "let the workspace's administrator admit the prober's Slack app"),
    ),
    **dict.fromkeys(
        ("not_in_channel", "channel_not_found", "is_archived", "channel_is_archived"),
        ("not_in_channel", "invite the prober's bot to the channel and check the channel id"),
    ),
    **dict.fromkeys(
        ("internal_error", "fatal_error", "service_unavailable", "team_added_to_org"),
        ("unreachable", "wait: Slack itself is failing"),
    ),
    "message_not_found": (GONE, "nothing is to be done"),
    **dict.fromkeys(
        ("cant_delete_message", "compliance_exports_prevent_deletion", "message_locked"),
        (DENIED, "give the Slack observer a delete_token that may, or let the channel keep messages for a day"),
    ),
    "request_timeout": ("timeout", "wait: Slack itself is failing"),
}

# The SDK would format every request and answer for its debug log: messages are not for logs.
_sdk_log = logging.getLogger(f"{__name__}.sdk")
_sdk_log.setLevel(logging.WARNING)


class RateLimited(Unreadable):
    """Slack asked to come back in ``retry_after`` seconds."""

    def __init__(self, asked: str, retry_after: float) -> None:
        super().__init__("rate_limited", f"{asked}: Slack asks to wait {retry_after:.0f} s before the next call")
        self.retry_after = retry_after


class _Answer(aiohttp.ClientResponse):
    """An answer whose JSON is read whatever people have put into it."""

    async def json(
        self, *, encoding: str | None = None, loads: object = None, content_type: str | None = "application/json"
    ) -> Any:
        return await super().json(encoding=encoding, loads=read_json, content_type=content_type)


def open_session() -> aiohttp.ClientSession:
    """A session for both sorts of connection; the caller closes it."""
    return aiohttp.ClientSession(timeout=_TIMEOUT, response_class=_Answer)


def unreadable(error: BaseException, asked: str) -> Unreadable:
    """What an error of slack_sdk or aiohttp means to a reader: the only place that knows."""
    if isinstance(error, SlackApiError):
        return _refused(error.response, asked)
    if isinstance(error, TimeoutError):
        return Unreadable("timeout", f"{asked}: no answer within {_TIMEOUT.total:.0f} s")
    if isinstance(error, aiohttp.ClientResponseError):
        return _by_status(error.status, asked)
    if isinstance(error, (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError)):
        return Unreadable("unreachable", f"{asked}: {type(error).__name__}; check the network and api_url")
    return Unreadable("protocol", f"{asked}: the answer is not Slack's ({type(error).__name__}); check api_url")


def _refused(response: Any, asked: str) -> Unreadable:
    status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0))
    data = getattr(response, "data", None)
    code = data.get("error") if isinstance(data, dict) else None
    if status == 429 or code in {"ratelimited", "rate_limited"}:
        return RateLimited(asked, _retry_after(response.headers))
    if not isinstance(data, dict) or not isinstance(code, str):
        return _by_status(status, asked)
    if code == "missing_scope":
        needed = str(data.get("needed", "?"))[:100]
        return Unreadable("missing_scope", f"{asked}: add the scope {needed} to the Slack app and install it again")
    reason, mend = _REASONS.get(code, ("protocol", "Slack refused in a way that the prober does not know"))
    return Unreadable(reason, f"{asked}: {code[:100]}; {mend}")


def _by_status(status: int, asked: str) -> Unreadable:
    if status >= 500:
        return Unreadable("unreachable", f"{asked}: HTTP {status}; wait: Slack itself is failing")
    return Unreadable("protocol", f"{asked}: HTTP {status} without an answer of Slack's; check api_url")


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return min(3600.0, max(0.0, float(headers.get("Retry-After", "30"))))
    except ValueError:
        return 30.0


class WebApi:
    """The Web API by one token. Every failure is an Unreadable; a method that is limited is left alone until then.

    ``headers`` are those of the last success.
    """

    def __init__(self, token: str, url: str, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._client = AsyncWebClient(token, url, session=session, logger=_sdk_log, retry_handlers=[])
        self._client.proxy = None
        self._clock = clock
        self._limited: dict[str, Instant] = {}
        self.headers: Mapping[str, str] = {}

    async def call(self, method: str, *, about: str = "", **parameters: Any) -> dict[str, Any]:
        """Call once, or once more after a short Retry-After. Raises Unreadable."""
        asked = f"{method} of {about}" if about else method
        try:
            return await self._call(method, asked, parameters)
        except RateLimited as limit:
            if limit.retry_after > PATIENCE:
                raise
        return await self._call(method, asked, parameters)

    async def _call(self, method: str, asked: str, parameters: dict[str, Any]) -> dict[str, Any]:
        await self._hold(method, asked)
        given = {key: value for key, value in parameters.items() if value is not None}
        failure: BaseException
        try:
            if method == "chat.postMessage":
                response = await self._client.api_call(method, json=given)
            else:
                # Only a GET is tried again by itself on a kept connection that the server has closed meanwhile.
                verb = "GET" if method == "conversations.history" else "POST"
                response = await self._client.api_call(method, http_verb=verb, params=given)
            if isinstance(response.data, dict):
                self.headers = response.headers
                return response.data
            failure = ValueError("no object")
        except _FOREIGN as error:
            failure = error
        raise self._told(failure, method, asked) from _showable(failure)

    async def _hold(self, method: str, asked: str) -> None:
        until = self._limited.get(method)
        left = until.since(self._clock.now()) if until is not None else 0.0
        if left > PATIENCE:
            raise RateLimited(asked, left)
        if left > 0:
            await self._clock.sleep(left)

    def _told(self, failure: BaseException, method: str, asked: str) -> Unreadable:
        reason = unreadable(failure, asked)
        if isinstance(reason, RateLimited):
            self._limited[method] = self._clock.now().plus(reason.retry_after)
        return reason


def _showable(failure: BaseException) -> BaseException | None:
    """The cause to show, None where its repr would hold a request's headers and with them a token."""
    return None if isinstance(failure, aiohttp.ClientResponseError) else failure


@dataclass(slots=True)
class _Link:
    """One connection: whether Slack has said hello on it, and whether another one should take its place."""

    socket: aiohttp.ClientWebSocketResponse
    greeted: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)


class SocketMode:
    """Keeps one Socket Mode connection open, a second one beside it while Slack replaces the first.

    ``on_event(envelope, received)`` is told of each envelope before it is acknowledged, with the instant at which
    its frame was in our hands; ``on_gap()`` that pushes may have been missed. ``trouble`` says in a sentence why no
    connection is open, or that somebody else consumes this app's events too; '' when all is well.
    """

    def __init__(
        self,
        api: WebApi,
        session: aiohttp.ClientSession,
        clock: Clock,
        on_event: Callable[[Mapping[str, Any], Instant], None],
        on_gap: Callable[[], None],
    ) -> None:
        self._api = api
        self._session = session
        self._clock = clock
        self._on_event = on_event
        self._on_gap = on_gap
        self._open = 0
        self.trouble = "not connected yet"

    @property
    def up(self) -> bool:
        return self._open > 0

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        failures = 0
        async with asyncio.TaskGroup() as readers:
            while True:
                try:
                    link = _Link(await self._connect())
                except Unreadable as reason:
                    self.trouble = str(reason)
                    await self._clock.sleep(_pause(failures, reason))
                    failures += 1
                    continue
                readers.create_task(self._drain(link))
                await link.over.wait()
                failures = 0 if link.greeted else failures + 1
                await self._clock.sleep(_pause(failures))

    async def _connect(self) -> aiohttp.ClientWebSocketResponse:
        answer = await self._api.call("apps.connections.open")
        failure: BaseException
        try:
            async with asyncio.timeout(_TIMEOUT.total):
                return await self._session.ws_connect(answer["url"], timeout=_WEBSOCKET, heartbeat=_HEARTBEAT)
        except (*_FOREIGN, KeyError) as error:
            failure = error
        raise unreadable(failure, "Socket Mode") from _showable(failure)

    async def _drain(self, link: _Link) -> None:
        """Read one connection to its end; ``over`` is set as soon as another one should be opened."""
        try:
            async with asyncio.timeout(_TIMEOUT.total) as bound:
                while True:
                    frame = await link.socket.receive()
                    received = self._clock.now()
                    if frame.type is not aiohttp.WSMsgType.TEXT:
                        break
                    body = _object(frame.data)
                    kind = body.get("type")
                    if kind == "hello" and not link.greeted:
                        link.greeted = True
                        bound.reschedule(None)
                        self._opened(body)
                    elif kind == "disconnect":
                        link.over.set()
                        bound.reschedule(asyncio.get_running_loop().time() + _LINGER)
                    elif "envelope_id" in body:
                        self._on_event(body, received)
                        await link.socket.send_str(json.dumps({"envelope_id": body["envelope_id"]}))
        except (TimeoutError, ConnectionError, aiohttp.ClientError):  # a loss like any other end: told below
            pass
        finally:
            self._closed(link.greeted)
            link.over.set()
            await link.socket.close()

    def _opened(self, hello: Mapping[str, Any]) -> None:
        self._open += 1
        counted = hello.get("num_connections")
        others = counted - self._open if isinstance(counted, int) else 0
        self.trouble = (
            f"{others} other connection(s) of this Slack app take some of its events: give each prober its own app"
            if others > 0
            else ""
        )
        self._on_gap()

    def _closed(self, greeted: bool) -> None:
        self._open -= greeted
        if not self.up:
            self.trouble = "the connection was lost"
            self._on_gap()


def _pause(failures: int, reason: Unreadable | None = None) -> float:
    """Seconds before the next attempt: soon after a loss, rarely where only a person can mend it."""
    if reason is not None and reason.reason in {"auth", "missing_scope"}:
        return 10.0
    return min(1.0, 0.02 * 2.0 ** min(failures, 10))


def _object(text: str) -> Mapping[str, Any]:
    try:
        body = read_json(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
