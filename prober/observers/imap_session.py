"""One IMAP connection with one folder open, for one thread."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imapclient.exceptions import IMAPClientAbortError, IMAPClientError

from prober.errors import Unreadable
from prober.observers.imap_connection import Client, Lifeline, has_buffered, idle, shut
from prober.observers.imap_errors import translated
from prober.observers.imap_login import logged_in
from prober.observers.imap_providers import Provider, called, provider_of
from prober.observers.imap_settings import ImapSettings
from prober.observers.imap_tokens import Tokens

CHUNK = 25
"""Messages that are fetched by one command."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One message as the server gave it: its first bytes, when the server says that it came (wall seconds), and its
    GUID where the server has one."""

    uid: int
    raw: bytes
    size: int
    received: float | None
    guid: str = ""


class Session:
    """A logged-in connection with one folder open read-only, so that nothing is ever marked as seen.

    Every method raises Unreadable when the server cannot be heard; the session is then of no more use.
    """

    def __init__(self, settings: ImapSettings, folder: str, lifeline: Lifeline, tokens: Tokens | None = None) -> None:
        self._settings = settings
        self._lifeline = lifeline
        self.folder = folder
        self.reads = 0
        self.validity = self.last_uid_at_opening = self._messages = 0
        client: Client | None = None
        try:
            client = self._client = logged_in(settings, lifeline, tokens)
            with translated(settings, "ask"):
                self.provider = _provider(client, settings.host)
            self.open()
            with translated(settings, "ask"):
                self.pushes = settings.idle and bool(client.has_capability("IDLE"))
        except BaseException:
            lifeline.release()
            if client is not None:
                shut(client)
            raise

    def close(self) -> None:
        self._lifeline.release()
        shut(self._client)

    @property
    def reopens(self) -> bool:
        """Whether only a folder that is opened anew is sure to show what is new."""
        asked = self._settings.reopen
        return asked == "always" or (asked == "auto" and not self.provider.tells)

    def open(self) -> None:
        """Open the folder (anew): without reading any of its messages, however many there are."""
        with translated(self._settings, f"open the folder {self.folder!r} of"):
            opened = self._client.select_folder(self.folder, readonly=True)
        self.validity = int(opened.get(b"UIDVALIDITY") or 0)
        self.last_uid_at_opening = max(int(opened.get(b"UIDNEXT") or 0) - 1, 0)
        self._messages = int(opened.get(b"EXISTS") or 0)
        if not self.validity:
            raise Unreadable("protocol", f"{self._settings.host} gives no UIDVALIDITY: its UIDs cannot be trusted")

    @property
    def capabilities(self) -> frozenset[str]:
        """What the server says that it can do, in upper case."""
        with translated(self._settings, "ask"):
            return frozenset(bytes(each).decode("ascii", "replace").upper() for each in self._client.capabilities())

    def synchronise(self) -> None:
        """Have the server look for what is new: a SEARCH alone may answer from what it last announced."""
        if self.reopens:
            self.open()
        else:
            with translated(self._settings, "ask"):
                _, said = self._client.noop()
                _ensure_sound(line[0] for line in said)
        self._client._imap.untagged_responses.clear()

    def last_uid(self) -> int:
        """The highest UID that a message has, or had when the folder was opened."""
        return max([self.last_uid_at_opening, *self.uids_after(self.last_uid_at_opening)])

    def uids_after(self, last: int) -> list[int]:
        """The UIDs above ``last``, ascending."""
        # A range that ends in * always answers with at least the last message.
        return [uid for uid in self._search("UID", f"{last + 1}:*") if uid > last]

    def newest_uids(self, number: int) -> list[int]:
        """The UIDs of the newest messages, ascending, however many there are besides."""
        return self._search(f"{max(1, self._messages - number + 1)}:*")[-number:] if self._messages else []

    def came_since(self, wall: float, uids: Sequence[int]) -> list[int]:
        """Those of the messages that came at a wall time or later, by the server's word; also those of no time."""
        if wall == -math.inf or not uids:
            return list(uids)
        with translated(self._settings, "fetch from"):
            answer = self._client.fetch(uids, ["INTERNALDATE"])
        times = {uid: _received(answer.get(uid, {})) for uid in uids}
        return [uid for uid, came in times.items() if came is None or came >= wall]

    def sizes(self, uids: Sequence[int]) -> list[int]:
        """How many bytes would be fetched of each message."""
        with translated(self._settings, "fetch from"):
            answer = self._client.fetch(uids, ["RFC822.SIZE"]) if uids else {}
            told = [int(answer.get(uid, {}).get(b"RFC822.SIZE") or 0) for uid in uids]
        return [min(size, self._settings.max_message_bytes) for size in told]

    def fetch(self, uids: Sequence[int]) -> Iterator[list[Fetched]]:
        """The messages, in chunks, each as soon as it is in our hands; what was removed meanwhile is left out."""
        items = [f"BODY.PEEK[]<0.{self._settings.max_message_bytes}>", "INTERNALDATE", "RFC822.SIZE"]
        if self.provider.guids:
            items.append("X-GUID")
        for start in range(0, len(uids), CHUNK):
            chunk = list(uids[start : start + CHUNK])
            with translated(self._settings, "fetch from"):
                answer = self._client.fetch(chunk, items)
                found = [_fetched(uid, answer[uid]) for uid in chunk if uid in answer]
            yield found

    def find_junk(self) -> str | None:
        """The folder that the server marks as Junk (RFC 6154); never guessed by its name."""
        with translated(self._settings, "list the folders of"):
            listed = _folders_with_uses(self._client)
        for flags, _, name in listed:
            uses = {bytes(flag).lower() for flag in flags}
            if b"\\junk" in uses and not uses & {b"\\noselect", b"\\nonexistent"}:
                return str(name)
        return None

    def take_announced(self) -> bool:
        """Whether the server announced a message beside an answer since the last call or synchronisation.

        It will not push what it has announced, and a search that went before has not seen it.
        """
        return self._client._imap.untagged_responses.pop("EXISTS", None) is not None

    def enter_idle(self) -> bool:
        """Ask for pushes; True when one is already here, read together with the answer."""
        with translated(self._settings, "listen to"):
            early = idle(self._client)
            return has_buffered(self._client) or early

    def leave_idle(self) -> bool:
        """End the pushes; True when a new message was announced."""
        with translated(self._settings, "listen to"):
            _, said = self._client.idle_done()
        self.take_announced()
        return any(len(line) > 1 and line[1] in (b"EXISTS", b"RECENT") for line in said)

    def fileno(self) -> int:
        return int(self._client.socket().fileno())

    def _search(self, *criteria: str) -> list[int]:
        with translated(self._settings, "search"):
            found = sorted(map(int, self._client.search([*criteria])))
            _ensure_sound(self._client._imap.untagged_responses)
            return found


