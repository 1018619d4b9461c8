"""What ``check`` finds about a Slack app: tokens, scopes, membership, Socket Mode, and Slack's clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp

from prober.acts import Acts
from prober.clock import Clock
from prober.errors import Unreadable
from prober.findings import (
    ClockReading,
    Examined,
    Finding,
    clock_of_date,
    examine_posts,
    ok,
    unknown,
    unread,
    warning,
    wrong,
)
from prober.model import Channel
from prober.observers.slack import SlackObserver, SlackSettings
from prober.observers.slack_connection import WebApi, open_session
from prober.validation import validate_adapter

_HISTORIES = ("channels:history", "groups:history")
_INSTALL = "to the bot token's scopes of the Slack app and install it again"


async def examine(
    name: str, raw: Mapping[str, Any], channels: tuple[Channel, ...], clock: Clock, *, post: bool, acts: Acts
) -> Examined:
    """Ask by both tokens. With ``post`` a message of our own goes to each channel and is looked for in its history.

    Raises ConfigurationError; the rest is in the findings.
    """
    settings = validate_adapter(SlackSettings, raw)
    async with open_session() as session:
        bot = WebApi(settings.bot_token.get_secret_value(), settings.api_url, session, clock)
        asked = clock.now()
        try:
            identity = await bot.call("auth.test")
        except Unreadable as error:
            return Examined(name, (unread(_subject(error), error),))
        clocks = clock_of_date(name, bot.headers.get("Date"), asked, clock.now())
        team, user = (str(identity.get(field) or "?")[:80] for field in ("team", "user"))
        findings = [
            ok("credentials", f"bot {user} of the workspace {team}"),
            _scopes(bot.headers.get("X-OAuth-Scopes")),
        ]
        findings += [await _channel(bot, channel) for channel in channels]
        findings.append(await _socket_mode(settings, session, clock))
    if post:
        posted, stamped = await _post(name, settings, channels, clock, acts)
        findings, clocks = [*findings, *posted], (*clocks, *stamped)
    return Examined(name, tuple(findings), clocks)


def _subject(error: Unreadable) -> str:
    return "credentials" if error.reason == "auth" else "reachable"


def _scopes(header: str | None) -> Finding:
    """What the token may do, by the header that Slack answers every call with."""
    if header is None:
        return unknown("scopes", "Slack did not tell the token's scopes", "check that api_url is Slack's own")
    granted = {scope.strip() for scope in header.split(",")}
    missing = [] if "chat:write" in granted else ["chat:write"]
    if not granted & set(_HISTORIES):
        missing.insert(0, " or ".join(_HISTORIES))
    if missing:
        return wrong("scopes", f"the bot token lacks {' and '.join(missing)}", f"add it {_INSTALL}")
    if "metadata.message:read" not in granted:
        sentence = "the bot token lacks metadata.message:read: a marker in a message's metadata is not seen"
        return warning("scopes", sentence, f"add it {_INSTALL}")
    return ok("scopes", ", ".join(sorted(granted))[:200])


async def _channel(bot: WebApi, channel: Channel) -> Finding:
    """Membership and the right to read, by the call that every read is made of."""
    subject = f"channel {channel.name}"
    try:
        await bot.call("conversations.history", about=channel.name, channel=channel.address, limit=1)
    except Unreadable as error:
        return unread(subject, error)
    return ok(subject, "its history can be read")


async def _socket_mode(settings: SlackSettings, session: aiohttp.ClientSession, clock: Clock) -> Finding:
    """Whether Slack would open a connection; none is opened, so no event is taken from a prober that runs."""
    if not settings.pushes or settings.app_token is None:
        return ok("socket mode", f"not wanted: read every {settings.poll:g} s")
    app = WebApi(settings.app_token.get_secret_value(), settings.api_url, session, clock)
    try:
        await app.call("apps.connections.open")
    except Unreadable as error:
        return unread("socket mode", error)
    return ok("socket mode", "Slack opens connections to the app token")


async def _post(
    name: str, settings: SlackSettings, channels: tuple[Channel, ...], clock: Clock, acts: Acts
) -> tuple[tuple[Finding, ...], tuple[ClockReading, ...]]:
    quiet = settings.model_copy(update={"mode": "web"})
    quietly = SlackObserver(name, quiet, channels, clock)
    quietly.acts = acts
    try:
        async with quietly as observer:
            return examine_posts(name, await observer.read(None))
    except Unreadable as error:
        return (unread("posting", error),), ()
