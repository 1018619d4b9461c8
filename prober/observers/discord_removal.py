"""Removing messages from Discord: in bulk where the bot may, one by one where it is its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from prober.clean_up import Lying, Removal
from prober.clock import Clock, Instant
from prober.model import Channel, How
from prober.observers.discord_rest import PAGE, DiscordRest
from prober.observers.discord_text import is_control, is_ordinary, is_snowflake, message_of, stamp_of

REMOVALS_PER_MINUTE: Final = 60.0
"""Messages that we remove; what Discord says of its routes in its headers is kept besides."""

LOOKS_PER_MINUTE: Final = 30.0

MOST_AT_ONCE: Final = 100
BULK_AGE: Final = 14 * 86_400.0 - 3600.0
"""Seconds: older messages Discord removes one by one only (reference/resources/message, Bulk Delete: two weeks)."""

MAY_ASK_AGAIN: Final = 3600.0
"""Seconds after which it is tried again whether others' messages of a channel may be removed."""

_EPOCH: Final = 1_420_070_400.0


class DiscordRemoval:
    """One bot's removals. Others' messages need MANAGE_MESSAGES."""

    def __init__(self, rest: DiscordRest, channels: Sequence[Channel], clock: Clock) -> None:
        self._rest = rest
        self._channels = channels
        self._clock = clock
        self._own: set[str] = set()
        self._refused: dict[str, Instant] = {}

    async def remove(self, channel: str, message_ids: Sequence[str]) -> Mapping[str, Removal]:
        """See :class:`prober.observers.Removing`.

        Each refusal counts among those after which Discord bans an address: once others' messages of a channel were
        refused, no more of them are asked for until MAY_ASK_AGAIN.
        """
        address = next(each.address for each in self._channels if each.name == channel)
        named = [each for each in message_ids if is_snowflake(each)]
        ends: dict[str, Removal] = dict.fromkeys(message_ids, Removal.GONE)
        others = [each for each in named if each not in self._own]
        young = self._young(others)
        for start in range(0, len(young), MOST_AT_ONCE):
            part = young[start : start + MOST_AT_ONCE]
            if len(part) > 1 and self._may(address) and await self._rest.delete_many(address, part):
                ends |= dict.fromkeys(part, Removal.REMOVED)
                others = [each for each in others if each not in part]
        for each in [*(each for each in named if each in self._own), *others]:
            ends[each] = Removal.DENIED
            if each in self._own or self._may(address):
                ends[each] = await self._rest.delete(address, each)
                if ends[each] is Removal.DENIED:
                    self._refused[address] = self._clock.now()
        return ends

    async def lying(self, position: str, before: Instant) -> Lying:
        """See :class:`prober.observers.Removing`: one channel's page, from the newest to the oldest."""
        at, latest = _position(position, len(self._channels))
        channel = self._channels[at]
        page = await self._rest.messages_before(channel.address, latest or _snowflake_at(before.wall))
        seen = self._clock.now()
        shown = [message_of(each, channel.name, seen, How.HISTORY) for each in page if _is_said(each)]
        mine = await self._rest.own_id()
        controls = [
            message_of(each, channel.name, seen, How.HISTORY)
            for each in page
            if is_control(each) and _author(each) == mine
        ]
        self._own |= {each.id for each in controls}
        return Lying(tuple(shown), tuple(controls), self._following(at, page))

    def _may(self, address: str) -> bool:
        refused = self._refused.get(address)
        return refused is None or self._clock.now().since(refused) >= MAY_ASK_AGAIN

    def _young(self, message_ids: Sequence[str]) -> list[str]:
        now = self._clock.now().wall
        return [each for each in message_ids if now - stamp_of(each).at < BULK_AGE]

    def _following(self, at: int, page: Sequence[Mapping[str, Any]]) -> str:
        if len(page) >= PAGE:
            return json.dumps([at, min((str(each["id"]) for each in page), key=int)])
        return json.dumps([at + 1, ""]) if at + 1 < len(self._channels) else ""


def rests_on(cursor: str | None, channel: str, message_id: str) -> bool:
    """Whether a read may need the message: only what is older than the anchor in force never becomes one again."""
    try:
        return int(message_id) >= int(json.loads(cursor or "{}")[channel]["anchor"])
    except (ValueError, KeyError, TypeError):
        return True


def _is_said(payload: Mapping[str, Any]) -> bool:
    return is_ordinary(payload) and not is_control(payload)


def _author(payload: Mapping[str, Any]) -> str:
    author = payload.get("author")
    return str(author.get("id", "")) if isinstance(author, dict) else ""


def _position(position: str, channels: int) -> tuple[int, str]:
    try:
        at, latest = json.loads(position or '[0, ""]')
        return (int(at), str(latest)) if 0 <= int(at) < channels else (0, "")
    except (ValueError, TypeError):
        return 0, ""


def _snowflake_at(wall: float) -> str:
    return str(max(0, int((wall - _EPOCH) * 1000)) << 22)
