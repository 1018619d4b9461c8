"""A post office for tests of mail observers: the sandbox's servers, moods to set by hand, and the truth."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from prober.clock import Instant, SystemClock
from prober.model import Channel, ChannelKind, Message
from prober.observers.imap import ImapObserver, ImapSettings
from prober.sandbox.faults import Faults, RequestFault
from prober.sandbox.mail import MailServers
from prober.sandbox.truth import Visible

ADA = "ada@w.sandbox.example"
PASSWORD = "canary-pw-1"
CLOCK = SystemClock()
EMAIL = Channel("email", ChannelKind.EMAIL, "mailbox", ADA)


class Moody(Faults):
    """Faults that a test sets by hand."""

    def __init__(self) -> None:
        self.lets_in = True
        self.drops_pushes = False
        self.requests: dict[str, RequestFault] = {}
        self.on_request: Callable[[str], None] | None = None

    def push(self, server: str, address: str) -> float | None:
        return None if self.drops_pushes else 0.0

    def login(self, server: str) -> bool:
        return self.lets_in

    def request(self, server: str, action: str) -> RequestFault | None:
        if self.on_request is not None:
            self.on_request(action)
        return self.requests.get(action) if server == "imap" else None


@dataclass
class Post:
    """The sandbox's servers, and the truth about what they delivered."""

    servers: MailServers
    faults: Moody
    truth: list[Visible] = field(default_factory=list)

    async def deliver(self, subject: str, folder: str = "INBOX", to: str = ADA) -> None:
        raw = f"From: news@target.example\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nbody of {subject}\r\n".encode()
        await self.servers.deliver(ADA, raw, folder)

    def deliver_during(self, command: str, subject: str) -> None:
        """Deliver one mail after the server has received the next such command, before it acts on it."""
        tasks: list[asyncio.Task[None]] = []

        def act(action: str) -> None:
            if action == command and not tasks:
                tasks.append(asyncio.create_task(self.deliver(subject)))

        self.faults.on_request = act
        self.faults.requests[command] = RequestFault(delay=0.05)

    def settings(self, **changes: object) -> ImapSettings:
        its = {"host": "127.0.0.1", "port": self.servers.imap_port, "username": ADA, "password": PASSWORD}
        return ImapSettings.model_validate({**its, "tls": "none", "read_timeout": 3, **changes})

    def observer(self, channels: tuple[Channel, ...] = (EMAIL,), /, **changes: object) -> ImapObserver:
        return ImapObserver("mailbox", self.settings(**changes), channels, CLOCK)


@asynccontextmanager
async def post_office(tls: ssl.SSLContext | None = None, *, starttls: bool = False) -> AsyncIterator[Post]:
    faults = Moody()
    servers = MailServers({ADA: PASSWORD}, faults=faults, world_id="w", clock=CLOCK, tls=tls, starttls=starttls)
    await servers.start()
    post = Post(servers, faults)
    servers.on_visible = post.truth.append
    try:
        yield post
    finally:
        await servers.stop()


def soon(seconds: float = 5.0) -> Instant:
    return CLOCK.now().plus(seconds)


def subjects(messages: tuple[Message, ...] | list[Message]) -> list[str]:
    return [message.texts[0] for message in messages]
