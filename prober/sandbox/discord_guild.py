"""What Discord knows, for the sandbox: one guild, its channels' histories, who may do what, and who sees what."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from prober.clock import Clock, rfc3339
from prober.sandbox.faults import Faults

Json = dict[str, Any]

VIEW, SEND, HISTORY, MANAGE = "VIEW_CHANNEL", "SEND_MESSAGES", "READ_MESSAGE_HISTORY", "MANAGE_MESSAGES"

_EPOCH_MS = 1_420_070_400_000
_BITS = {VIEW: 1 << 10, SEND: 1 << 11, HISTORY: 1 << 16, MANAGE: 1 << 13}
_WITHHELD: Mapping[str, Any] = {"content": "", "embeds": [], "attachments": [], "components": []}
_MOST_KEPT = 50_000


@dataclass(slots=True)
class _Channel:
    id: str
    name: str
    permissions: set[str] = field(default_factory=lambda: {VIEW, SEND, HISTORY})
    ids: list[int] = field(default_factory=list)
    messages: list[Json] = field(default_factory=list)


class Guild:
    """The guild's state; no I/O. ``bot`` is the prober's bot user, ``publisher`` the product's webhook author."""

    def __init__(self, world_id: str, guild_id: str, channels: Mapping[str, str], faults: Faults, clock: Clock) -> None:
        self.id = guild_id
        self.name = f"sandbox {world_id}"
        self.application_id = str(int(guild_id) + 1)
        self.webhook_id = str(int(guild_id) + 3)
        self.bot = _user(str(int(guild_id) + 2), "prober")
        self.publisher = _user(self.webhook_id, "publisher")
        self.grant_message_content = True
        self.channels = {each: _Channel(each, name) for each, name in channels.items()}
        self._faults = faults
        self._clock = clock
        self._last = 0

    def snowflake(self) -> int:
        """A new id by Discord's clock, higher than every one before it."""
        wall = self._clock.now().wall + self._faults.clock_offset("discord")
        self._last = max(self._last + 1, (int(wall * 1000) - _EPOCH_MS) << 22)
        return self._last

    def date(self) -> str:
        """Discord's clock as HTTP tells it."""
        return formatdate(self._clock.now().wall + self._faults.clock_offset("discord"), usegmt=True)

    def may(self, channel: str, permission: str) -> bool:
        """Whether the bot may; without VIEW_CHANNEL it may nothing."""
        permissions = self.channels[channel].permissions
        return VIEW in permissions and permission in permissions

    def drafted(self, channel: str, body: Mapping[str, Any], author: Json) -> Json:
        """A message as Discord would store it, not yet in the history."""
        snowflake = self.snowflake()
        message: Json = {
            "id": str(snowflake),
            "type": int(body.get("type", 0)),
            "channel_id": channel,
            "author": author,
            "content": str(body.get("content") or ""),
            "timestamp": rfc3339(((snowflake >> 22) + _EPOCH_MS) / 1000).replace("Z", "+00:00"),
            "edited_timestamp": None,
            "tts": False,
            "mention_everyone": False,
            "mentions": [self.bot] if f"<@{self.bot['id']}>" in str(body.get("content") or "") else [],
            "mention_roles": [],
            "attachments": list(body.get("attachments") or ()),
            "embeds": list(body.get("embeds") or ()),
            "components": list(body.get("components") or ()),
            "pinned": False,
            "flags": int(body.get("flags") or 0),
        }
        if author is self.publisher:
            message["webhook_id"] = self.webhook_id
        return message

    def store(self, message: Json) -> None:
        """Make it visible in its channel's history."""
        channel = self.channels[message["channel_id"]]
        place = bisect_left(channel.ids, int(message["id"]))
        channel.ids.insert(place, int(message["id"]))
        channel.messages.insert(place, message)
        if len(channel.ids) > _MOST_KEPT:
            del channel.ids[0], channel.messages[0]

    def page(self, channel: str, *, after: int | None, before: int | None, limit: int) -> Sequence[Json]:
        """At most ``limit`` messages, newest first: those next after ``after``, else the newest before ``before``."""
        kept = self.channels[channel]
        if after is not None:
            start = bisect_right(kept.ids, after)
            return kept.messages[start : start + limit][::-1]
        end = len(kept.ids) if before is None else bisect_left(kept.ids, before)
        return kept.messages[max(0, end - limit) : end][::-1]

    def message(self, channel: str, snowflake: str) -> Json | None:
        kept = self.channels[channel]
        place = bisect_left(kept.ids, int(snowflake)) if snowflake.isdigit() else len(kept.ids)
        found = kept.messages[place] if place < len(kept.ids) else None
        return found if found is not None and found["id"] == snowflake else None

    def forget(self, message: Json) -> None:
        """Take a message out of its channel's history."""
        kept = self.channels[message["channel_id"]]
        place = kept.ids.index(int(message["id"]))
        del kept.ids[place], kept.messages[place]

    def remove(self, channel: str, snowflakes: Sequence[str]) -> str:
        """Take messages away as the bot may: '' when done, else what is missing (``message`` or MANAGE_MESSAGES).

        One that is not there is passed over when several are named.
        """
        found = [message for each in snowflakes if (message := self.message(channel, each)) is not None]
        if not found and len(snowflakes) == 1:
            return "message"
        own = len(snowflakes) == 1 and found[0]["author"] is self.bot
        if not own and not self.may(channel, MANAGE):
            return MANAGE
        for message in found:
            self.forget(message)
        return ""

    def as_seen(self, message: Json, *, content: bool) -> Json:
        """The message as the bot gets it: without the intent, others' content is withheld unless they mention it."""
        own = message["author"] is self.bot
        return message if own or content or message["mentions"] else {**message, **_WITHHELD}

    def application(self) -> Json:
        """The application as ``/oauth2/applications/@me`` tells it."""
        return {
            "id": self.application_id,
            "name": "prober",
            "icon": None,
            "description": "",
            "bot_public": False,
            "bot_require_code_grant": False,
            "verify_key": "0" * 64,
            "flags": (1 << 19) if self.grant_message_content else 0,
            "owner": self.bot,
            "team": None,
        }

    def channel(self, channel: str) -> Json:
        """One text channel as the API tells it."""
        kept = self.channels[channel]
        denied = sum(bit for permission, bit in _BITS.items() if permission not in kept.permissions)
        return {
            "id": kept.id,
            "type": 0,
            "guild_id": self.id,
            "name": kept.name,
            "position": 0,
            "parent_id": None,
            "topic": None,
            "nsfw": False,
            "last_message_id": str(kept.ids[-1]) if kept.ids else None,
            "permission_overwrites": [{"id": self.bot["id"], "type": 1, "allow": "0", "deny": str(denied)}],
        }

    def guild(self) -> Json:
        """The guild as GUILD_CREATE tells it."""
        joined = rfc3339(self._clock.now().wall)
        everyone = {
            "id": self.id,
            "name": "@everyone",
            "permissions": str(sum(_BITS.values())),
            "position": 0,
            "color": 0,
            "hoist": False,
            "managed": False,
            "mentionable": False,
        }
        bot = {"user": self.bot, "roles": [], "joined_at": joined, "deaf": False, "mute": False, "flags": 0}
        return {
            "id": self.id,
            "name": self.name,
            "icon": None,
            "splash": None,
            "owner_id": self.webhook_id,
            "afk_channel_id": None,
            "afk_timeout": 300,
            "verification_level": 0,
            "default_message_notifications": 1,
            "explicit_content_filter": 0,
            "nsfw_level": 0,
            "mfa_level": 0,
            "premium_tier": 0,
            "preferred_locale": "en-US",
            "system_channel_id": None,
            "joined_at": joined,
            "large": False,
            "unavailable": False,
            "member_count": 1,
            "roles": [everyone],
            "members": [bot],
            "channels": [self.channel(each) for each in self.channels if self.may(each, VIEW)],
            **{
                name: []
                for name in (
                    "emojis",
                    "features",
                    "threads",
                    "presences",
                    "voice_states",
                    "stage_instances",
                    "guild_scheduled_events",
                    "stickers",
                )
            },
        }


def bulk_of(body: object, wall: float) -> tuple[str, ...]:
    """The ids of a bulk deletion; none where Discord would refuse it: 2 to 100, not older than two weeks."""
    named = body.get("messages") if isinstance(body, dict) else None
    ids = [each for each in named if isinstance(each, str) and each.isdigit()] if isinstance(named, list) else []
    oldest = (int((wall - 14 * 86_400) * 1000) - _EPOCH_MS) << 22
    return tuple(ids) if 2 <= len(set(ids)) <= 100 and all(int(each) > oldest for each in ids) else ()


def _user(snowflake: str, name: str) -> Json:
    return {
        "id": snowflake,
        "username": name,
        "discriminator": "0000",
        "global_name": None,
        "avatar": None,
        "bot": True,
        "flags": 0,
        "public_flags": 0,
    }
