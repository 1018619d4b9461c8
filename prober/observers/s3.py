"""The observer of mail that SES puts into a bucket: notifications are upper bounds, only complete listings count."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Final, Self

from prober.acts import Acts
from prober.clean_up import Lying, Removal
from prober.clock import Clock, Instant, wait_for_any
from prober.errors import Unreadable
from prober.model import Batch, Channel, How, Message, Reading, Stamp, Wake, Waypoint
from prober.observers import s3_removal
from prober.observers.mail import addressed
from prober.observers.s3_client import AwsClient, Listed
from prober.observers.s3_errors import closed
from prober.observers.s3_position import Position, beginning, fingerprint, load_position
from prober.observers.s3_queue import Arrival, Lane, QueueWatch, fetch
from prober.observers.s3_settings import S3Settings

__all__ = ["S3Observer", "S3Settings"]

MOST_MESSAGES: Final = 200
"""Mails that one read fetches; what is left is for the next."""

WITHOUT_PUSHES: Final = 5.0
"""Seconds after which a read is asked for while the queue is not heard."""

ANNOUNCED_WITHIN: Final = 120.0
"""Seconds within which the queue tells of a mail: S3's own notifications may take a minute or longer."""

_SILENT: Final = 3
_MOST_PUSHED: Final = 200
_MOST_READ: Final = 20_000
_RESOLUTION: Final = 1.0
_STOP_WITHIN: Final = 1.0
_SETUP: Final = "AMAZON_SES_SETUP_NOTIFICATION"


@dataclass(frozen=True, slots=True)
class _Shown:
    """What one listing showed: what is new and read, and the position after it."""

    arrivals: tuple[Arrival, ...]
    position: Position
    reading: Reading | None


