"""Discord's REST API as far as an observer needs it, on aiohttp.

Not on discord.py's HTTP client: that one sleeps through 429s and 5xx inside a request, up to 25 s without a bound
of ours, and retries a POST; a complete read must end, or fail with its reason, while its instants still mean
something.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp

from prober import __version__
from prober.clean_up import Removal
from prober.clock import Clock, Instant
from prober.errors import Unreadable
from prober.observers.discord_text import CONTROL_TEXT, is_message
from prober.observers.json_reading import read_json

USER_AGENT = f"DiscordBot (https://delivery-prober.example, {__version__})"
PAGE = 100

_SUPPRESS_NOTIFICATIONS = 1 << 12
_ANSWERED_WITHIN = 10.0
_CONNECTED_WITHIN = 5.0
_PATIENCE = 5.0
_MOST_BYTES = 32 * 1024 * 1024
_TRIES = 3
_UNKNOWN_MESSAGE = 10008
_MAY_NOT = frozenset({50003, 50013, 50021})
"""Codes of a 403: not this message, for want of MANAGE_MESSAGES or by its nature."""

INVALID_KEPT, INVALID_WITHIN = 1_000, 600.0
"""Requests answered 401, 403 or 429 that we allow ourselves within so many seconds: at 10,000 Discord bans the address,
which others may share (discord-api-docs, topics/rate-limits)."""

_INVALID = frozenset({401, 403, 429})
_READS_CONTENT = (1 << 18) | (1 << 19)  # GATEWAY_MESSAGE_CONTENT, and the same for small applications


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: Any


class DiscordRest:
    """One HTTP session under one bot token; every failure is an :class:`Unreadable`.

    ``timeout`` bounds each request, in seconds; ``headers`` are those of the last answer.
    """

    def __init__(self, token: str, api_url: str, clock: Clock, *, timeout: float = _ANSWERED_WITHIN) -> None:
        self._headers = {"Authorization": f"Bot {token}", "User-Agent": USER_AGENT}
        self._url = api_url.rstrip("/")
        self._clock = clock
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, _CONNECTED_WITHIN))
        self._closed_until: dict[str, Instant] = {}
        self._buckets: dict[str, str] = {}
        self._invalid: deque[Instant] = deque()
        self._own_id = ""
        self.headers: Mapping[str, str] = {}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def object_at(self, path: str) -> dict[str, Any]:
        """The object that a GET answers with. Raises Unreadable."""
        answer = await self._call("GET", path)
        if not isinstance(answer, dict):
            raise Unreadable("protocol", f"Discord's answer to GET {path} is no object")
        return answer

    async def guild_of(self, channel: str) -> str:
        """The id of the guild to which a channel belongs."""
        answer = await self._call("GET", f"/channels/{channel}")
        if not isinstance(answer, dict):
            raise Unreadable("protocol", f"Discord's answer about channel {channel} is no object")
        return str(answer.get("guild_id") or "")

    async def messages_from(self, channel: str, anchor: str) -> list[dict[str, Any]]:
        """Everything in the history from ``anchor`` on, the anchor included, oldest first."""
        found: list[dict[str, Any]] = []
        after = int(anchor) - 1
        while True:
            page = await self._call("GET", f"/channels/{channel}/messages", {"after": str(after), "limit": str(PAGE)})
            if not isinstance(page, list) or not all(is_message(message) for message in page):
                raise Unreadable("protocol", f"Discord's answer for channel {channel} is no list of messages")
            newer = sorted(
                (message for message in page if int(message["id"]) > after), key=lambda each: int(each["id"])
            )
            found += newer
            if len(page) < PAGE:
                return found
            if not newer:
                raise Unreadable("protocol", f"Discord's history of channel {channel} does not advance")
            after = int(newer[-1]["id"])

    async def messages_before(self, channel: str, snowflake: str) -> list[dict[str, Any]]:
        """At most a page of messages older than an id, in any order."""
        page = await self._call("GET", f"/channels/{channel}/messages", {"before": snowflake, "limit": str(PAGE)})
        if not isinstance(page, list) or not all(is_message(message) for message in page):
            raise Unreadable("protocol", f"Discord's answer for channel {channel} is no list of messages")
        return page

    async def own_id(self) -> str:
        """The bot's user id."""
        if not self._own_id:
            answer = await self._call("GET", "/users/@me")
            self._own_id = str(answer.get("id") or "") if isinstance(answer, dict) else ""
        return self._own_id

    async def delete(self, channel: str, message: str) -> Removal:
        """Delete one message: the bot's own, or any where it may manage messages."""
        path = f"/channels/{channel}/messages/{message}"
        answer = await self._answer("DELETE", path, f"DELETE /channels/{channel}/messages")
        if answer.status == 403 and _code(answer) in _MAY_NOT:
            return Removal.DENIED
        if answer.status == 404 and _code(answer) == _UNKNOWN_MESSAGE:
            return Removal.GONE
        if answer.status != 204:
            _accepted(answer, "DELETE", path)
        return Removal.REMOVED

    async def delete_many(self, channel: str, messages: Sequence[str]) -> bool:
        """Delete 2 to 100 messages, none older than two weeks; False when the bot may not, or not these."""
        path = f"/channels/{channel}/messages/bulk-delete"
        answer = await self._answer("POST", path, f"POST {path}", body={"messages": list(messages)})
        if answer.status in {400, 403}:
            return False
        if answer.status != 204:
            _accepted(answer, "POST", path)
        return True

    async def post_control(self, channel: str) -> tuple[Instant, str, Instant]:
        """Post a control message that rings nowhere: when it was sent, its id, when the answer came."""
        body = {"content": CONTROL_TEXT, "flags": _SUPPRESS_NOTIFICATIONS, "allowed_mentions": {"parse": []}}
        sent = self._clock.now()
        answer = await self._call("POST", f"/channels/{channel}/messages", body=body)
        answered = self._clock.now()
        if not is_message(answer):
            raise Unreadable("protocol", f"Discord's answer to a control message in channel {channel} has no id")
        return sent, answer["id"], answered

    async def may_read_content(self) -> bool:
        """Whether the application has the MESSAGE CONTENT intent now, by its flags: costs no IDENTIFY."""
        answer = await self._call("GET", "/oauth2/applications/@me")
        flags = answer.get("flags") if isinstance(answer, dict) else None
        return isinstance(flags, int) and bool(flags & _READS_CONTENT)

    async def session_starts(self) -> tuple[int, float]:
        """How many IDENTIFYs are left, and in how many seconds their number is renewed."""
        answer = await self._call("GET", "/gateway/bot")
        try:
            limit = answer["session_start_limit"]
            return int(limit["remaining"]), float(limit["reset_after"]) / 1000
        except (TypeError, KeyError, ValueError) as error:
            raise Unreadable("protocol", "Discord's /gateway/bot does not tell how many sessions are left") from error

    async def _call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        route = f"{method} {path}"
        return _accepted(await self._answer(method, path, route, query, body), method, path)

    async def _answer(
        self,
        method: str,
        path: str,
        route: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> _Answer:
        """Any answer but that we come too often: then once more, within what is allowed."""
        for _ in range(_TRIES):
            self._keep_budget(route)
            await self._wait_for_limit(route)
            answer = await self._exchange(method, path, query, body)
            self.headers = answer.headers
            self._learn_limit(route, path, answer)
            if answer.status in _INVALID and answer.headers.get("X-RateLimit-Scope") != "shared":
                self._invalid.append(self._clock.now())
            if answer.status != 429:
                return answer
        raise self._limited(route)

    def _keep_budget(self, route: str) -> None:
        """Raise Unreadable instead of a request while too many of the latest were refused."""
        now = self._clock.now()
        while self._invalid and now.since(self._invalid[0]) >= INVALID_WITHIN:
            self._invalid.popleft()
        if len(self._invalid) >= INVALID_KEPT:
            left = INVALID_WITHIN - now.since(self._invalid[0])
            raise Unreadable(
                "rate_limited",
                f"Discord refused {len(self._invalid)} requests within 10 minutes and bans addresses that go on so; "
                f"{route} waits for {left:.0f} s: correct the token, the bot's rights or the channels' addresses",
            )

    async def _exchange(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None
    ) -> _Answer:
        """One request and its answer: the one place where aiohttp's errors are mapped."""
        try:
            async with self._session.request(method, self._url + path, params=query, json=body) as response:
                return _Answer(response.status, response.headers, _decoded(await _bounded(response)))
        except TimeoutError as error:
            raise Unreadable("timeout", f"Discord did not answer {method} {path} in time") from error
        except aiohttp.ClientPayloadError as error:
            raise Unreadable("protocol", f"Discord's answer to {method} {path} broke off") from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise Unreadable("unreachable", "api_url is no http(s) URL; correct it") from error
        except (aiohttp.ClientConnectionError, OSError) as error:
            raise Unreadable("unreachable", f"no connection to Discord for {method} {path}: {error}") from error
        except aiohttp.ClientError as error:
            raise Unreadable("protocol", f"{type(error).__name__} on {method} {path}") from error

    async def _wait_for_limit(self, route: str) -> None:
        while (left := self._closed_for(route)) > 0:
            if left > _PATIENCE:
                raise self._limited(route)
            await self._clock.sleep(left)

    def _closed_for(self, route: str) -> float:
        """Seconds until a request may leave: its own bucket's, the route's by itself, and everything's."""
        now = self._clock.now()
        self._closed_until = {name: until for name, until in self._closed_until.items() if until.since(now) > 0}
        names = (self._buckets.get(route, route), route, "")
        return max((self._closed_until[name].since(now) for name in names if name in self._closed_until), default=0)

    def _limited(self, route: str) -> Unreadable:
        return Unreadable(
            "rate_limited",
            f"Discord lets {route} in again in {self._closed_for(route):.1f} s; use mode gateway or a longer poll",
        )

    def _learn_limit(self, route: str, path: str, answer: _Answer) -> None:
        """Remember in which bucket a route is counted, and until when that is closed; after a global 429 everything.

        A bucket may serve several routes; each channel has its own.
        """
        if bucket := answer.headers.get("X-RateLimit-Bucket"):
            self._buckets[route] = f"{bucket} {'/'.join(path.split('/')[:3])}"
        name = self._buckets.get(route, route)
        if answer.status == 429:
            body = answer.body if isinstance(answer.body, dict) else {}
            seconds = _seconds(body.get("retry_after"), _seconds(answer.headers.get("Retry-After"), _PATIENCE + 1))
            everything = body.get("global") or "X-RateLimit-Global" in answer.headers
            self._closed_until["" if everything else name] = self._clock.now().plus(max(seconds, 0.001))
        elif answer.headers.get("X-RateLimit-Remaining") == "0":
            seconds = _seconds(answer.headers.get("X-RateLimit-Reset-After"), 0.0)
            self._closed_until[name] = self._clock.now().plus(seconds)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > _MOST_BYTES:
            raise aiohttp.ClientPayloadError("too large")
    return bytes(body)


def _decoded(body: bytes) -> Any:
    try:
        return read_json(body)
    except ValueError:
        return None


def _accepted(answer: _Answer, method: str, path: str) -> Any:
    """The body of a 2xx; Unreadable, with the mend, for every other answer."""
    if 200 <= answer.status < 300:
        if answer.body is None:
            raise Unreadable("protocol", f"Discord's answer to {method} {path} is no JSON")
        return answer.body
    if answer.status == 401:
        raise Unreadable("auth", "Discord refuses the bot token; copy the current one from the developer portal")
    if answer.status in {403, 404}:
        raise Unreadable("missing_access", _missing(answer, method, path))
    if answer.status >= 500:
        raise Unreadable("unreachable", f"Discord answers {answer.status} to {method} {path}")
    raise Unreadable("protocol", f"Discord answers {answer.status} to {method} {path}")


def _code(answer: _Answer) -> int:
    code = answer.body.get("code") if isinstance(answer.body, dict) else None
    return code if isinstance(code, int) else 0


def _missing(answer: _Answer, method: str, path: str) -> str:
    if answer.status == 404:
        return f"Discord knows no {path}; correct the channel's address"
    right = "SEND_MESSAGES" if method == "POST" else "VIEW_CHANNEL and READ_MESSAGE_HISTORY"
    return f"Discord forbids {method} {path}; grant the bot {right} in that channel"


def _seconds(value: object, otherwise: float) -> float:
    try:
        seconds = float(value) if isinstance(value, (str, int, float)) else otherwise
    except ValueError:
        return otherwise
    return seconds if 0 <= seconds < 1e9 else otherwise
