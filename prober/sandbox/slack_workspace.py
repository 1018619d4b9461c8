"""A Slack workspace as pure logic over a Clock: tokens, scopes, membership, limits, histories, and answers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from prober.clock import Clock
from prober.sandbox.faults import Faults
from prober.sandbox.truth import Visible

_ARGUMENT = {"oldest": "invalid_ts_oldest", "latest": "invalid_ts_latest"}
_READS = frozenset({"channels:history", "groups:history", "channels:read", "groups:read", "metadata.message:read"})
_URL = re.compile(r"(?<![<|])https?://[^\s<>|]+")
_BARE_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt);)")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Limit:
    """How often a method may be called: ``burst`` at once, refilled by ``per_minute``."""

    per_minute: float
    burst: int


@dataclass(slots=True)
class Grant:
    """What one token may do: as whom it acts, with which scopes, in which channels; ``error`` refuses all of it."""

    user_id: str
    bot_id: str
    app_id: str
    scopes: set[str]
    channels: set[str]
    error: str = ""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float

    def take(self, limit: Limit, now: float) -> float:
        """Seconds until the next call is let in; 0 when this one is."""
        self.tokens = min(limit.burst, self.tokens + (now - self.at) * limit.per_minute / 60)
        self.at = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) * 60 / limit.per_minute


@dataclass(slots=True)
class _History:
    """One channel's messages, oldest first, with their time stamps in microseconds beside them."""

    name: str
    messages: list[Json] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    last: int = 0


class Refusal(Exception):
    """Slack said no; ``answer`` is the body that says so."""

    def __init__(self, error: str, **details: str) -> None:
        super().__init__(error)
        self.answer: Json = {"ok": False, "error": error, **details}


