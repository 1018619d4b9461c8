"""What a Slack message says, in all the places where Slack lets it be said: pure, bounded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

CONTROL_TEXT = "delivery-prober control · safe to ignore"
"""The text of a control message; it carries no key."""

MOST_CHARACTERS = 256_000
MOST_TEXTS = 2_000
MOST_DEPTH = 24

_SUBTYPES = frozenset({"", "bot_message", "file_share", "me_message"})
_LINK = re.compile(r"<([^<>|]{1,4000})(?:\|([^<>]{0,4000}))?>")
_URL = re.compile(r"https?://[^\s<>|\"]{1,4000}")
_ENTITY = re.compile(r"&(amp|lt|gt);")
_CHARACTERS = {"amp": "&", "lt": "<", "gt": ">"}


def is_ordinary(message: Mapping[str, Any]) -> bool:
    """Whether it is a message that a person sees on the channel: no edit, deletion, reply in a thread or notice."""
    in_thread = (message.get("thread_ts") or message.get("ts")) != message.get("ts")
    return str(message.get("subtype") or "") in _SUBTYPES and not in_thread


def is_broadcast(message: Mapping[str, Any]) -> bool:
    """Whether it shows on the channel what somebody has replied in a thread."""
    return message.get("subtype") == "thread_broadcast"


def is_blank(message: Mapping[str, Any]) -> bool:
    """Whether an ordinary message has come without any content, as if Slack withheld it."""
    return not any(message.get(part) for part in ("text", "blocks", "attachments", "files"))


def is_control(message: Mapping[str, Any], own: frozenset[str]) -> bool:
    """Whether one of ``own`` (bot or user ids) posted it as a control message."""
    authors = (str(message.get("bot_id")), str(message.get("user")))
    return not own.isdisjoint(authors) and message.get("text") == CONTROL_TEXT


def message_texts(message: Mapping[str, Any]) -> tuple[str, ...]:
    """Every text of a message, decoded, once each and in order: what is read first, then the links.

    Bounded to MOST_TEXTS texts, MOST_CHARACTERS characters in all and MOST_DEPTH levels; what exceeds them is left out.
    """
    texts: dict[str, None] = {}
    left = MOST_CHARACTERS
    for raw in _raw_texts(message):
        for text in _decoded(raw):
            if text in texts:
                continue
            if len(text) > left or len(texts) >= MOST_TEXTS:
                return tuple(texts)
            texts[text] = None
            left -= len(text)
    return tuple(texts)


def _raw_texts(message: Mapping[str, Any]) -> Iterator[str]:
    metadata = message.get("metadata")
    payload = metadata.get("event_payload") if isinstance(metadata, Mapping) else None
    files = message.get("files")
    titles = [
        [file.get("title"), file.get("name")]
        for file in (files if isinstance(files, list) else ())
        if isinstance(file, Mapping)
    ]
    for part in (message.get("text"), message.get("blocks"), message.get("attachments"), payload, titles):
        yield from _strings(part)


def _strings(part: Any) -> Iterator[str]:
    """Every string of a structure in reading order, save the names of its types."""
    waiting: list[tuple[Any, int]] = [(part, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            if value:
                yield value[:MOST_CHARACTERS]
        elif depth < MOST_DEPTH and isinstance(value, Mapping):
            waiting.extend((inner, depth + 1) for key, inner in reversed(list(value.items())) if key != "type")
        elif depth < MOST_DEPTH and isinstance(value, list):
            waiting.extend((inner, depth + 1) for inner in reversed(value))


def _decoded(raw: str) -> Iterator[str]:
    """The text as a person reads it, then each of its links, as written and percent-decoded."""
    readable = _plain(_LINK.sub(lambda link: link[2] or link[1], raw))
    yield readable
    for link in _LINK.finditer(raw):
        yield from _link_forms(_plain(link[1]))
    for url in _URL.finditer(readable):
        yield from _link_forms(url[0])


def _link_forms(target: str) -> Iterator[str]:
    """A link and its percent-decoded forms: click counters carry a link within a link."""
    yield target
    for _ in range(3):
        decoded = unquote(target)
        if decoded == target:
            return
        yield decoded
        target = decoded


def _plain(text: str) -> str:
    return _ENTITY.sub(lambda entity: _CHARACTERS[entity[1]], text)
