"""IMAP out of memory for the sandbox: the one module that knows pymap, with the corrections that a prober needs.

Corrected are: a push that is lost when a message comes between a SEARCH and its IDLE; answers written in fragments;
book-keeping that grows with every message ever seen; a greeting that waits for the name service; Junk's special use.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
from argparse import Namespace
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from proxyprotocol.result import ProxyResultLocal
from proxyprotocol.sock import SocketInfo
from pymap.backend.dict import Config, Identity, Login
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxData, MailboxSet, Message, _ModSequenceMapping
from pymap.concurrent import Event, Subsystem
from pymap.context import connection_exit
from pymap.exceptions import InvalidAuth
from pymap.imap import IMAPConnection
from pymap.imap.state import ConnectionState
from pymap.listtree import ListEntry, ListTree
from pymap.parsing.command import Command
from pymap.parsing.message import AppendMessage
from pymap.parsing.response import CommandResponse, ResponseCode, ResponseNo
from pymap.selected import SelectedMailbox
from pymap.user import UserMetadata
from pysasl.creds.server import ServerCredentials
from pysasl.hashing import Cleartext

from prober.clock import Clock
from prober.sandbox.faults import Faults

INBOX = "INBOX"
JUNK = "Junk"
KEPT = 2000
"""How many messages a mailbox keeps, the newest."""

_TRIMMED_AT_ONCE = 200
_REMEMBERED_TRIMMINGS = 100


class _Changes(_ModSequenceMapping):
    """What changed since when: of living messages each one's last change, of removed ones the latest batches."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[int, int] = {}
        self._gone: deque[tuple[int, frozenset[int]]] = deque(maxlen=_REMEMBERED_TRIMMINGS)

    def update(self, uids: Iterable[int]) -> None:
        self._highest += 1
        for uid in uids:
            self._last.pop(uid, None)
            self._last[uid] = self._highest

    def expunge(self, uids: Iterable[int]) -> None:
        self._highest += 1
        gone = frozenset(uids)
        for uid in gone:
            self._last.pop(uid, None)
        self._gone.append((self._highest, gone))

    def find_updated(self, mod_seq: int) -> tuple[frozenset[int], frozenset[int]]:
        updated = []
        for uid in reversed(self._last):
            if self._last[uid] <= mod_seq:
                break
            updated.append(uid)
        expunged = (gone for sequence, gone in self._gone if sequence > mod_seq)
        return frozenset(updated), frozenset().union(*expunged)


class Mailbox(MailboxData):
    """One folder. ``late`` says by how many seconds the push of the next message comes late, None for never."""

    def __init__(self, owner: _Folders, validity: int, late: Callable[[], float | None], clock: Clock) -> None:
        super().__init__(owner._content_cache, owner._thread_cache)
        self._uid_validity = validity
        self._max_uid = 0
        self._mod_sequences = _Changes()
        self._late = late
        self._clock = clock
        self._announced = 0
        self._announcements: set[asyncio.Task[None]] = set()

    async def update_selected(self, selected: SelectedMailbox, *, wait_on: Event | None = None) -> SelectedMailbox:
        """Bring a session up to date; with ``wait_on``, once something is announced that it does not know yet."""
        if wait_on is not None:
            while not wait_on.is_set() and self._announced <= (selected.mod_sequence or 0):
                await wait_on.or_event(self._updated).wait()
        return await super().update_selected(selected)

    async def append(self, append_msg: AppendMessage, *, recent: bool = False) -> Message:
        message = await super().append(append_msg, recent=False)
        late = self._late()
        if late == 0:
            self._announce(self._mod_sequences.highest)
        elif late is not None:
            task = asyncio.create_task(self._announce_after(late, self._mod_sequences.highest))
            self._announcements.add(task)
            task.add_done_callback(self._announcements.discard)
        if len(self._messages) >= KEPT + _TRIMMED_AT_ONCE:
            await self.delete(list(self._messages)[:-KEPT])
        return message

    def close(self) -> None:
        """Announce nothing any more."""
        for task in self._announcements:
            task.cancel()

    async def _announce_after(self, seconds: float, sequence: int) -> None:
        await self._clock.sleep(seconds)
        self._announce(sequence)

    def _announce(self, sequence: int) -> None:
        self._announced = max(self._announced, sequence)
        self._updated.set()


@dataclass(frozen=True)
class _JunkEntry(ListEntry):
    """Junk in a LIST, with its special use (RFC 6154)."""

    @property
    def attributes(self) -> Sequence[bytes]:
        return [*super().attributes, b"Junk"]


class _Listing(ListTree):
    def list_matching(self, ref_name: str, filter_: str) -> Iterator[ListEntry]:
        for entry in super().list_matching(ref_name, filter_):
            if entry.name == JUNK:
                yield _JunkEntry(entry.name, entry.exists, entry.marked, entry.has_children)
            else:
                yield entry


class _Folders(MailboxSet):
    """All folders of one user: INBOX and Junk."""

    def __init__(self, new: Callable[[_Folders, str], Mailbox]) -> None:
        super().__init__()
        self._new = new
        self.renew(INBOX)
        self.renew(JUNK)

    async def list_mailboxes(self) -> ListTree:
        return _Listing(self.delimiter).update(INBOX, *self._set)

    def renew(self, folder: str) -> None:
        """Begin the folder anew, empty, with another UIDVALIDITY."""
        if folder == INBOX:
            self._inbox = self._new(self, folder)
        else:
            self._set[folder] = self._new(self, folder)

    def every(self) -> list[Mailbox]:
        return [box for box in (self._inbox, *self._set.values()) if isinstance(box, Mailbox)]


