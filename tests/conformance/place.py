"""What the one suite for observers needs of a place: the handles that every place has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Protocol

from prober.clock import SystemClock
from prober.model import Message
from prober.observers import Observer

CLOCK = SystemClock()
_NAME = re.compile(r"message \d+")


class Place(Protocol):
    """One place. ``obstacles`` are what may take sight away, by name, with the reason that is then told.

    ``pushes_whole`` says that a push is the message itself, not only that there is news.
    """

    channel: str
    pushes_whole: bool
    obstacles: ClassVar[Mapping[str, str]]

    def observer(self) -> Observer:
        """Another observer of the same account."""

    async def post(self, name: str) -> None:
        """Let a message become visible, whether anybody can see it or not."""

    async def cut(self) -> None:
        """End every connection; new ones are let in at once."""

    def mute(self) -> None:
        """Let nothing be pushed any more."""

    async def forget(self) -> None:
        """Make every known position worthless, as retention and renumbering do."""

    async def obstruct(self, name: str) -> None:
        """Put an obstacle in the way."""

    async def clear(self, name: str) -> None:
        """Take it away."""


def name_of(message: Message) -> str:
    """The name under which a message was posted."""
    found = _NAME.search("\n".join(message.texts))
    assert found is not None, message
    return found[0]
