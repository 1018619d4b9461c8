"""Discord for the sandbox: REST v10 and the gateway on one loopback port, with the real one's refusals."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from prober.clock import Clock, wait_for_any
from prober.sandbox.discord_gateway import Gateway
from prober.sandbox.discord_guild import HISTORY, SEND, VIEW, Guild, Json, bulk_of
from prober.sandbox.discord_limits import Bucket, Limit
from prober.sandbox.faults import Faults, RequestFault
from prober.sandbox.truth import Visible

_API = "/api/v10"
_BOT_AGENT = re.compile(r"DiscordBot \(\S+?,? \S+\)")
_MOST_CONTENT = 2000

_Act = Callable[[web.Request], Awaitable[web.Response]]


class _Refusal(Exception):
    """An answer other than success, in Discord's form."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class DiscordServer:
    """One guild with one bot and one webhook of the product per channel.

    Knobs: ``grant_message_content``, :meth:`revoke` and :meth:`grant`, :meth:`reconnect_all`,
    :meth:`invalidate_sessions`, ``limits`` (by route), ``session_starts``; counters: ``identifies``, ``resumes``,
    ``connected``, ``requests``. ``on_visible`` is told of each message as it appears in the history.
    """

    def __init__(
        self, *, world_id: str, guild_id: str, channels: Mapping[str, str], token: str, faults: Faults, clock: Clock
    ) -> None:
        self.on_visible: Callable[[Visible], None] | None = None
        self.limits: dict[str, Limit] = {}
        self.session_starts = 1000
        self.requests: dict[str, int] = {}
        self.port = 0
        self._world_id = world_id
        self._token = token
        self._faults = faults
        self._clock = clock
        self._guild = Guild(world_id, guild_id, channels, faults, clock)
        self._gateway = Gateway(self._guild, self._may_log_in, lambda: self.gateway_url)
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._late: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{_API}"

    @property
    def gateway_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/gateway"

    @property
    def grant_message_content(self) -> bool:
        """Whether the application has the MESSAGE_CONTENT intent."""
        return self._guild.grant_message_content

    @grant_message_content.setter
    def grant_message_content(self, granted: bool) -> None:
        self._guild.grant_message_content = granted

    @property
    def identifies(self) -> int:
        """How many IDENTIFYs came."""
        return self._gateway.identifies

    @property
    def resumes(self) -> int:
        """How many RESUMEs were let in."""
        return self._gateway.resumes

    @property
    def connected(self) -> int:
        """How many gateway connections have a session now."""
        return self._gateway.connected

    async def start(self) -> None:
        """Listen on a free loopback port."""
        application = web.Application()
        application.router.add_get("/gateway", self._gateway.serve)
        application.router.add_get("/gateway/", self._gateway.serve)
        for method, path, act, needs_bot in self._routes():
            application.router.add_route(method, _API + path, self._answering(f"{method} {path}", act, needs_bot))
        application.router.add_route("*", "/{rest:.*}", self._answering("unknown", self._unknown, False))
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self.resume()

    async def stop(self) -> None:
        """End every connection and the listener."""
        self._stopping.set()
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        self.drop_connections()
        if self._runner is not None:
            await self._runner.cleanup()
        self._runner = self._site = None

    async def suspend(self) -> None:
        """Be gone: close the listener and drop every connection; history and sessions stay."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self.drop_connections()

    async def resume(self) -> None:
        """Listen again on the same port."""
        if self._runner is None or self._site is not None:
            return
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()
        self.port = int(self._runner.addresses[0][1])

    def drop_connections(self) -> None:
        """Reset every connection, REST and gateway, without a word."""
        server = self._runner.server if self._runner is not None else None
        for connection in list(server.connections) if server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()

    async def reconnect_all(self) -> None:
        """Ask every client to reconnect and resume (op 7)."""
        await self._gateway.reconnect_all()

    async def invalidate_sessions(self) -> None:
        """End every session, so that its client must IDENTIFY anew (op 9, d=false)."""
        await self._gateway.invalidate_sessions()

    def revoke(self, permission: str, channel: str) -> None:
        """Take VIEW_CHANNEL, SEND_MESSAGES or READ_MESSAGE_HISTORY in a channel from the bot."""
        self._guild.channels[channel].permissions.discard(permission)

    def grant(self, permission: str, channel: str) -> None:
        """Give back what :meth:`revoke` took."""
        self._guild.channels[channel].permissions.add(permission)

    def insert(self, message: Json) -> None:
        """Let a message appear in the history where its id puts it, pushed to nobody."""
        self._guild.store(message)

    def forget(self, channel: str, message_id: str) -> None:
        """Let a message vanish from the history, as a moderator would."""
        message = self._guild.message(channel, message_id)
        if message is not None:
            self._guild.forget(message)

    def history(self, channel: str) -> tuple[Json, ...]:
        """Every message of a channel, oldest first."""
        return tuple(self._guild.channels[channel].messages)

    async def post(self, channel_id: str, content: str, *, embeds: Sequence[Json] = (), **parts: Any) -> str:
        """A webhook message of the product; its id. ``parts`` are further fields of a message."""
        draft = {"content": content, "embeds": embeds, **parts}
        return str((await self._publish(channel_id, draft, self._guild.publisher))["id"])

    async def _publish(self, channel: str, body: Mapping[str, Any], author: Json) -> Json:
        before = self._clock.now()  # its id already says a time
        message = self._guild.drafted(channel, body, author)
        self._guild.store(message)
        after = self._clock.now()
        if self.on_visible is not None:
            self.on_visible(Visible("discord", channel, message["id"], before, after))
        late = self._faults.push("discord", channel)
        if late is not None and late > 0:
            task = asyncio.create_task(self._tell_late(message, late))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
        elif late is not None:
            await self._gateway.tell_message(message)
        return message

    async def _tell_late(self, message: Json, seconds: float) -> None:
        await self._clock.sleep(seconds)
        await self._gateway.tell_message(message)

    def _routes(self) -> tuple[tuple[str, str, _Act, bool], ...]:
        messages = "/channels/{channel}/messages"
        return (
            ("GET", "/users/@me", self._me, True),
            ("GET", "/oauth2/applications/@me", self._application, True),
            ("GET", "/gateway", self._gateway_address, False),
            ("GET", "/gateway/bot", self._gateway_for_bot, True),
            ("GET", "/channels/{channel}", self._channel, True),
            ("GET", "/guilds/{guild}", self._guild_itself, True),
            ("GET", "/guilds/{guild}/members/{user}", self._member, True),
            ("GET", messages, self._messages, True),
            ("POST", messages, self._create, True),
            ("DELETE", messages + "/{message}", self._delete, True),
            ("POST", messages + "/bulk-delete", self._delete_many, True),
            ("POST", "/webhooks/{webhook}/{secret}", self._webhook, False),
        )

    def _answering(self, route: str, act: _Act, needs_bot: bool) -> _Act:
        """The act behind what every request passes: weather, token, User-Agent, rate limit."""

        async def answer(request: web.Request) -> web.Response:
            self.requests[route] = self.requests.get(route, 0) + 1
            spoiled = await self._spoiled(request, self._faults.request("discord", route))
            if spoiled is not None:
                return spoiled
            headers: dict[str, str] = {}
            try:
                if needs_bot:
                    self._admit(request)
                closed, headers = self._meter(route, request.match_info.get("channel", ""))
                if closed > 0:
                    return _limited(closed, headers)
                response = await act(request)
            except _Refusal as refusal:
                response = _json({"message": str(refusal), "code": refusal.code}, refusal.status)
            response.headers.update({**headers, "Date": self._guild.date()})
            return response

        return answer

    async def _spoiled(self, request: web.Request, fault: RequestFault | None) -> web.Response | None:
        if fault is None:
            return None
        if fault.delay > 0:
            await wait_for_any(self._clock, self._stopping, fault.delay)
        if fault.garbage:
            return web.Response(body=b"<html>", content_type="text/html", status=fault.status or 200)
        if fault.status == 0:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        if fault.status == 429:
            return _limited(fault.retry_after or 1.0, {})
        return None if fault.status is None else _json({"message": "spoiled", "code": 0}, fault.status)

    def _admit(self, request: web.Request) -> None:
        if not _BOT_AGENT.match(request.headers.get("User-Agent", "")):
            raise _Refusal(403, 40333, "internal network error")
        if not self._may_log_in(request.headers.get("Authorization", "").removeprefix("Bot ")):
            raise _Refusal(401, 0, "401: Unauthorized")

    def _may_log_in(self, token: object) -> bool:
        """Whether the token is let in; the day's last IDENTIFY but none ends it for good."""
        return token == self._token and self.session_starts - self.identifies >= 0 and self._faults.login("discord")

    def _meter(self, route: str, channel: str) -> tuple[float, dict[str, str]]:
        limit = self.limits.get(route, Limit(50, 1.0))
        bucket = self._buckets.setdefault((route, channel), Bucket(limit))
        bucket.limit = limit
        now = self._clock.now().boottime
        return bucket.take(now), bucket.headers(f"{abs(hash(route)):032x}"[:32], now)

    def _channel_of(self, request: web.Request, permission: str) -> str:
        channel = request.match_info["channel"]
        if channel not in self._guild.channels:
            raise _Refusal(404, 10003, "Unknown Channel")
        if not self._guild.may(channel, VIEW):
            raise _Refusal(403, 50001, "Missing Access")
        if permission == SEND and not self._guild.may(channel, SEND):
            raise _Refusal(403, 50013, "Missing Permissions")
        return channel

    async def _me(self, request: web.Request) -> web.Response:
        return _json(self._guild.bot)

    async def _application(self, request: web.Request) -> web.Response:
        return _json(self._guild.application())

    async def _gateway_address(self, request: web.Request) -> web.Response:
        return _json({"url": self.gateway_url})

    async def _gateway_for_bot(self, request: web.Request) -> web.Response:
        limit = {"total": 1000, "remaining": max(0, self.session_starts - self.identifies), "reset_after": 86_400_000}
        return _json({"url": self.gateway_url, "shards": 1, "session_start_limit": {**limit, "max_concurrency": 1}})

    async def _channel(self, request: web.Request) -> web.Response:
        return _json(self._guild.channel(self._channel_of(request, VIEW)))

    async def _guild_itself(self, request: web.Request) -> web.Response:
        if request.match_info["guild"] != self._guild.id:
            raise _Refusal(404, 10004, "Unknown Guild")
        told = ("id", "name", "owner_id", "roles", "preferred_locale", "features")
        return _json({name: value for name, value in self._guild.guild().items() if name in told})

    async def _member(self, request: web.Request) -> web.Response:
        (member,) = self._guild.guild()["members"]
        if request.match_info["guild"] != self._guild.id:
            raise _Refusal(404, 10004, "Unknown Guild")
        if request.match_info["user"] != member["user"]["id"]:
            raise _Refusal(404, 10007, "Unknown Member")
        return _json(member)

    async def _messages(self, request: web.Request) -> web.Response:
        channel = self._channel_of(request, HISTORY)
        try:
            after, before = (
                int(request.query[name]) if name in request.query else None for name in ("after", "before")
            )
            limit = int(request.query.get("limit", "50"))
        except ValueError:
            raise _Refusal(400, 50035, "Invalid Form Body") from None
        if not 1 <= limit <= 100 or (after is not None and before is not None):
            raise _Refusal(400, 50035, "Invalid Form Body")
        if not self._guild.may(channel, HISTORY):
            return _json([])
        page = self._guild.page(channel, after=after, before=before, limit=limit)
        granted = self.grant_message_content
        return _json([self._guild.as_seen(message, content=granted) for message in page])

    async def _create(self, request: web.Request) -> web.Response:
        channel = self._channel_of(request, SEND)
        return _json(await self._publish(channel, await _draft(request), self._guild.bot))

    async def _delete(self, request: web.Request) -> web.Response:
        missing = self._guild.remove(self._channel_of(request, VIEW), [request.match_info["message"]])
        if missing:
            raise _Refusal(404, 10008, "Unknown Message") if missing == "message" else _Refusal(403, 50013, missing)
        return web.Response(status=204)

    async def _delete_many(self, request: web.Request) -> web.Response:
        ids = bulk_of(await request.json(), self._clock.now().wall)
        if not ids or self._guild.remove(self._channel_of(request, VIEW), ids):
            raise _Refusal(403, 50013, "Missing Permissions") if ids else _Refusal(400, 50016, "Too few or too many")
        return web.Response(status=204)

    def webhook_url(self, channel: str) -> str:
        """Where the product posts to a channel; the secret part needs no other authentication."""
        return f"{self.api_url}/webhooks/{self._guild.webhook_id}/{self._world_id}-{channel}"

    async def _webhook(self, request: web.Request) -> web.Response:
        world, _, channel = request.match_info["secret"].rpartition("-")
        known = world == self._world_id and channel in self._guild.channels
        if not known or request.match_info["webhook"] != self._guild.webhook_id:
            raise _Refusal(404, 10015, "Unknown Webhook")
        message = await self._publish(channel, await _draft(request), self._guild.publisher)
        return _json(message) if request.query.get("wait") in {"true", "1"} else web.Response(status=204)

    async def _unknown(self, request: web.Request) -> web.Response:
        raise _Refusal(404, 0, "404: Not Found")


async def _draft(request: web.Request) -> Json:
    """A message's body as posted: JSON, or a form whose ``payload_json`` it is. Refused when empty or too long."""
    try:
        body = (
            await request.json()
            if request.content_type == "application/json"
            else json.loads(str((await request.post())["payload_json"]))
        )
    except (ValueError, KeyError):
        raise _Refusal(400, 50109, "The request body contains invalid JSON.") from None
    if not isinstance(body, dict) or len(str(body.get("content") or "")) > _MOST_CONTENT:
        raise _Refusal(400, 50035, "Invalid Form Body")
    if not (body.get("content") or body.get("embeds") or body.get("components")):
        raise _Refusal(400, 50006, "Cannot send an empty message")
    return body


def _json(body: object, status: int = 200) -> web.Response:
    """Clients look for this content type to the letter: no charset may follow."""
    return web.Response(body=json.dumps(body).encode(), content_type="application/json", status=status)


def _limited(seconds: float, headers: Mapping[str, str]) -> web.Response:
    body = {"message": "You are being rate limited.", "retry_after": round(seconds, 3), "global": False}
    response = _json(body, 429)
    response.headers.update({**headers, "Retry-After": str(int(seconds) + 1), "Via": "1.1 sandbox"})
    return response
