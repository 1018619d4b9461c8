"""An IMAP observer of a mailbox on Debian's Dovecot, and words for what tests do with it."""

from __future__ import annotations

from typing import Any

from prober.clock import Clock, Instant, SystemClock
from prober.errors import Unreadable
from prober.model import Batch, Channel, ChannelKind, Message
from prober.observers.imap import ImapObserver, ImapSettings
from tests.servers.dovecot import Mailbox

CLOCK = SystemClock()
PATIENCE = 120.0
"""Seconds within which something must have come true."""


def soon(seconds: float = PATIENCE) -> Instant:
    return CLOCK.now().plus(seconds)


def letter(subject: str, to: str = "you@inbox.test", *, head: str = "") -> bytes:
    text = f"{head}From: news@target.example\nTo: {to}\nSubject: {subject}\n\nbody of {subject}\n"
    return text.replace("\n", "\r\n").encode()


def email(box: Mailbox, name: str = "email") -> Channel:
    return Channel(name, ChannelKind.EMAIL, "mailbox", box.address)


def observer(
    box: Mailbox, *channels: Channel, clock: Clock = CLOCK, without: tuple[str, ...] = (), **changes: Any
) -> ImapObserver:
    """An observer of a mailbox with the changed settings, and without some."""
    settings = {name: value for name, value in box.settings(**changes).items() if name not in without}
    return ImapObserver("mailbox", ImapSettings.model_validate(settings), channels or (email(box),), clock)


def subjects(batch: Batch) -> list[str]:
    return [message.texts[0] for message in batch.messages]


async def next_messages(watched: ImapObserver, cursor: str, number: int = 1) -> tuple[list[Message], Batch]:
    """Wait as the loops do, and read, until so many messages have come."""
    end, found = soon(), list[Message]()
    while True:
        batch = await watched.read(cursor)
        found += batch.messages
        if len(found) >= number or CLOCK.now().since(end) > 0:
            return found, batch
        cursor = batch.cursor
        await watched.wait(soon(watched.poll or 1.0))


async def refusal(watched: ImapObserver) -> Unreadable:
    """Why the first read of an observer fails."""
    async with watched:
        try:
            await watched.read(None)
        except Unreadable as error:
            return error
    raise AssertionError("the mailbox can be read")
