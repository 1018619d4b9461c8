"""The observer of a mailbox over IMAP: INBOX and Junk, each by a thread of its own; only complete reads count."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from prober.acts import Acts
from prober.clean_up import Lying, Removal
from prober.clock import Clock, Instant, wait_for_any
from prober.errors import Unreadable
from prober.model import Batch, Channel, How, Message, Reading, Stamp, Wake, Waypoint
from prober.observers.imap_folder import Arrival, FolderReading, FolderWatch, Position
from prober.observers.imap_removal import LOOKS_PER_MINUTE, REMOVALS_PER_MINUTE, ImapRemoval
from prober.observers.imap_settings import ImapSettings
from prober.observers.imap_tokens import Tokens
from prober.observers.mail import addressed, read_mail
from prober.observers.mail_trace import authentication, stored_at

__all__ = ["ImapObserver", "ImapSettings"]

_RESOLUTION = 1.0
"""Seconds to which INTERNALDATE and Received are given."""

_MICROSECOND = 1e-6


class ImapObserver:
    """One mailbox, entered as an async context manager. It connects at the first read and again by itself.

    Pushes only wake; what is new is found by reads. A mail in the Junk folder is misplaced.
    """

    def __init__(self, name: str, settings: ImapSettings, channels: tuple[Channel, ...], clock: Clock) -> None:
        self.name = name
        self.channels = tuple(channel.name for channel in channels)
        self.poll: float | None = settings.poll
        self.reads_per_minute: float | None = None
        self.push_trouble = ""
        self.removals_per_minute: float | None = REMOVALS_PER_MINUTE
        self.looks_per_minute: float | None = LOOKS_PER_MINUTE
        self._settings = settings
        self._addressed = channels
        self._clock = clock
        self._news = asyncio.Event()
        self._watches: dict[str, FolderWatch] = {}
        self._junk = "" if settings.junk in ("auto", "none") else settings.junk
        self._entered = False
        self._finds_junk = settings.junk == "auto"
        self.acts = Acts(clock)
        self._tokens = Tokens(settings, settings.oauth2, clock, self.acts) if settings.oauth2 is not None else None
        self._removal = ImapRemoval(settings, self._tokens)

    async def __aenter__(self) -> Self:
        self._entered = True
        self._watch(self._settings.folder)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        watches, self._watches = tuple(self._watches.values()), {}
        await asyncio.gather(*(watch.stop() for watch in watches))

    async def wait(self, until: Instant) -> Wake:
        """Return when a push or a lost connection makes a read worth while, or at ``until``."""
        return Wake(unread=await wait_for_any(self._clock, self._news, until.since(self._clock.now())))

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        """Read INBOX and Junk completely after ``cursor``; None begins now, or with the newest mails after ``since``.

        A read that finds more than it may return at once covers nothing yet (no readings), and says at once by
        :meth:`wait` that there is more. Raises Unreadable: unreachable, login_refused, tls, folder_missing, protocol
        or timeout.
        """
        if not self._entered:
            raise Unreadable("unreachable", "the observer has not been entered, or has been left")
        self._news.clear()
        positions = load_cursor(cursor)
        known = bool(positions)
        back = None if known or since is None else since.wall
        readings = await self._read_folders(positions, known, back)
        positions |= {folder: reading.position for folder, reading in readings.items()}
        messages = [message for folder, reading in readings.items() for message in self._messages(folder, reading)]
        messages.sort(key=lambda message: message.seen.boottime)
        if not all(reading.complete for reading in readings.values()):
            self._news.set()
            return Batch(tuple(messages), save_cursor(positions), {})
        whole = whole_reading(tuple(readings.values()))
        return Batch(tuple(messages), save_cursor(positions), dict.fromkeys(self.channels, whole))

    async def remove(self, channel: str, message_ids: Sequence[str]) -> Mapping[str, Removal]:
        """See :class:`prober.observers.Removing`."""
        return await self._removal.remove(message_ids)

    async def lying(self, position: str, before: Instant) -> Lying:
        """See :class:`prober.observers.Removing`."""
        folders = [self._settings.folder, *([self._junk] if self._junk else [])]
        page, seen = await self._removal.old(position, before.wall, folders), self._clock.now()
        messages = []
        for fetched in page.fetched:
            mail = read_mail(fetched.raw, limit=self._settings.max_message_bytes)
            name = f"{page.folder}/{page.validity}.{fetched.uid}"
            arrival = Arrival(name, mail, seen, How.HISTORY, fetched.received)
            messages += [self._message(channel, arrival, misplaced=page.folder != self._settings.folder)
                         for channel in addressed(mail, self._addressed)]  # fmt: skip
        return Lying(tuple(messages), (), page.position)

    def rests_on(self, cursor: str | None, channel: str, message_id: str) -> bool:
        """See :class:`prober.observers.Removing`: UIDs stay, whatever goes."""
        return False

    async def _read_folders(
        self, positions: Mapping[str, Position], known: bool, since: float | None
    ) -> dict[str, FolderReading]:
        inbox = self._settings.folder
        readings = await self._read_all([inbox, self._junk] if self._junk else [inbox], positions, known, since)
        found = readings[inbox].junk
        if self._finds_junk and found != self._junk:
            await self._forget_junk(readings)
            if found not in ("", inbox):
                self._junk = found
                readings |= await self._read_all([found], positions, known, since)
        return readings

    async def _read_all(
        self, folders: Sequence[str], positions: Mapping[str, Position], known: bool, since: float | None
    ) -> dict[str, FolderReading]:
        """Read folders side by side. The first failure is everybody's: half a mailbox says nothing about a mail."""
        reads = (self._watch(folder).read(positions.get(folder), known=known, since=since) for folder in folders)
        readings: dict[str, FolderReading] = {}
        failure: BaseException | None = None
        for folder, answer in zip(folders, await asyncio.gather(*reads, return_exceptions=True), strict=True):
            if isinstance(answer, FolderReading):
                readings[folder] = answer
                continue
            failure = failure or answer
            if folder == self._junk and isinstance(answer, Unreadable) and answer.reason == "folder_missing":
                self._watch(self._settings.folder).look_again()
        if failure is not None:
            raise failure
        return readings

    async def _forget_junk(self, readings: dict[str, FolderReading]) -> None:
        """Stop watching what is Junk no longer."""
        gone, self._junk = self._junk, ""
        readings.pop(gone, None)
        if gone in self._watches:
            await self._watches.pop(gone).stop()

    def _watch(self, folder: str) -> FolderWatch:
        if folder not in self._watches:
            finds = self._finds_junk and folder == self._settings.folder
            self._watches[folder] = FolderWatch(folder, self._settings, self._clock, self._news.set, find_junk=finds,
                                                tokens=self._tokens)  # fmt: skip
        return self._watches[folder]

    def _messages(self, folder: str, reading: FolderReading) -> Iterable[Message]:
        for arrival in reading.arrivals:
            for channel in addressed(arrival.mail, self._addressed):
                yield self._message(channel, arrival, misplaced=folder != self._settings.folder)

    def _message(self, channel: Channel, arrival: Arrival, *, misplaced: bool) -> Message:
        mail, source = arrival.mail, f"imap:{self._settings.host}"
        received = arrival.received
        return Message(
            channel=channel.name,
            id=arrival.id,
            fingerprint=mail.headers_block_hash,
            texts=mail.texts,
            sender=mail.sender,
            recipients=mail.recipients,
            seen=arrival.seen,
            how=arrival.how,
            misplaced=misplaced,
            stamp=None if received is None else Stamp(received, _RESOLUTION, source),
            waypoints=tuple(self._waypoints(arrival)),
        )

    def _waypoints(self, arrival: Arrival) -> Iterator[Waypoint]:
        """What servers say of the mail's way, from the first hop to the mailbox: shown, never believed blindly."""
        mail, host = arrival.mail, self._settings.host[:80]
        for by, at in reversed(mail.hops):
            yield Waypoint("received", at, by, _RESOLUTION)
        # The name was given before the mail became visible, and nothing bounds that clock: no stamp.
        if (stored := stored_at(arrival.guid)) is not None:
            yield Waypoint("stored", stored, f"x-guid:{host}", _MICROSECOND)
        if arrival.received is None:
            return
        yield Waypoint("mailbox", arrival.received, f"imap:{host}", _RESOLUTION)
        proof = authentication(mail.authentication_results, self._settings.trusted_authserv_ids)
        if proof is not None:
            name = "authentication_failed" if proof.failed else "authenticated"
            yield Waypoint(name, arrival.received, str(proof)[:100], _RESOLUTION)


def whole_reading(readings: Sequence[FolderReading]) -> Reading:
    """The reading of all folders together: from the earliest start, unbroken only where each one is."""
    return Reading(
        started=min((reading.started for reading in readings), key=lambda instant: instant.boottime),
        ended=max((reading.ended for reading in readings), key=lambda instant: instant.boottime),
        continues=all(reading.continues for reading in readings),
    )


def load_cursor(cursor: str | None) -> dict[str, Position]:
    """Positions by folder; none for a cursor that is missing or cannot be understood, which begins anew."""
    try:
        folders = json.loads(cursor or "{}").get("folders", {})
        return {str(folder): Position(int(validity), int(uid)) for folder, (validity, uid) in folders.items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def save_cursor(positions: Mapping[str, Position]) -> str:
    folders = {folder: [position.validity, position.uid] for folder, position in sorted(positions.items())}
    return json.dumps({"version": 1, "folders": folders}, separators=(",", ":"))
