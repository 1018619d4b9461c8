"""A place whose mail goes through Debian's Postfix into mailboxes on Debian's Dovecot, and is read there."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prober.clock import Clock, Instant
from prober.sandbox.front import Front
from prober.sandbox.mail import fold_address
from tests.real.place import Place, place
from tests.servers.dovecot import Dovecot, Mailbox
from tests.servers.postfix import Postfix

CHANNELS = {"mailbox-1": "email", "mailbox-2": "email-2"}


@dataclass
class MailPlace:
    """The place, its mailboxes and the doors before them, by observer; ``posted`` is when each mail was handed in."""

    world: Place
    boxes: dict[str, Mailbox] = field(default_factory=dict)
    doors: dict[str, Front] = field(default_factory=dict)
    posted: list[Instant] = field(default_factory=list)


@dataclass(frozen=True)
class _Postman:
    """Hands what the publishing system sends to a mailbox on to Postfix."""

    postfix: Postfix
    box: Mailbox
    clock: Clock
    posted: list[Instant]

    async def __call__(self, raw: bytes, written: str) -> None:
        self.posted.append(self.clock.now())
        try:
            await asyncio.to_thread(self.postfix.send, raw, self.box.address)
        except smtplib.SMTPException as error:
            raise ConnectionError(str(error)) from error


@asynccontextmanager
async def mail_place(
    folder: Path, dovecot: Dovecot, postfix: Postfix, *, poll: str = "100ms", speed: float = 1.0
) -> AsyncIterator[MailPlace]:
    """The sandbox with real mail servers; Slack and Discord are its own."""
    async with place(folder, speed=speed) as world:
        its = MailPlace(world)
        try:
            for observer, channel in CHANNELS.items():
                box, door = dovecot.mailbox(), Front()
                await door.start(dovecot.port)
                its.boxes[observer], its.doors[observer] = box, door
                postman = _Postman(postfix, box, world.clock, its.posted)
                world.mail.relays[fold_address(world.address(channel))] = postman
                world.configuration["observers"][observer] = {
                    "adapter": "imap", **box.settings(port=door.port, poll=poll),
                }  # fmt: skip
            yield its
        finally:
            for door in its.doors.values():
                await door.stop()
