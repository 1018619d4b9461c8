"""What ``check`` finds about a Discord bot: token, intent, permissions, sessions left, and Discord's clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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
from prober.observers.discord import DiscordObserver, DiscordSettings
from prober.observers.discord_permissions import missing, permissions
from prober.observers.discord_rest import DiscordRest
from prober.validation import validate_adapter

_MESSAGE_CONTENT: Final = (1 << 18) | (1 << 19)
"""Application flags GATEWAY_MESSAGE_CONTENT and GATEWAY_MESSAGE_CONTENT_LIMITED (resources/application)."""

_TEXT_CHANNELS: Final = frozenset({0, 5, 10, 11, 12})
"""Guild text, announcement and the three kinds of thread (resources/channel, channel types)."""

_FEW_SESSIONS: Final = 50
_ANSWERED_WITHIN: Final = 5.0


async def examine(
    name: str, raw: Mapping[str, Any], channels: tuple[Channel, ...], clock: Clock, *, post: bool, acts: Acts
) -> Examined:
    """Ask over REST; no session of the gateway is spent. With ``post`` a message of our own goes to each channel.

    Raises ConfigurationError; the rest is in the findings.
    """
    settings = validate_adapter(DiscordSettings, raw)
    token = settings.token.get_secret_value()
    async with DiscordRest(token, settings.api_url, clock, timeout=_ANSWERED_WITHIN) as rest:
        asked = clock.now()
        try:
            me = await rest.object_at("/users/@me")
        except Unreadable as error:
            return Examined(name, (_unheard(error),))
        clocks = clock_of_date(name, rest.headers.get("Date"), asked, clock.now())
        findings = [ok("credentials", f"bot {str(me.get('username') or '?')[:80]}"), await _intent(rest)]
        if settings.mode == "gateway":
            findings.append(await _sessions(rest))
        findings += [await _channel(rest, channel, str(me.get("id"))) for channel in channels]
    if post:
        posted, stamped = await _post(name, settings, channels, clock, acts)
        findings, clocks = [*findings, *posted], (*clocks, *stamped)
    return Examined(name, tuple(findings), clocks)


def _unheard(error: Unreadable) -> Finding:
    if error.reason == "missing_access":  # nobody forbids a bot to ask who it is
        return wrong("reachable", "what answers there is not Discord's API", "correct api_url")
    return unread("credentials" if error.reason == "auth" else "reachable", error)


async def _intent(rest: DiscordRest) -> Finding:
    try:
        application = await rest.object_at("/oauth2/applications/@me")
    except Unreadable as error:
        return unread("intents", error)
    flags = application.get("flags")
    if not isinstance(flags, int):
        return unknown("intents", "Discord does not tell the application's flags", "check that api_url is Discord's")
    if not flags & _MESSAGE_CONTENT:
        sentence = "MESSAGE CONTENT is not granted: other authors' messages come without content"
        return wrong("intents", sentence, "enable Message Content Intent in the developer portal, under Bot")
    return ok("intents", "MESSAGE CONTENT is granted")


async def _sessions(rest: DiscordRest) -> Finding:
    try:
        remaining, reset_after = await rest.session_starts()
    except Unreadable as error:
        return unread("sessions", error)
    told = f"{remaining} new sessions are left for the next {reset_after / 3600:.0f} h"
    if remaining < _FEW_SESSIONS:
        return warning("sessions", told, "find what connects so often, or use mode: rest")
    return ok("sessions", told)


async def _channel(rest: DiscordRest, channel: Channel, bot: str) -> Finding:
    """Whether the bot may see, read and post: without the right to read, Discord shows an empty history."""
    subject = f"channel {channel.name}"
    try:
        found = await rest.object_at(f"/channels/{channel.address}")
        guild_id = str(found.get("guild_id") or "")
        guild = await rest.object_at(f"/guilds/{guild_id}")
        member = await rest.object_at(f"/guilds/{guild_id}/members/{bot}")
        lacking = missing(permissions(guild, member, found))
    except Unreadable as error:
        return unread(subject, error)
    except (TypeError, ValueError, KeyError, AttributeError):
        return unknown(subject, "its permissions cannot be told", "check that api_url is Discord's")
    if found.get("type") not in _TEXT_CHANNELS:
        return wrong(subject, "this is no text channel", f"correct channels.{channel.name}.address")
    if lacking:
        return wrong(subject, f"the bot lacks {', '.join(lacking)}", "grant it in the channel's permissions")
    return ok(subject, "the bot may see, read and post")


async def _post(
    name: str, settings: DiscordSettings, channels: tuple[Channel, ...], clock: Clock, acts: Acts
) -> tuple[tuple[Finding, ...], tuple[ClockReading, ...]]:
    quiet = settings.model_copy(update={"mode": "rest"})
    quietly = DiscordObserver(name, quiet, channels, clock)
    quietly.acts = acts
    try:
        async with quietly as observer:
            return examine_posts(name, await observer.read(None))
    except Unreadable as error:
        return (unread("posting", error),), ()