class S3Observer:
    """Reads channels through one bucket; see :class:`prober.observers.Observer`. An object's key is its message's id.

    Each read lists the whole prefix: a lifecycle rule should keep it small.
    """

    def __init__(self, name: str, settings: S3Settings, channels: tuple[Channel, ...], clock: Clock) -> None:
        self.name = name
        self.channels = tuple(channel.name for channel in channels)
        self.acts = Acts(clock)
        self.poll: float | None = settings.used_poll
        self.reads_per_minute: float | None = None
        self.removals_per_minute: float | None = None
        self.looks_per_minute: float | None = s3_removal.LOOKS_PER_MINUTE
        self._settings = settings
        self._addressed = channels
        self._clock = clock
        self._news = asyncio.Event()
        self._unread = False
        self._behind = True
        self._pushed: deque[Message] = deque()
        self._fetched: OrderedDict[str, Arrival] = OrderedDict()
        self._unannounced: dict[str, Instant] = {}
        self._done: OrderedDict[str, None] = OrderedDict()
        self._trouble = ""
        self._client: AwsClient | None = None
        self._lane: Lane | None = None
        self._queue: QueueWatch | None = None

    @property
    def push_trouble(self) -> str:
        """Why the queue is not heard, or not told everything, in a sentence; '' when it is or none is configured."""
        now = self._clock.now()
        silent = sum(now.since(read) > ANNOUNCED_WITHIN for read in tuple(self._unannounced.values()))
        if self._trouble or silent < _SILENT:
            return self._trouble
        return (
            f"of {silent} mails in the bucket the queue told nothing: another consumer takes its messages (give each "
            "prober a queue of its own), or the receipt rule does not notify it"
        )

    async def __aenter__(self) -> Self:
        self._client = AwsClient(self._settings, self._clock)
        self._lane = Lane(f"s3-{self._settings.bucket}")
        if self._settings.queue_url is not None:
            self._queue = QueueWatch(
                self._client,
                self._settings,
                self._clock,
                self.acts,
                self.name,
                hear=self._hear,
                changed=self._change,
                has=self._announced,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, lane, queue = self._client, self._lane, self._queue
        self._client = self._lane = self._queue = None
        if client is None or lane is None:
            return
        client.stop()
        stops = [lane.stop(_STOP_WITHIN)]
        if queue is not None:
            stops.append(queue.stop(_STOP_WITHIN + self._settings.wait_seconds))
        await asyncio.gather(*stops)
        client.close()

    # --- pushes ----------------------------------------------------------------------------------------------

    async def wait(self, until: Instant) -> Wake:
        """See :class:`prober.observers.Observer`; while the queue is not heard it asks for a read now and then."""
        seconds = until.since(self._clock.now())
        deaf = bool(self._trouble) and seconds > WITHOUT_PUSHES
        woken = await wait_for_any(self._clock, self._news, WITHOUT_PUSHES if deaf else seconds)
        self._news.clear()
        wake = Wake(tuple(self._pushed), self._unread or (deaf and not woken))
        self._pushed.clear()
        self._unread = False
        return wake

    def _hear(self, arrivals: Sequence[Arrival], unread: bool) -> None:
        for arrival in arrivals:
            self._fetched[arrival.key] = arrival
            self._pushed.extend(self._messages(arrival))
            if len(self._fetched) > _MOST_PUSHED:
                self._fetched.popitem(last=False)
        self._unread = self._unread or unread
        self._news.set()

    def _announced(self, key: str) -> bool:
        """Whether a mail that the queue tells of needs no fetching (called in the queue's thread)."""
        self._unannounced.pop(key, None)
        return key in self._done

    def _change(self, trouble: str) -> None:
        """A queue that is lost, or heard again, is a reason to read."""
        self._trouble = trouble
        self._unread = True
        self._news.set()

    # --- reads -----------------------------------------------------------------------------------------------

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        """List the prefix and read what is new after ``cursor``; None begins now, or with the newest after ``since``.

        A read that finds more than it may return at once covers nothing yet (no readings), and says at once by
        :meth:`wait` that there is more. Raises Unreadable: unreachable, auth, missing_bucket, missing_access,
        encrypted, tls, protocol or timeout.
        """
        if self._lane is None or self._client is None:
            raise closed()
        position = load_position(cursor, self._settings.place)
        how = How.HISTORY if self._behind or position is None else How.POLL
        try:
            if position is None:
                shown = await self._lane.do(partial(self._begin, self._client, since))
            else:
                shown = await self._lane.do(partial(self._read, self._client, position, dict(self._fetched), how))
        except Unreadable:
            self._behind = True
            raise
        self._behind = shown.reading is None
        for arrival in shown.arrivals:
            told = self._fetched.pop(arrival.key, None) is not None
            if not told and self._queue is not None and not self._trouble and how is How.POLL:
                self._unannounced[arrival.key] = arrival.seen
            self._done[arrival.key] = None
        while len(self._unannounced) > _MOST_PUSHED:
            self._unannounced.pop(next(iter(self._unannounced)), None)
        while len(self._done) > _MOST_READ:
            self._done.popitem(last=False)
        arrivals = sorted(shown.arrivals, key=lambda arrival: arrival.seen.boottime)
        messages = tuple(message for arrival in arrivals for message in self._messages(arrival))
        if shown.reading is None:
            self._unread = True
            self._news.set()
            return Batch(messages, shown.position.saved(), {})
        return Batch(messages, shown.position.saved(), dict.fromkeys(self.channels, shown.reading))

    def _begin(self, client: AwsClient, since: Instant | None) -> _Shown:
        """From now on: what is there is only remembered; the newest of what came after ``since`` is read, too."""
        there = sorted(client.objects(), key=lambda listed: (listed.modified, listed.key))
        now = self._clock.now().wall
        position = beginning(self._settings.place, ((listed.key, listed.modified) for listed in there), now)
        late = [listed for listed in there if since is not None and listed.modified >= since.wall]
        arrivals = [self._arrival(client, listed, None, How.HISTORY) for listed in late[-MOST_MESSAGES:]]
        # What appeared behind a listing under way is in no position: shown later, it would seem to have come later.
        shown = self._read(client, replace(position, read_at=0.0), {}, How.HISTORY)
        return replace(shown, arrivals=(*filter(None, arrivals), *shown.arrivals))

    def _read(self, client: AwsClient, position: Position, pushed: Mapping[str, Arrival], how: How) -> _Shown:
        started = self._clock.now()
        names = position.names()
        new = [
            listed
            for listed in client.objects()
            if listed.modified >= position.floor and fingerprint(listed.key) not in names
        ]
        # The oldest first, so that the position never passes one that is left for the next read.
        new.sort(key=lambda listed: (listed.modified, listed.key))
        complete, new = len(new) <= MOST_MESSAGES, new[:MOST_MESSAGES]
        arrivals = [self._arrival(client, listed, pushed.get(listed.key), how) for listed in new]
        # A gap ends with the first read that closes it.
        read_at = started.wall if complete else position.read_at
        after = position.advanced(((listed.key, listed.modified) for listed in new), read_at)
        reading = Reading(started, self._clock.now(), continues=position.lasts(started.wall))
        return _Shown(tuple(filter(None, arrivals)), after, reading if complete else None)

    def _arrival(self, client: AwsClient, listed: Listed, pushed: Arrival | None, how: How) -> Arrival | None:
        """The mail in an object that a listing showed: what its notification told where that came before."""
        if pushed is not None and pushed.size == listed.size:
            if listed.shown.since(pushed.seen) >= 0:
                return pushed
            return replace(pushed, seen=listed.shown, how=how)
        if not listed.size or listed.key.endswith(_SETUP):
            return None
        arrival = fetch(client, self._settings, listed.key, listed.shown, how)
        if arrival is not None and arrival.size != listed.size:
            raise Unreadable("protocol", f"an object of the bucket {self._settings.bucket} is not as long as listed")
        return arrival

    def _messages(self, arrival: Arrival) -> Iterable[Message]:
        mail = arrival.mail
        if arrival.recipients:
            everybody = tuple(dict.fromkeys([*arrival.recipients, *mail.recipients]))
            mail = replace(mail, delivered=arrival.recipients, recipients=everybody)
        stored = Waypoint("s3_stored", float(arrival.modified), "s3", _RESOLUTION)
        for channel in addressed(mail, self._addressed):
            yield Message(
                channel=channel.name,
                id=arrival.key,
                fingerprint=mail.headers_block_hash,
                texts=mail.texts,
                sender=mail.sender,
                recipients=mail.recipients,
                seen=arrival.seen,
                how=arrival.how,
                stamp=Stamp(float(arrival.modified), _RESOLUTION, "s3"),
                waypoints=(*arrival.waypoints, stored),
            )

    # --- clean-up --------------------------------------------------------------------------------------------

    async def remove(self, channel: str, message_ids: Sequence[str]) -> Mapping[str, Removal]:
        """See :class:`prober.observers.Removing`."""
        if self._lane is None or self._client is None:
            raise closed()
        try:
            return await self._lane.do(partial(s3_removal.remove, self._client, message_ids))
        except Unreadable as error:
            if error.reason != "missing_access":
                raise
            return dict.fromkeys(message_ids, Removal.DENIED)

    async def lying(self, position: str, before: Instant) -> Lying:
        """See :class:`prober.observers.Removing`; between the fetches reads have their turn."""
        if self._lane is None or self._client is None:
            raise closed()
        client = self._client
        found: list[Message] = []
        listed, following = await self._lane.do(partial(s3_removal.old_page, client, position, before.wall))
        for each in listed:
            arrival = await self._lane.do(partial(self._arrival, client, each, None, How.HISTORY))
            found += [] if arrival is None else self._messages(arrival)
        return Lying(tuple(found), (), following)

    def rests_on(self, cursor: str | None, channel: str, message_id: str) -> bool:
        """See :class:`prober.observers.Removing`: a listing needs no anchor."""
        return False