def _provider(client: Client, host: str) -> Provider:
    """Whose server it is; we say who we are, as Gmail wants it."""
    known = provider_of(host)
    if not client.has_capability("ID"):
        return known
    try:
        return provider_of(host, called(client.id_({"name": "prober"})))
    except IMAPClientAbortError:
        raise
    except IMAPClientError:
        return known  # offered, and refused all the same


def _folders_with_uses(client: Client) -> Sequence[tuple[Sequence[bytes], object, object]]:
    """Flags, separator and name of each folder. Some servers tell a folder's use only when they are asked for it."""
    if not (client.has_capability("SPECIAL-USE") and client.has_capability("LIST-EXTENDED")):
        return list(client.list_folders())
    kind, said = client._imap._simple_command("LIST", '""', '"*"', "RETURN", "(SPECIAL-USE)")
    client._checkok("list", kind, said)
    _, said = client._imap._untagged_response(kind, said, "LIST")
    return list(client._proc_folder_list(said))


def _ensure_sound(responses: Iterable[object]) -> None:
    """A server that says NO beside its OK answers from what it once knew: Dovecot of a folder that was made anew."""
    if any(response in ("NO", b"NO", "BAD", b"BAD") for response in responses):
        raise IMAPClientError("the server has trouble with the folder, and says so beside its answer")


def _fetched(uid: int, answer: dict[bytes, Any]) -> Fetched:
    body = next((value for name, value in answer.items() if name.startswith(b"BODY[")), None)
    guid = answer.get(b"X-GUID")
    return Fetched(
        uid=uid,
        raw=bytes(body or b""),
        size=int(answer.get(b"RFC822.SIZE") or 0),
        received=_received(answer),
        guid=guid.decode("ascii", "replace") if isinstance(guid, bytes) else "",
    )


def _received(answer: Mapping[bytes, Any]) -> float | None:
    """When the server says that the message came, wall seconds."""
    received = answer.get(b"INTERNALDATE")
    return received.timestamp() if isinstance(received, datetime) and received.tzinfo else None
