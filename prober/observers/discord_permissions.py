"""What a bot may do in a Discord channel, from what the API tells about guild, member and channel. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

VIEW_CHANNEL: Final = 1 << 10
SEND_MESSAGES: Final = 1 << 11
READ_MESSAGE_HISTORY: Final = 1 << 16
_ADMINISTRATOR: Final = 1 << 3
_EVERYTHING: Final = (1 << 53) - 1

NEEDED: Final[Mapping[str, int]] = {
    "View Channel": VIEW_CHANNEL,
    "Read Message History": READ_MESSAGE_HISTORY,
    "Send Messages": SEND_MESSAGES,
}


def permissions(guild: Mapping[str, Any], member: Mapping[str, Any], channel: Mapping[str, Any]) -> int:
    """The bits that hold for a member in a channel (discord-api-docs, topics/permissions, permission overwrites).

    Roles add up; then the channel's overwrites for everyone, for the member's roles together, and for the member.
    Raises TypeError, ValueError, KeyError or AttributeError for what is not Discord's.
    """
    everyone, user = str(guild["id"]), str(member["user"]["id"])
    roles = {str(each) for each in member["roles"]}
    bits = 0
    for role in guild["roles"]:
        if str(role["id"]) in {everyone, *roles}:
            bits |= int(role["permissions"])
    if str(guild.get("owner_id")) == user or bits & _ADMINISTRATOR:
        return _EVERYTHING
    overwrites = {str(each["id"]): each for each in channel.get("permission_overwrites") or ()}
    for layer in ([everyone], roles, [user]):
        bits = _overwritten(bits, [overwrites[each] for each in layer if each in overwrites])
    return bits if bits & VIEW_CHANNEL else 0


def missing(bits: int) -> list[str]:
    """The needed permissions that the bits do not hold, as Discord's settings call them."""
    return [name for name, bit in NEEDED.items() if not bits & bit]


def _overwritten(bits: int, overwrites: Iterable[Mapping[str, Any]]) -> int:
    allow = deny = 0
    for each in overwrites:
        allow |= int(each.get("allow") or 0)
        deny |= int(each.get("deny") or 0)
    return bits & ~deny | allow
