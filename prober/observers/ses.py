"""The witness of mail that SES sends: its published events from a queue, and its suppression list. Waypoints only."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Final, Self

from prober.acts import Acts
from prober.clock import Clock, Instant
from prober.errors import Unreadable
from prober.model import Hearsay, Waypoint
from prober.observers.s3_client import AwsClient, Received, Suppression
from prober.observers.s3_errors import closed
from prober.observers.s3_queue import Lane
from prober.observers.s3_settings import S3Settings
from prober.observers.ses_events import read_event

ASKED_FOR: Final = 60.0
"""Seconds for which an answer about an address is good: SES lets few such questions through."""

_MOST_EVENTS: Final = 500
_MOST_REMEMBERED: Final = 1000
_STOP_WITHIN: Final = 1.0


class SesWitness:
    """Of one account of SES, by an s3 observer's settings; see :class:`prober.observers.Witness`."""

    def __init__(self, name: str, settings: S3Settings, clock: Clock) -> None:
        self.name = name
        self.acts = Acts(clock)
        self._settings = settings
        self._clock = clock
        self._client: AwsClient | None = None
        self._lane: Lane | None = None
        self._asked: OrderedDict[str, tuple[Instant, Waypoint | None]] = OrderedDict()

    async def __aenter__(self) -> Self:
        self._client = AwsClient(self._settings, self._clock)
        self._lane = Lane(f"ses-{self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, lane = self._client, self._lane
        self._client = self._lane = None
        if client is not None and lane is not None:
            client.stop()
            await lane.stop(_STOP_WITHIN)
            client.close()

    async def hear(self) -> tuple[Hearsay, ...]:
        """The events in the queue, none without one; what is no event of ours to read is deleted.

        Raises Unreadable: unreachable, auth, missing_queue, missing_access, tls, protocol or timeout.
        """
        url = self._settings.events_queue_url
        if url is None:
            return ()
        client, lane = self._entered()
        heard, useless = await lane.do(partial(_take, client, url))
        what = "what is no event of a mail"
        await lane.do(partial(client.forget, url, what, useless, self.acts, self.name))
        return heard

    async def forget(self, heard: Sequence[Hearsay]) -> int:
        """Delete these from the queue; returns how many stay. Raises Unreadable."""
        url = self._settings.events_queue_url
        if url is None or not heard:
            return 0
        client, lane = self._entered()
        done = [Received("", hearsay.receipt) for hearsay in heard]
        return await lane.do(partial(client.delete, url, done))

    async def suppressed(self, address: str) -> Waypoint | None:
        """Since when SES's account-wide suppression list holds back all mail to an address, and why.

        None where it does not, or where we may not ask. Raises Unreadable.
        """
        known = self._asked.get(address)
        if known is not None and self._clock.now().since(known[0]) < ASKED_FOR:
            return known[1]
        client, lane = self._entered()
        try:
            found = await lane.do(partial(client.suppressed, address))
        except Unreadable as error:
            if error.reason != "missing_access":
                raise
            found = None
        point = None if found is None else _waypoint(found)
        self._asked[address] = (self._clock.now(), point)
        while len(self._asked) > _MOST_REMEMBERED:
            self._asked.popitem(last=False)
        return point

    def _entered(self) -> tuple[AwsClient, Lane]:
        if self._client is None or self._lane is None:
            raise closed()
        return self._client, self._lane


def _take(client: AwsClient, url: str) -> tuple[tuple[Hearsay, ...], tuple[Received, ...]]:
    heard: list[Hearsay] = []
    useless: list[Received] = []
    while len(heard) + len(useless) < _MOST_EVENTS and (received := client.receive(url, 0)):
        for message in received:
            event = read_event(message.body, message.receipt)
            if event is None:
                useless.append(message)
            else:
                heard.append(event)
    return tuple(heard), tuple(useless)


def _waypoint(found: Suppression) -> Waypoint:
    since = datetime.fromtimestamp(found.since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    why = f" ({found.reason})" if found.reason else ""
    sentence = f"suppressed since {since}{why}: SES sends nothing to this address, a later loss is self-made"
    return Waypoint("ses_suppressed", found.since, "ses", 1.0, sentence)
