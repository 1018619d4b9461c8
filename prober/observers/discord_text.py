"""Reading one Discord message as JSON: pure, bounded, never raising on what a stranger wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard
from urllib.parse import unquote

from prober.clock import Instant
from prober.model import How, Message, Stamp

Payload = Mapping[str, Any]

CONTROL_TEXT = "delivery-prober control · safe to ignore"
"""What a control message says: no marker and no id, so that it can never be taken for a probe's."""

_EPOCH = 1_420_070_400.0
_ORDINARY = frozenset({0, 19, 20, 23})
_LOADING = 1 << 7
_MOST_DEPTH = 16
_MOST_TEXTS = 2_000
_MOST_CHARACTERS = 256 * 1024
_BODY = ("content", "embeds", "attachments", "components", "sticker_items", "stickers", "poll")
_READABLE = ("content", "embeds", "components", "poll", "sticker_items", "stickers")


def stamp_of(snowflake: str) -> Stamp:
    """When Discord's own clock made the id, to the millisecond."""
    return Stamp((int(snowflake) >> 22) / 1000 + _EPOCH, 0.001, "discord")


def snowflake_of(wall: float) -> str:
    """The lowest id that a message of that time would have."""
    return str(max(1, int((wall - _EPOCH) * 1000)) << 22)


def is_snowflake(value: object) -> TypeGuard[str]:
    """Whether it is an id as Discord writes them: up to twenty decimal digits."""
    return isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20


def is_message(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether it has at least what makes a message: an id of its own."""
    return isinstance(value, dict) and is_snowflake(value.get("id"))


def is_ordinary(payload: Payload) -> bool:
    """Whether somebody said it on the channel: no notice of Discord's own (a pin, a join, a new thread, AutoMod).

    A notice may quote what was said elsewhere, or what AutoMod kept from being said at all.
    """
    return _number(payload.get("type")) in _ORDINARY


def is_control(payload: Payload) -> bool:
    """Whether it says exactly what our control messages say; whoever wrote it, it carries no key."""
    return payload.get("content") == CONTROL_TEXT and not any(payload.get(part) for part in _BODY[1:])


def is_blanked(payload: Payload) -> bool:
    """Whether an ordinary message has nothing in it: nobody can send one, so its content was withheld from us.

    Forwarded messages carry it in their snapshots; an interaction that is still loading, and an invitation to an
    activity, are empty by nature.
    """
    loading = _number(payload.get("flags")) & _LOADING
    if not is_ordinary(payload) or loading or payload.get("activity"):
        return False
    return not any(payload.get(part) for part in _BODY) and not any(
        snapshot.get(part) for snapshot in _snapshots(payload) for part in _BODY
    )


def texts_of(payload: Payload) -> tuple[str, ...]:
    """Every text of it, each once, and beside what holds percent signs its decoded form; bounded in size."""
    texts: dict[str, None] = {}
    room = _MOST_CHARACTERS
    for text in _strings_of(payload):
        for form in dict.fromkeys((text, unquote(text))):
            if form in texts or not form:
                continue
            if len(texts) >= _MOST_TEXTS or room <= 0:
                return tuple(texts)
            texts[form[:room]] = None
            room -= len(form)
    return tuple(texts)


def message_of(payload: Payload, channel: str, seen: Instant, how: How) -> Message:
    """The message as the prober knows it, seen on the channel of that name no later than ``seen``."""
    snowflake = str(payload["id"])
    return Message(
        channel=channel,
        id=snowflake,
        fingerprint=snowflake,
        texts=texts_of(payload),
        sender=_sender(payload),
        recipients=(),
        seen=seen,
        how=how,
        stamp=stamp_of(snowflake),
    )


def _sender(payload: Payload) -> str:
    author = payload.get("author")
    return str(payload.get("webhook_id") or (author.get("id", "") if isinstance(author, dict) else ""))


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _snapshots(payload: Payload) -> Iterator[dict[str, Any]]:
    snapshots = payload.get("message_snapshots")
    for snapshot in snapshots if isinstance(snapshots, list) else ():
        message = snapshot.get("message") if isinstance(snapshot, dict) else None
        if isinstance(message, dict):
            yield message


def _strings_of(payload: Payload) -> Iterator[str]:
    for part in _READABLE:
        yield from _strings(payload.get(part), 0)
    attachments = payload.get("attachments")
    for attachment in attachments if isinstance(attachments, list) else ():
        if isinstance(attachment, dict):
            yield from _strings([attachment.get(name) for name in ("filename", "title", "description")], 0)
    for snapshot in _snapshots(payload):
        for part in _READABLE:
            yield from _strings(snapshot.get(part), 0)


def _strings(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < _MOST_DEPTH and isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part, depth + 1)
