"""Removing mails over IMAP, and pages of a mailbox that no measurement waits for: each on a connection of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, TypeVar

from imapclient.exceptions import IMAPClientError, IMAPClientReadOnlyError

from prober.clean_up import Removal
from prober.observers.imap_connection import Lifeline
from prober.observers.imap_errors import translated
from prober.observers.imap_session import Fetched, Session
from prober.observers.imap_settings import ImapSettings
from prober.observers.imap_tokens import Tokens

T = TypeVar("T")

REMOVALS_PER_MINUTE: Final = 600.0
LOOKS_PER_MINUTE: Final = 20.0
"""Each logs in once more: providers count logins."""

PAGE: Final = 200
WINDOW: Final = 2000
"""UIDs that one look asks for, and messages of them that it fetches at the most."""

_FORBIDDEN = ("NOPERM", "permission", "read-only", "READ-ONLY")


@dataclass(frozen=True, slots=True)
class Old:
    """One page of a folder: what was fetched, under which UIDVALIDITY, and where the next page begins ('' : none)."""

    folder: str
    validity: int
    fetched: tuple[Fetched, ...]
    position: str


class ImapRemoval:
    """One mailbox. Only what is named ever goes: never by a bare EXPUNGE, which would take what others marked."""

    def __init__(self, settings: ImapSettings, tokens: Tokens | None) -> None:
        self._settings = settings
        self._tokens = tokens

    async def remove(self, message_ids: Sequence[str]) -> Mapping[str, Removal]:
        """See :class:`prober.observers.Removing`."""
        ends: dict[str, Removal] = {}
        by_folder: dict[tuple[str, int], dict[int, str]] = {}
        for name in message_ids:
            place, _, number = name.rpartition(".")
            folder, _, validity = place.rpartition("/")
            if folder and validity.isdigit() and number.isdigit():
                by_folder.setdefault((folder, int(validity)), {})[int(number)] = name
            else:
                ends[name] = Removal.DENIED  # an id that was shortened for the ledger names no mail
        for (its_folder, its_validity), uids in by_folder.items():
            removed = await _beside(partial(self._remove, its_folder, its_validity, tuple(uids)))
            ends |= {uids[uid]: end for uid, end in removed.items()}
        return ends

    async def old(self, position: str, before: float, folders: Sequence[str]) -> Old:
        """One page of the folders' messages that came before a wall time, the oldest UIDs first."""
        at, last = _position(position, len(folders))
        return await _beside(partial(self._old, folders, at, last, before))

    def _remove(self, folder: str, validity: int, uids: Sequence[int], lifeline: Lifeline) -> dict[int, Removal]:
        session = Session(self._settings, folder, lifeline, self._tokens)
        try:
            if session.validity != validity:
                return dict.fromkeys(uids, Removal.GONE)  # under their new numbers they are found by their markers
            return self._removed(session, uids)
        finally:
            session.close()

    def _removed(self, session: Session, uids: Sequence[int]) -> dict[int, Removal]:
        client = session._client
        with translated(self._settings, "remove messages from"):
            there = _present(session, uids)
            ends = dict.fromkeys(set(uids) - there, Removal.GONE)
            if not there:
                return ends
            try:
                client.select_folder(session.folder)
                if not _take_away(session, sorted(there)):
                    return ends | dict.fromkeys(there, Removal.DENIED)
            except IMAPClientReadOnlyError:
                return ends | dict.fromkeys(there, Removal.DENIED)
            except IMAPClientError as error:
                if not any(word in str(error) for word in _FORBIDDEN):
                    raise
                return ends | dict.fromkeys(there, Removal.DENIED)
            return ends | dict.fromkeys(there - _present(session, uids), Removal.REMOVED)

    def _old(self, folders: Sequence[str], at: int, last: int, before: float, lifeline: Lifeline) -> Old:
        session = Session(self._settings, folders[at], lifeline, self._tokens)
        try:
            end = last + WINDOW
            # A day more than asked for: the server's days are its own.
            day = (datetime.fromtimestamp(before, UTC) + timedelta(days=2)).date()
            with translated(self._settings, "search"):
                found = session._client.search(["UID", f"{last + 1}:{end}", "BEFORE", day])
            uids = sorted(uid for uid in map(int, found) if last < uid <= end)
            fetched = [one for chunk in session.fetch(uids[:PAGE]) for one in chunk]
            if len(uids) > PAGE:
                following = json.dumps([at, uids[PAGE - 1]])
            elif end < session.last_uid_at_opening:
                following = json.dumps([at, end])
            else:
                following = json.dumps([at + 1, 0]) if at + 1 < len(folders) else ""
            old = tuple(one for one in fetched if one.received is not None and one.received <= before)
            return Old(folders[at], session.validity, old, following)
        finally:
            session.close()


def _present(session: Session, uids: Sequence[int]) -> set[int]:
    return set(map(int, session._client.search(["UID", ",".join(map(str, sorted(uids)))]))) & set(uids)


def _take_away(session: Session, uids: Sequence[int]) -> bool:
    """Remove for good where exactly these can be (RFC 4315), else into Trash (RFC 6851); False for neither.

    On Gmail an expunged message only leaves its label: there Trash is what removes it.
    """
    client = session._client
    trash = ""
    if client.has_capability("MOVE"):
        trash = next((str(name) for flags, _, name in client.list_folders() if _is_trash(flags)), "")
    if client.has_capability("UIDPLUS") and not (trash and client.has_capability("X-GM-EXT-1")):
        client.add_flags(uids, [b"\\Deleted"], silent=True)
        client.uid_expunge(uids)
        return True
    if trash and trash != session.folder:
        client.move(uids, trash)
        return True
    return False


def _is_trash(flags: Sequence[bytes]) -> bool:
    return b"\\trash" in {bytes(flag).lower() for flag in flags}


async def _beside(act: Callable[[Lifeline], T]) -> T:
    """Run it in a thread; whoever gives up waiting cuts its connection."""
    lifeline = Lifeline()
    try:
        return await asyncio.to_thread(act, lifeline)
    except asyncio.CancelledError:
        lifeline.cut()
        raise


def _position(position: str, folders: int) -> tuple[int, int]:
    try:
        at, last = json.loads(position or "[0, 0]")
        return (int(at), int(last)) if 0 <= int(at) < folders else (0, 0)
    except (ValueError, TypeError):
        return 0, 0