class _Settings(Config):
    @property
    def greeting(self) -> bytes:
        return b"Sandbox ready"


class _Plain(Cleartext):
    """Passwords compared as octets: as texts, one that is not ASCII is an error."""

    def verify(self, secret: str, hash: str) -> bool:
        return secrets.compare_digest(secret.encode(), hash.encode())


class _Login(Login):
    """Lets a user in unless the weather refuses logins."""

    def __init__(self, config: Config, faults: Faults) -> None:
        super().__init__(config)
        self._faults = faults

    async def authenticate(self, credentials: ServerCredentials) -> Identity:
        if not self._faults.login("imap"):
            raise InvalidAuth()
        return await super().authenticate(credentials)


class _Conversation(ConnectionState):
    """One connection's commands, each as late or as wrong as the weather has it."""

    def __init__(self, login: Login, config: Config, weather: Callable[[str], Awaitable[bool]]) -> None:
        super().__init__(login, config)
        self._weather = weather

    async def do_command(self, cmd: Command) -> CommandResponse:
        if not await self._weather(str(cmd.command, "ascii").lower().split()[-1]):
            return ResponseNo(cmd.tag, b"Try again later.", ResponseCode.of(b"UNAVAILABLE"))
        return await super().do_command(cmd)


class _WholeAnswers:
    """A stream writer that sends an answer in one piece, at ``drain``."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._held = bytearray()

    def __getattr__(self, name: str) -> object:
        return getattr(self._writer, name)

    def write(self, octets: bytes) -> None:
        self._held += octets

    def writelines(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self._held += piece

    async def drain(self) -> None:
        self._flush()
        await self._writer.drain()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        self._flush()
        await self._writer.start_tls(context)

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._held and not self._writer.is_closing():
            self._writer.write(bytes(self._held))
        self._held.clear()


class Mailboxes:
    """Every user's folders, and the IMAP conversation about them on one stream.

    ``starttls`` offers an upgrade of the connection under that context.
    """

    def __init__(
        self,
        users: Mapping[str, str],
        *,
        faults: Faults,
        world_id: str,
        clock: Clock,
        starttls: ssl.SSLContext | None = None,
    ) -> None:
        self._faults = faults
        self._world_id = world_id
        self._clock = clock
        self._generation = 0
        self._config = _Settings(
            Namespace(debug=False, proxy_protocol=None, passlib_cfg=None),
            host="127.0.0.1",
            port=0,
            demo_data=False,
            demo_user="",
            demo_password="",
            hash_context=_Plain(),
            cpu_subsystem=Subsystem.for_asyncio(),
            ssl_context=starttls or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
            tls_enabled=starttls is not None,
            invalid_user_sleep=0.0,
            reject_dnsbl=False,
        )
        self._login = _Login(self._config, faults)
        self._folders: dict[str, _Folders] = {}
        for address, password in users.items():
            self._login.users_dict[address] = UserMetadata(self._config, address, password=password)
            self._folders[address] = _Folders(partial(self._new, address))
            self._config.set_cache[address] = (self._folders[address], FilterSet())

    def _new(self, address: str, owner: _Folders, folder: str) -> Mailbox:
        self._generation += 1
        name = f"{self._world_id}|{address}|{folder}|{self._generation}".encode()
        validity = int.from_bytes(hashlib.sha256(name).digest()[:4], "big") or 1
        return Mailbox(owner, validity, lambda: self._faults.push("imap", address), self._clock)

    async def append(self, address: str, folder: str, raw: bytes) -> str:
        """Put a message into a user's folder; its id, ``<folder>/<UIDVALIDITY>.<UID>``. KeyError: no such folder."""
        box = await self._folders[address].get_mailbox(folder)
        wall = self._clock.now().wall + self._faults.clock_offset("imap")
        message = await box.append(AppendMessage(raw, datetime.fromtimestamp(wall, UTC), frozenset()))
        return f"{folder}/{box.uid_validity}.{message.uid}"

    def renew(self, address: str, folder: str) -> None:
        """Begin a folder anew, empty, with another UIDVALIDITY."""
        self._folders[address].renew(folder)

    def close(self) -> None:
        """Drop the pushes that are still to come."""
        for folders in self._folders.values():
            for box in folders.every():
                box.close()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak IMAP with one client until it leaves or the connection breaks."""
        # pymap takes a reader and writer of its own kind by what they can do; this one can do the same.
        whole: asyncio.StreamWriter = _WholeAnswers(writer)  # type: ignore[assignment]
        about = SocketInfo.get(writer, ProxyResultLocal())
        connection = IMAPConnection(self._config.commands, self._config, reader, whole, about)
        state = _Conversation(self._login, self._config, lambda action: self._endure(writer, action))
        async with AsyncExitStack() as stack:
            connection_exit.set(stack)
            stack.enter_context(closing(connection))
            try:
                await connection.run(state)
            except (OSError, EOFError):
                return  # the client, or the weather, has cut the connection

    async def _endure(self, writer: asyncio.StreamWriter, action: str) -> bool:
        """Let the weather act on one command; False when it is to be refused."""
        fault = self._faults.request("imap", action)
        if fault is None:
            return True
        await self._clock.sleep(fault.delay)
        if fault.garbage:
            writer.write(b"\x00no answer of this protocol\r\n")
        if fault.status == 0:
            writer.transport.abort()
            raise ConnectionResetError
        return fault.status is None
