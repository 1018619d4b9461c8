"""The sandbox's mail servers: SMTP in, IMAP out, and whatever the weather does to them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
from aiosmtplib import SMTP as Client
from aiosmtplib import SMTPRecipientsRefused
from imapclient import IMAPClient
from imapclient.exceptions import LoginError

from prober.clock import SystemClock
from prober.sandbox.faults import Faults, RequestFault
from prober.sandbox.mail import MailServers, fold_address, sort_mail
from prober.sandbox.mailboxes import KEPT
from prober.sandbox.truth import Visible

T = TypeVar("T")
ADA = "ada@w.sandbox.example"
BOB = "bob@w.sandbox.example"
RAW = b"From: news@target.example\r\nTo: ada@w.sandbox.example\r\nSubject: hello\r\n\r\nbody\r\n"


class Moody(Faults):
    """Faults that a test sets by hand."""

    def __init__(self) -> None:
        self.lets_in = True
        self.late: float | None = 0.0
        self.requests: dict[tuple[str, str], RequestFault] = {}

    def push(self, server: str, address: str) -> float | None:
        return self.late

    def login(self, server: str) -> bool:
        return self.lets_in

    def request(self, server: str, action: str) -> RequestFault | None:
        return self.requests.get((server, action))


@asynccontextmanager
async def mail_servers(faults: Faults | None = None, world_id: str = "w") -> AsyncIterator[MailServers]:
    users = {ADA: "pw-ada", BOB: "pw-bob"}
    servers = MailServers(users, faults=faults or Faults(), world_id=world_id, clock=SystemClock())
    await servers.start()
    try:
        yield servers
    finally:
        await servers.stop()


async def send(servers: MailServers, *recipients: str, raw: bytes = RAW) -> None:
    async with Client(hostname="127.0.0.1", port=servers.smtp_port, use_tls=False, start_tls=False) as client:
        await client.sendmail("news@target.example", list(recipients), raw)


async def ask(servers: MailServers, question: Callable[[IMAPClient], T], user: str = ADA) -> T:
    """What a logged-in client answers, asked in a thread of its own."""

    def run() -> T:
        with IMAPClient("127.0.0.1", servers.imap_port, ssl=False, timeout=5) as client:
            client.login(user, f"pw-{user.partition('@')[0]}")
            return question(client)

    return await asyncio.to_thread(run)


def subjects(folder: str) -> Callable[[IMAPClient], list[bytes]]:
    def run(client: IMAPClient) -> list[bytes]:
        client.select_folder(folder, readonly=True)
        found = client.fetch(client.search(), ["ENVELOPE"])
        return [found[uid][b"ENVELOPE"].subject for uid in sorted(found)]

    return run


async def test_mail_for_a_known_address_arrives() -> None:
    """What SMTP accepts lies in the recipient's INBOX and nobody else's."""
    async with mail_servers() as servers:
        await send(servers, ADA)
        assert await ask(servers, subjects("INBOX")) == [b"hello"]
        assert await ask(servers, subjects("INBOX"), BOB) == []


async def test_plus_tags_fold_and_strangers_are_refused() -> None:
    """A plus-tag belongs to its base address; a recipient that nobody has is refused with 550."""
    async with mail_servers() as servers:
        await send(servers, "Ada+tag@w.sandbox.example")
        assert await ask(servers, subjects("INBOX")) == [b"hello"]
        with pytest.raises(SMTPRecipientsRefused) as refused:
            await send(servers, "eve@w.sandbox.example")
        assert [answer.code for answer in refused.value.recipients] == [550]


async def test_junk_is_marked_and_filled() -> None:
    """The header that asks for Junk puts the mail there and is gone; LIST marks the folder with its special use."""
    async with mail_servers() as servers:
        await send(servers, ADA, raw=b"X-Sandbox-Folder: Junk\r\n" + RAW)
        assert await ask(servers, subjects("INBOX")) == []
        assert await ask(servers, subjects("Junk")) == [b"hello"]
        marked = [name for flags, _, name in await ask(servers, IMAPClient.list_folders) if b"\\Junk" in flags]
        assert marked == ["Junk"]


def test_only_a_header_asks_for_a_folder() -> None:
    """The same line in the body is text like any other."""
    raw = RAW + b"X-Sandbox-Folder: Junk\r\n"
    assert sort_mail(raw) == ("INBOX", raw)
    assert sort_mail(b"A: b\r\nX-Sandbox-Folder: junk\r\n\r\nbody") == ("Junk", b"A: b\r\n\r\nbody")


def test_addresses_fold() -> None:
    """Case and plus-tags do not tell mailboxes apart."""
    assert fold_address(" Ada+x+y@W.Sandbox.Example ") == ADA


async def test_truth_is_told_around_each_append() -> None:
    """Each message's truth names its folder, UIDVALIDITY and UID, and instants in order."""
    told: list[Visible] = []
    async with mail_servers() as servers:
        servers.on_visible = told.append
        await send(servers, ADA, BOB)
        chosen = await ask(servers, lambda client: client.select_folder("INBOX", readonly=True))
    assert [visible.address for visible in told] == [ADA, BOB]
    assert told[0].message_id == f"INBOX/{chosen[b'UIDVALIDITY']}.1"
    assert all(visible.before.boottime <= visible.after.boottime for visible in told)