class Workspace:
    """One workspace with two apps in it: the prober's (``bot``, ``app``) and the product's (``publisher``)."""

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
        announce: Callable[[str, Json], None],
    ) -> None:
        digest = hashlib.sha256(world_id.encode()).hexdigest().upper()
        self.team_id = f"T{digest[:9]}"
        self.limits = {
            "conversations.history": Limit(50, 200),
            "conversations.info": Limit(50, 200),
            "chat.delete": Limit(50, 200),
            "chat.postMessage": Limit(60, 60),
            "apps.connections.open": Limit(1, 30),
        }
        inside = set(channels)
        self.bot = Grant(f"U{digest[9:18]}", f"B{digest[9:18]}", "A0PROBER", {"chat:write", *_READS}, inside)
        self.app = Grant("", "", "A0PROBER", {"connections:write"}, set())
        self.publisher = Grant(f"U{digest[18:27]}", f"B{digest[18:27]}", "A0PRODUCT", {"chat:write"}, set(channels))
        self.tickets: set[str] = set()
        self.socket_url = ""
        self._grants = {bot_token: self.bot, app_token: self.app, publisher_token: self.publisher}
        self._histories = {channel: _History(name) for channel, name in channels.items()}
        self._buckets: dict[tuple[str, ...], _Bucket] = {}
        self._faults = faults
        self._clock = clock
        self._announce = announce
        self.on_visible: Callable[[Visible], None] | None = None

    def authenticate(self, token: str) -> Grant:
        """What a token grants. Raises Refusal."""
        if not token:
            raise Refusal("not_authed")
        grant = self._grants.get(token)
        if grant is None or (grant is not self.publisher and not self._faults.login("slack")):
            raise Refusal("invalid_auth")
        if grant.error:
            raise Refusal(grant.error)
        return grant

    def date(self) -> str:
        """Slack's clock as HTTP tells it."""
        return formatdate(self._clock.now().wall + self._faults.clock_offset("slack"), usegmt=True)

    def prune(self, channel_id: str) -> None:
        """Forget what a channel holds, as a retention policy does."""
        history = self._histories[channel_id]
        history.messages.clear()
        history.stamps.clear()

    def forget(self, channel_id: str, ts: str) -> None:
        """Let a message of the publishing system vanish, as its author would."""
        self._delete(self.publisher, {"channel": channel_id, "ts": ts})

    def append(self, author: Grant, channel_id: str, text: str, body: Json) -> Json:
        """Let ``author`` say something in a channel, and announce it; return the message."""
        history = self._histories[channel_id]
        before = self._clock.now()
        wall = before.wall + self._faults.clock_offset("slack")
        history.last = stamp = max(history.last + 1, round(wall * 1_000_000))
        ts = f"{stamp // 1_000_000}.{stamp % 1_000_000:06d}"
        message: Json = {"type": "message", "ts": ts, "text": _as_stored(text), "team": self.team_id}
        message |= {"bot_id": author.bot_id, "app_id": author.app_id}
        message |= {key: value for key, value in body.items() if value}
        if message.get("subtype") != "bot_message":
            message["user"] = author.user_id
        # A reply stands in its thread: the channel's own history does not show it.
        if message.get("thread_ts", ts) == ts or message.get("subtype") == "thread_broadcast":
            history.messages.append(message)
            history.stamps.append(stamp)
            if self.on_visible is not None:
                self.on_visible(Visible("slack", channel_id, ts, before, self._clock.now()))
        self._announce(channel_id, message)
        return message

    def event(self, channel_id: str, message: Json) -> Json | None:
        """What the prober's app is told of a message; None when it may not hear it."""
        private = channel_id.startswith("G")
        scope = "groups:history" if private else "channels:history"
        if scope not in self.bot.scopes or channel_id not in self.bot.channels or self.bot.error:
            return None
        event = {**message, "channel": channel_id, "event_ts": message["ts"]}
        event["channel_type"] = "group" if private else "channel"
        if "metadata.message:read" not in self.bot.scopes:
            event.pop("metadata", None)
        payload: Json = {"type": "event_callback", "event_id": f"Ev{secrets.token_hex(5).upper()}", "event": event}
        identity = {"team_id": self.team_id, "api_app_id": self.bot.app_id}
        return payload | identity | {"event_time": int(float(message["ts"]))}

    def throttle(self, method: str, grant: Grant, parameters: Json) -> float:
        """Seconds until this call may be made; 0 when it may be made now."""
        limit = self.limits.get(method)
        if limit is None:
            return 0.0
        key = (method, grant.app_id, str(parameters.get("channel", "")) if method == "chat.postMessage" else "")
        now = self._clock.now().boottime
        return self._buckets.setdefault(key, _Bucket(limit.burst, now)).take(limit, now)

    def answer(self, method: str, grant: Grant, parameters: Json) -> Json:
        """The answer to a Web API call, without its ``ok``. Raises Refusal."""
        if (grant is self.app) != (method == "apps.connections.open"):
            raise Refusal("not_allowed_token_type")
        answers: dict[str, Callable[[Grant, Json], Json]] = {
            "auth.test": self._auth_test,
            "apps.connections.open": self._connections_open,
            "chat.postMessage": self._post_message,
            "chat.delete": self._delete,
            "conversations.info": self._info,
            "conversations.history": self._read_history,
        }
        answer = answers.get(method)
        if answer is None:
            raise Refusal("unknown_method")
        return answer(grant, parameters)

    def _auth_test(self, grant: Grant, parameters: Json) -> Json:
        return {
            "url": "https://sandbox.slack.example/",
            "team": "Sandbox",
            "user": "prober" if grant is self.bot else "product",
            "team_id": self.team_id,
            "user_id": grant.user_id,
            "bot_id": grant.bot_id,
        }

    def _connections_open(self, grant: Grant, parameters: Json) -> Json:
        _need(grant, "connections:write")
        ticket = secrets.token_hex(16)
        self.tickets.add(ticket)
        return {"url": f"{self.socket_url}?ticket={ticket}&app_id={grant.app_id}"}

    def _channel(self, grant: Grant, parameters: Json, *, member: bool = True) -> tuple[str, _History]:
        channel_id = str(parameters.get("channel", ""))
        history = self._histories.get(channel_id)
        inside = channel_id in grant.channels
        if history is None or (channel_id.startswith("G") and not inside):
            raise Refusal("channel_not_found")
        if member and not inside:
            raise Refusal("not_in_channel")
        return channel_id, history

    def _post_message(self, grant: Grant, parameters: Json) -> Json:
        _need(grant, "chat:write")
        channel_id, _ = self._channel(grant, parameters)
        body = {key: _embedded(parameters.get(key)) for key in ("blocks", "attachments", "metadata")}
        text = str(parameters.get("text") or "")
        if not (text or body["blocks"] or body["attachments"]):
            raise Refusal("no_text")
        message = self.append(grant, channel_id, text, body)
        return {"channel": channel_id, "ts": message["ts"], "message": message}

    def _delete(self, grant: Grant, parameters: Json) -> Json:
        _need(grant, "chat:write")
        channel_id, history = self._channel(grant, parameters)
        stamp = _micros(parameters, "ts", 0)
        place = bisect_left(history.stamps, stamp)
        if place == len(history.stamps) or history.stamps[place] != stamp:
            raise Refusal("message_not_found")
        if history.messages[place]["bot_id"] != grant.bot_id:
            raise Refusal("cant_delete_message")
        ts = history.messages[place]["ts"]
        del history.messages[place], history.stamps[place]
        return {"channel": channel_id, "ts": ts}

    def _info(self, grant: Grant, parameters: Json) -> Json:
        private = str(parameters.get("channel", "")).startswith("G")
        _need(grant, "groups:read" if private else "channels:read")
        channel_id, history = self._channel(grant, parameters, member=False)
        channel: Json = {"id": channel_id, "name": history.name, "is_channel": True, "is_private": private}
        return {"channel": channel | {"is_member": channel_id in grant.channels, "is_archived": False}}

    def _read_history(self, grant: Grant, parameters: Json) -> Json:
        private = str(parameters.get("channel", "")).startswith("G")
        _need(grant, "groups:history" if private else "channels:history")
        _, history = self._channel(grant, parameters)
        inclusive = str(parameters.get("inclusive", "")).lower() in {"1", "true"}
        left, right = (bisect_left, bisect_right) if inclusive else (bisect_right, bisect_left)
        first = left(history.stamps, _micros(parameters, "oldest", 0))
        end = right(history.stamps, _micros(parameters, "latest", 1 << 62))
        if parameters.get("cursor"):
            end = min(end, bisect_left(history.stamps, _from_cursor(str(parameters["cursor"]))))
        start = max(first, end - max(1, min(999, int(parameters.get("limit") or 100))))
        shown = history.messages[start:end][::-1]
        if "metadata.message:read" not in grant.scopes or not parameters.get("include_all_metadata"):
            shown = [{key: value for key, value in message.items() if key != "metadata"} for message in shown]
        answer: Json = {"messages": shown, "has_more": start > first, "pin_count": 0}
        if start > first:
            cursor = base64.b64encode(f"next_ts:{history.stamps[start]}".encode()).decode()
            answer["response_metadata"] = {"next_cursor": cursor}
        return answer


def _need(grant: Grant, scope: str) -> None:
    if scope not in grant.scopes:
        raise Refusal("missing_scope", needed=scope, provided=",".join(sorted(grant.scopes)))


def _embedded(value: Any) -> Any:
    """A structure that a form carries as JSON text."""
    return json.loads(value) if isinstance(value, str) and value else value


def _micros(parameters: Json, name: str, default: int) -> int:
    value = str(parameters.get(name) or "")
    if not value:
        return default
    if not re.fullmatch(r"\d{1,12}(\.\d{1,6})?", value):
        raise Refusal(_ARGUMENT.get(name, "invalid_ts"))
    seconds, _, fraction = value.partition(".")
    return int(seconds) * 1_000_000 + int(fraction.ljust(6, "0"))


def _from_cursor(cursor: str) -> int:
    try:
        return int(base64.b64decode(cursor, validate=True).decode().removeprefix("next_ts:"))
    except ValueError:
        raise Refusal("invalid_cursor") from None


def _as_stored(text: str) -> str:
    """Slack's own form of a text: ampersands as entities, bare URLs in angle brackets."""
    return _URL.sub(lambda match: f"<{match[0]}>", _BARE_AMPERSAND.sub("&amp;", text))
