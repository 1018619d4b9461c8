"""Removing messages from Slack: ``chat.delete``, and pages of the history that no measurement waits for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from prober.clean_up import Lying, Removal
from prober.clock import Clock, Instant
from prober.errors import Unreadable
from prober.model import Channel, How, Message, Stamp
from prober.observers.slack_connection import DENIED, GONE, WebApi
from prober.observers.slack_text import is_control, is_ordinary, message_texts

REMOVALS_PER_MINUTE: Final = 40.0
"""Calls of chat.delete: tier 3 is 50 a minute and more (docs.slack.dev, reference/methods/chat.delete)."""

LOOKS_PER_MINUTE: Final = 4.0
"""Pages of conversations.history: what the 45 calls of the reads leave of that method's 50 a minute."""

PAGE: Final = 100


class SlackRemoval:
    """``apis`` delete, each what its own token may: Slack lets a bot delete only its own messages, so the product's
    need the product's token or that of a person with the right to."""

    def __init__(self, reader: WebApi, apis: Sequence[WebApi], channels: Sequence[Channel], clock: Clock) -> None:
        self._reader = reader
        self._apis = apis
        self._channels = channels
        self._clock = clock

    async def remove(self, channel: str, message_ids: Sequence[str]) -> Mapping[str, Removal]:
        """See :class:`prober.observers.Removing`. What is refused after others went is told with the next call."""
        (its,) = (each for each in self._channels if each.name == channel)
        ends: dict[str, Removal] = {}
        for ts in message_ids:
            try:
                ends[ts] = await self._delete(its, ts)
            except Unreadable:
                if not ends:
                    raise
                break
        return ends

    async def lying(self, position: str, before: Instant, own: frozenset[str]) -> Lying:
        """See :class:`prober.observers.Removing`: one channel's page, from the newest to the oldest."""
        at, latest = _position(position, len(self._channels))
        channel = self._channels[at]
        answer = await self._reader.call(
            "conversations.history",
            about=channel.name,
            channel=channel.address,
            latest=latest or f"{max(0.0, before.wall):.6f}",
            inclusive=False,
            include_all_metadata=True,
            limit=PAGE,
        )
        seen, shown = self._clock.now(), [raw for raw in answer.get("messages") or () if _has_ts(raw)]
        messages = [_message(channel, raw, seen) for raw in shown if is_ordinary(raw) and not is_control(raw, own)]
        controls = [_message(channel, raw, seen) for raw in shown if is_control(raw, own)]
        return Lying(tuple(messages), tuple(controls), self._following(at, answer, shown))

    def _following(self, at: int, answer: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> str:
        if answer.get("has_more") and shown:
            return json.dumps([at, min((str(raw["ts"]) for raw in shown), key=float)])
        return json.dumps([at + 1, ""]) if at + 1 < len(self._channels) else ""

    async def _delete(self, channel: Channel, ts: str) -> Removal:
        for api in self._apis:
            try:
                await api.call("chat.delete", about=channel.name, channel=channel.address, ts=ts)
            except Unreadable as error:
                if error.reason == GONE:
                    return Removal.GONE
                if error.reason != DENIED:
                    raise
            else:
                return Removal.REMOVED
        return Removal.DENIED


def rests_on(cursor: str | None, address: str, ts: str) -> bool:
    """Whether a read may need the message: only what is older than the anchor in force never becomes one again."""
    try:
        entry = json.loads(cursor or "{}")[address]
        return float(ts) >= float(entry.get("ts") or entry["anchor"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return True


def _position(position: str, channels: int) -> tuple[int, str]:
    try:
        at, latest = json.loads(position or '[0, ""]')
        return (int(at), str(latest)) if 0 <= int(at) < channels else (0, "")
    except (ValueError, TypeError):
        return 0, ""


def _has_ts(raw: Any) -> bool:
    try:
        return isinstance(raw["ts"], str) and float(raw["ts"]) > 0
    except (KeyError, TypeError, ValueError):
        return False


def _message(channel: Channel, raw: Mapping[str, Any], seen: Instant) -> Message:
    ts = str(raw["ts"])
    return Message(
        channel=channel.name,
        id=ts,
        fingerprint=ts,
        texts=message_texts(raw),
        sender=str(raw.get("bot_id") or raw.get("user") or ""),
        recipients=(),
        seen=seen,
        how=How.HISTORY,
        stamp=Stamp(float(int(float(ts))), 1.0, "slack"),
    )