async def test_worlds_and_renewed_folders_differ_in_uidvalidity() -> None:
    """No UID of one world or of an earlier mailbox can be taken for one of another."""

    def validity(client: IMAPClient) -> int:
        return int(client.select_folder("INBOX", readonly=True)[b"UIDVALIDITY"])

    async with mail_servers(world_id="a") as first, mail_servers(world_id="b") as second:
        before = await ask(first, validity)
        assert before != await ask(second, validity)
        first.new_validity(ADA)
        assert before != await ask(first, validity)


async def test_mailboxes_are_trimmed_without_breaking_uids() -> None:
    """Of many messages the newest are kept, under the UIDs that they had."""
    async with mail_servers() as servers:
        for _ in range(KEPT + 300):
            await servers.deliver(ADA, RAW)

        def uids(client: IMAPClient) -> list[int]:
            client.select_folder("INBOX", readonly=True)
            return [int(uid) for uid in client.search()]

        found = await ask(servers, uids)
    assert KEPT <= len(found) < KEPT + 200
    assert found == list(range(KEPT + 301 - len(found), KEPT + 301))


async def test_refused_logins_say_so() -> None:
    """A login in bad weather is answered as a wrong password is."""
    faults = Moody()
    faults.lets_in = False
    async with mail_servers(faults) as servers:
        with pytest.raises(LoginError, match="AUTHENTICATIONFAILED"):
            await ask(servers, IMAPClient.noop)


class Line:
    """A bare IMAP connection, so that nothing hides what the server sends and when."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def say(self, command: str, until: str, within: float = 5.0) -> list[str]:
        """Send a command, if any, and return the lines up to the one that has ``until``; TimeoutError without it."""
        if command:
            self._writer.write(f"{command}\r\n".encode())
        lines: list[str] = []
        async with asyncio.timeout(within):
            while not lines or until not in lines[-1]:
                lines.append((await self._reader.readline()).decode())
        return lines


@asynccontextmanager
async def inbox_of_ada(servers: MailServers) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", servers.imap_port)
    try:
        line = Line(reader, writer)
        await line.say(f"a LOGIN {ADA} pw-ada", "a OK")
        await line.say("b EXAMINE INBOX", "b OK")
        yield line
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("late", [0.0, 0.05])
async def test_pushes_come_at_once_or_late(late: float) -> None:
    """A push is sent after the weather's delay and not before."""
    faults = Moody()
    faults.late = late
    async with mail_servers(faults) as servers, inbox_of_ada(servers) as line:
        await line.say("c IDLE", "+")
        start = asyncio.get_running_loop().time()
        await servers.deliver(ADA, RAW)
        await line.say("", "1 EXISTS")
        assert asyncio.get_running_loop().time() - start >= late


async def test_a_dropped_push_never_comes() -> None:
    """A dropped push is not sent while the client idles; the message is announced with the next answer."""
    faults = Moody()
    faults.late = None
    async with mail_servers(faults) as servers, inbox_of_ada(servers) as line:
        await line.say("c IDLE", "+")
        await servers.deliver(ADA, RAW)
        with pytest.raises(TimeoutError):
            await line.say("", "EXISTS", within=0.2)
        assert any("1 EXISTS" in answer for answer in await line.say("DONE", "c OK"))


async def test_a_push_between_search_and_idle_is_not_lost() -> None:
    """A message that comes after the last answer and before IDLE is pushed as soon as IDLE begins."""
    async with mail_servers() as servers, inbox_of_ada(servers) as line:
        await line.say("c UID SEARCH ALL", "c OK")
        await servers.deliver(ADA, RAW)
        await line.say("d IDLE", "1 EXISTS")


async def test_weather_over_single_commands() -> None:
    """An IMAP or SMTP command is refused when the weather says so."""
    faults = Moody()
    faults.requests = {("imap", "search"): RequestFault(status=503), ("smtp", "rcpt"): RequestFault(status=503)}
    async with mail_servers(faults) as servers:
        with pytest.raises(IMAPClient.Error, match="UNAVAILABLE"):
            await ask(servers, subjects("INBOX"))
        with pytest.raises(SMTPRecipientsRefused) as refused:
            await send(servers, ADA)
        assert [answer.code for answer in refused.value.recipients] == [451]


async def test_suspended_servers_refuse_and_come_back_on_their_ports() -> None:
    """While suspended nobody can connect; afterwards the ports and the mail are the same."""
    async with mail_servers() as servers:
        ports = servers.imap_port, servers.smtp_port
        await send(servers, ADA)
        await servers.suspend()
        for port in ports:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), 1).close()
        await servers.resume()
        assert (servers.imap_port, servers.smtp_port) == ports
        assert await ask(servers, subjects("INBOX")) == [b"hello"]


async def test_stopping_leaves_nothing_behind() -> None:
    """After stop no task is left, also when a client still idles."""
    before = asyncio.all_tasks()
    async with mail_servers() as servers:
        client = await asyncio.to_thread(IMAPClient, "127.0.0.1", servers.imap_port, ssl=False, timeout=5)
        await asyncio.to_thread(client.login, ADA, "pw-ada")
        await asyncio.to_thread(client.select_folder, "INBOX")
        await asyncio.to_thread(client.idle)
    client.shutdown()
    assert asyncio.all_tasks() == before
