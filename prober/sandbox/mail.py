"""Mail for the sandbox: SMTP in, IMAP with IDLE and Junk out, embedded in one event loop on loopback."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping

from aiosmtpd.smtp import SMTP, Envelope, Session

from prober.clock import Clock
from prober.sandbox.faults import Faults
from prober.sandbox.mailboxes import INBOX, JUNK, Mailboxes
from prober.sandbox.truth import Visible

HOST = "127.0.0.1"
MOST_BYTES = 64_000_000

Relay = Callable[[bytes, str], Awaitable[object]]
"""Takes a mail and its recipient on to another server. Raises ConnectionError while that takes none."""

_FOLDER = re.compile(rb"^X-Sandbox-Folder:[ \t]*([^\r\n]*)\r?\n", re.I | re.M)
_END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")


def fold_address(address: str) -> str:
    """The mailbox behind an address: lower-cased, without a plus-tag."""
    local, at, domain = address.strip().lower().rpartition("@")
    return f"{local.split('+', 1)[0]}{at}{domain}"


def sort_mail(raw: bytes) -> tuple[str, bytes]:
    """The folder that a mail asks for by ``X-Sandbox-Folder``, and the mail without that header."""
    end = _END_OF_HEADERS.search(raw)
    edge = len(raw) if end is None else end.start() + 2
    asked = _FOLDER.search(raw, 0, edge)
    if asked is None:
        return INBOX, raw
    folder = JUNK if asked[1].strip().lower() == b"junk" else INBOX
    return folder, raw[: asked.start()] + raw[asked.end() :]


class MailServers:
    """The mail servers of one world. ``users`` are passwords by address.

    ``on_visible`` is called for each message with the instants around its append. ``relays`` take on, by address, what
    has no mailbox here. ``tls`` puts IMAP under TLS from
    the first byte, or with ``starttls`` when the client asks for it.
    """

    def __init__(
        self,
        users: Mapping[str, str],
        *,
        faults: Faults,
        world_id: str,
        clock: Clock,
        tls: ssl.SSLContext | None = None,
        starttls: bool = False,
    ) -> None:
        self.on_visible: Callable[[Visible], None] | None = None
        self.relays: dict[str, Relay] = {}
        self.imap_port = 0
        self.smtp_port = 0
        self._users = {fold_address(address): address for address in users}
        self._faults = faults
        self._world_id = world_id
        self._clock = clock
        self._tls = None if starttls else tls
        self._mailboxes = Mailboxes(
            users, faults=faults, world_id=world_id, clock=clock, starttls=tls if starttls else None
        )
        self._places: list[socket.socket] = []
        self._listeners: list[asyncio.Server] = []
        self._conversations: dict[asyncio.Task[None], asyncio.WriteTransport] = {}
        self._senders: set[_Sender] = set()

    async def start(self) -> None:
        """Listen on two free ports."""
        for _ in range(2):
            # Bound but never listening: it keeps the port ours while the servers are suspended.
            place = socket.socket()
            self._places.append(place)
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind((HOST, 0))
        self.imap_port, self.smtp_port = (place.getsockname()[1] for place in self._places)
        await self.resume()

    async def stop(self) -> None:
        """Close everything; nothing is left of connections or tasks."""
        await self.suspend()
        self._mailboxes.close()
        for place in self._places:
            place.close()
        self._places.clear()

    async def suspend(self) -> None:
        """Refuse connections and drop those that there are, until :meth:`resume`."""
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        self.drop_connections()
        for sender in tuple(self._senders):
            sender.abort()
        await self._end_conversations()
        for listener in listeners:
            await listener.wait_closed()
        await asyncio.sleep(0)

    async def resume(self) -> None:
        """Listen again on the same ports; without effect while listening."""
        if self._listeners:
            return
        loop = asyncio.get_running_loop()
        self._listeners = [
            await asyncio.start_server(self._converse, HOST, self.imap_port, ssl=self._tls, reuse_address=True),
            await loop.create_server(lambda: _Sender(self, loop), HOST, self.smtp_port, reuse_address=True),
        ]

    def drop_connections(self) -> None:
        """Cut every IMAP connection; a client may connect again at once. Mail that is being handed in is not hurt."""
        for transport in tuple(self._conversations.values()):
            transport.abort()

    def new_validity(self, address: str, folder: str = INBOX) -> None:
        """Begin a folder anew, empty, with another UIDVALIDITY, and cut the connections that know the old one."""
        self._mailboxes.renew(self._users[fold_address(address)], folder)
        self.drop_connections()

    async def deliver(self, address: str, raw: bytes, folder: str = INBOX) -> None:
        """Append a message to the mailbox of a known address. KeyError: nobody has it."""
        user = self._users[fold_address(address)]
        before = self._clock.now()
        message_id = await self._mailboxes.append(user, folder, raw)
        after = self._clock.now()
        if self.on_visible is not None:
            self.on_visible(Visible("email", user, message_id, before, after))

    def knows(self, address: str) -> bool:
        return fold_address(address) in self._users or fold_address(address) in self.relays

    @property
    def host_name(self) -> str:
        """How SMTP greets."""
        return f"{self._world_id}.sandbox.example"

    def join(self, sender: _Sender) -> None:
        self._senders.add(sender)

    def leave(self, sender: _Sender) -> None:
        self._senders.discard(sender)

    async def endure(self, action: str) -> str:
        """Let the weather act on one SMTP command: the refusal that it gets, empty for none.

        ConnectionResetError: the connection is to be cut.
        """
        fault = self._faults.request("smtp", action)
        if fault is None:
            return ""
        await self._clock.sleep(fault.delay)
        if fault.status == 0:
            raise ConnectionResetError
        if fault.garbage:
            return "no answer of this protocol"
        return "" if fault.status is None else "451 4.3.0 Try again later"

    async def _end_conversations(self) -> None:
        if not self._conversations:
            return
        _, slow = await asyncio.wait(tuple(self._conversations), timeout=0.2)
        for task in slow:
            task.cancel()  # the weather makes it wait
        if slow:
            await asyncio.wait(slow, timeout=5.0)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a stream's callback always runs in one
        self._conversations[task] = writer.transport
        try:
            await self._mailboxes.converse(reader, writer)
        finally:
            del self._conversations[task]


class _Sender(SMTP):
    """One SMTP connection."""

    def __init__(self, servers: MailServers, loop: asyncio.AbstractEventLoop) -> None:
        counter, name = _Counter(servers), servers.host_name
        super().__init__(
            counter, hostname=name, ident="sandbox", loop=loop, enable_SMTPUTF8=True, data_size_limit=MOST_BYTES
        )
        self._servers = servers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._servers.join(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._servers.leave(self)
        super().connection_lost(error)

    def abort(self) -> None:
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()


class _Counter:
    """What happens at the post office's counter; the hooks' names are aiosmtpd's."""

    def __init__(self, servers: MailServers) -> None:
        self._servers = servers

    async def handle_RCPT(
        self, server: _Sender, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if (refusal := await self._refusal(server, "rcpt")) or not self._servers.knows(address):
            return refusal or "550 5.1.1 No such user here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: _Sender, session: Session, envelope: Envelope) -> str:
        if refusal := await self._refusal(server, "data"):
            return refusal
        content = envelope.original_content or b""
        folder, raw = sort_mail(content)
        for address, written in {fold_address(written): written for written in envelope.rcpt_tos}.items():
            if (relay := self._servers.relays.get(address)) is None:
                await self._servers.deliver(address, raw, folder)
                continue
            try:
                await relay(raw, written)
            except ConnectionError:
                return "451 4.4.1 Try again later"
        return "250 2.0.0 Delivered"

    async def _refusal(self, server: _Sender, action: str) -> str:
        try:
            return await self._servers.endure(action)
        except ConnectionResetError:
            server.abort()
            return "421 4.3.0 Cut"
