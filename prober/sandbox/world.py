"""The world as pure logic over a clock: a publishing system that takes orders and sends messages through weather.

It does no I/O of its own: an outlet carries messages to where they become visible.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self
from uuid import uuid4

from prober.clock import Clock
from prober.model import ChannelKind, Content, PublicationKind
from prober.sandbox.climate import Climate
from prober.sandbox.courier import WORKERS, Courier, Outlet, Parcel
from prober.sandbox.letters import GENERIC_SUBJECT, GENERIC_TEXT
from prober.sandbox.records import (
    ChannelResult,
    Order,
    Outgoing,
    Place,
    Record,
    Rejected,
    Request,
    Subscriber,
    TargetChannel,
    template_id,
    uuid4_from,
)

MOST_RECORDS = 20_000
MOST_REQUESTS = 50_000
RETRY_AFTER = 300.0
"""Seconds after which a publication that failed goes out again when its retry is asked for."""

_PRIORITIES = {"critical": 0, "high": 1, "medium": 2, "low": 3}
_IMMEDIATE, _SCHEDULED = 5, 6
_DEFAULT_CONTENT = {
    PublicationKind.ALERT: "alert",
    PublicationKind.NEWSLETTER: "newsletter",
    PublicationKind.DIGEST: "publication",
    PublicationKind.MANUAL: "publication",
}


class World:
    """A publishing system and its weather. Enter it as an async context manager to let its workers run."""

    def __init__(
        self,
        world_id: str,
        *,
        places: Iterable[Place],
        contents: Iterable[Content],
        climate: Climate,
        clock: Clock,
        outlet: Outlet,
        workers: int = WORKERS,
    ) -> None:
        self.id = world_id
        self.clock = clock
        self.climate = climate
        self.channels: dict[str, TargetChannel] = {}
        self.subscribers: dict[str, Subscriber] = {}
        self.records: OrderedDict[str, Record] = OrderedDict()
        self.requests: deque[Request] = deque(maxlen=MOST_REQUESTS)
        self._places = {place.address: place for place in places}
        self._templates = {template_id(content.template): content for content in contents}
        self._by_name = {content.name: content for content in self._templates.values()}
        self._courier = Courier(clock, outlet, workers)
        for place in self._places.values():
            self._furnish(place)

    async def __aenter__(self) -> Self:
        await self._courier.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._courier.__aexit__(kind, error, trace)

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """What runs while the world is entered: none of these ends by itself unless something is broken."""
        return self._courier.tasks

    @property
    def waiting(self) -> int:
        """How many messages are still on their way."""
        return self._courier.waiting

    @property
    def templates(self) -> Mapping[str, str]:
        """The templates' ids by their names."""
        return {content.template: name for name, content in self._templates.items()}

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(self._places.values())

    def wall(self) -> float:
        """The publishing system's own clock."""
        return self.clock.now().wall + (self.climate.api().clock or 0.0)

    # --- orders ----------------------------------------------------------------------------------------------

    def create(self, order: Order) -> Record:
        """Take an order; its messages are on their way before this returns to anybody. Raises Rejected."""
        self._check_channels(order.channels)
        wall = self.wall()
        wait = 0.0 if order.scheduled_time is None else order.scheduled_time - wall
        if order.scheduled_time is not None and wait <= 0:
            raise Rejected(422, "Validation error", "scheduled_time must be in the future", ("scheduled_time",))
        record = Record(
            id=str(uuid4()),
            order=order,
            created_at=wall,
            updated_at=wall,
            status="scheduled",
            results={channel: ChannelResult() for channel in order.channels},
            scheduled_time=order.scheduled_time,
        )
        self.records[record.id] = record
        while len(self.records) > MOST_RECORDS:
            self.records.popitem(last=False)
        self._enqueue(record, wait)
        return record

    def find(self, record_id: str) -> Record:
        """Raises Rejected (404) for an id that is not known."""
        try:
            return self.records[record_id.lower()]
        except KeyError as error:
            raise Rejected(404, "Not found", f"publication {record_id} does not exist") from error

    def cancel(self, record_id: str) -> Record:
        """Raises Rejected: 404 when unknown, 409 when it is too late."""
        record = self.find(record_id)
        self._only_scheduled(record, "cancelled")
        self._change(record, "cancelled")
        record.generation += 1
        return record

    def reschedule(self, record_id: str, scheduled_time: float) -> Record:
        """Raises Rejected: 404 when unknown, 409 when it is too late, 422 for a time that is past."""
        record = self.find(record_id)
        self._only_scheduled(record, "changed")
        wait = scheduled_time - self.wall()
        if wait <= 0:
            raise Rejected(422, "Validation error", "scheduled_time must be in the future", ("scheduled_time",))
        self._again(record, scheduled_time, wait)
        return record

    def retry(self, record_id: str) -> Record:
        """Reschedule what has failed at five minutes from now. Raises Rejected."""
        record = self.find(record_id)
        if record.status != "failed":
            raise Rejected(409, "Conflict", f"only a failed publication can be retried, this one is {record.status}")
        self._again(record, self.wall() + RETRY_AFTER, RETRY_AFTER)
        return record

    def send_one(self, record: Record, address: str) -> Outgoing:
        """Send a publication to one mail address now, outside its status; return the message."""
        message = self._message(record, "", ChannelKind.EMAIL, address)
        self._send(record, message, counted=False)
        return message

    def send_plain(self, kind: str, address: str, subject: str, text: str) -> Outgoing:
        """Send the caller's own words to one address now; return the message."""
        wall = self.wall()
        record = Record(str(uuid4()), Order(PublicationKind.MANUAL, ()), wall, wall, "completed", {})
        message = self._message(record, "", kind, address)
        message = replace(message, subject=subject or message.subject, text=text or message.text)
        self._send(record, message, counted=False)
        return message

    def recipients(self, channel: TargetChannel) -> tuple[str, ...]:
        """The addresses that a target channel feeds."""
        if channel.kind == ChannelKind.EMAIL:
            people = self.subscribers.values()
            return tuple(one.email for one in people if one.status == "active" and channel.id in one.preferred_channels)
        address = channel.configuration.get("channel_id") if channel.kind in set(ChannelKind) else None
        return (address,) if isinstance(address, str) and address else ()

    # --- channels and subscribers ----------------------------------------------------------------------------

    def add_channel(self, channel: TargetChannel) -> TargetChannel:
        """Raises Rejected (409) when the name is taken."""
        if any(other.name == channel.name for other in self.channels.values()):
            raise Rejected(409, "Conflict", f"a channel named {channel.name!r} exists already")
        self.channels[channel.id] = channel
        return channel

    def add_subscriber(self, subscriber: Subscriber) -> Subscriber:
        """Raises Rejected: 409 when the address is taken, 400 for a target channel that does not exist."""
        if any(other.email.lower() == subscriber.email.lower() for other in self.subscribers.values()):
            raise Rejected(409, "Conflict", "a subscriber with this address exists already")
        unknown = [channel for channel in subscriber.preferred_channels if channel not in self.channels]
        if unknown:
            raise Rejected(400, "Invalid channels", f"channel {unknown[0]} does not exist")
        self.subscribers[subscriber.id] = subscriber
        return subscriber

    def _furnish(self, place: Place) -> None:
        configuration = {} if place.kind is ChannelKind.EMAIL else {"channel_id": place.address}
        name = f"prober-{place.name}"
        self.channels[place.target_channel] = TargetChannel(place.target_channel, name, place.kind, configuration)
        if place.kind is ChannelKind.EMAIL:
            identity = uuid4_from(self.id, "subscriber", place.name)
            self.subscribers[identity] = Subscriber(identity, place.address, (place.target_channel,))

    def _check_channels(self, channels: tuple[str, ...]) -> None:
        for identity in channels:
            channel = self.channels.get(identity)
            if channel is None or not channel.is_active:
                state = "does not exist" if channel is None else "is not active"
                raise Rejected(400, "Invalid channels", f"channel {identity} {state}")

    # --- work ------------------------------------------------------------------------------------------------

    def _enqueue(self, record: Record, wait: float) -> None:
        priority = _IMMEDIATE if record.order.scheduled_time is None else _SCHEDULED
        if record.order.kind is PublicationKind.ALERT:
            priority = _PRIORITIES.get(record.order.priority, 0)
        generation = record.generation
        if wait > 0:
            self._courier.call(wait, lambda: self._dispatch(record, generation, priority))
        else:
            self._dispatch(record, generation, priority)

    def _again(self, record: Record, scheduled_time: float, wait: float) -> None:
        record.generation += 1
        record.scheduled_time = scheduled_time
        record.results = {channel: ChannelResult() for channel in record.order.channels}
        self._change(record, "scheduled")
        self._enqueue(record, wait)

    def _dispatch(self, record: Record, generation: int, priority: int) -> None:
        """Turn a publication that is due into messages."""
        if generation != record.generation:
            return
        self._change(record, "processing")
        record.published_time = record.updated_at
        messages = []
        for identity in record.order.channels:
            channel = self.channels[identity]
            addresses = self.recipients(channel)
            record.results[identity] = ChannelResult("pending", recipients=len(addresses))
            messages += [self._message(record, identity, channel.kind, address) for address in addresses]
        record.pending = len(messages)
        for message in messages:
            self._send(record, message, priority)
        self._conclude(record)

    def _send(self, record: Record, message: Outgoing, priority: int = _IMMEDIATE, *, counted: bool = True) -> None:
        """Let the weather decide on one message. ``counted`` ones are part of the publication's status."""
        generation = record.generation

        def settled(problem: str) -> None:
            if generation == record.generation:
                self._settle(record, message.target_channel, problem)

        fate = self.climate.fate(message.place, message.kind)
        if fate.lost:
            if counted:
                settled("")
            return
        message = replace(message, damaged=fate.damaged, junk=fate.junk)
        parcel = Parcel(message, priority, settled if counted else None, overtaken=fate.overtaken)
        self._courier.carry(parcel, fate.latencies[0])
        for latency in fate.latencies[1:]:
            self._courier.carry(Parcel(message, priority), latency)

    def _message(self, record: Record, channel: str, kind: str, address: str) -> Outgoing:
        content = self._templates.get(record.order.template_id.lower())
        content = content or self._by_name.get(_DEFAULT_CONTENT[record.order.kind])
        place = self._places.get(_folded(address) if kind == ChannelKind.EMAIL else address)
        return Outgoing(
            place=place.name if place else "",
            kind=ChannelKind(kind),
            address=address,
            target_channel=channel,
            publication_id=record.id,
            publication_kind=record.order.kind,
            content_ids=record.order.content_ids,
            subject=content.subject if content else GENERIC_SUBJECT,
            text=content.text if content else GENERIC_TEXT,
            message_id=f"0100{secrets.token_hex(6)}-{uuid4()}-000000",
        )

    def _settle(self, record: Record, channel: str, problem: str) -> None:
        """Note what the system believes of one message: a lost one it believes to be delivered."""
        record.pending -= 1
        result = record.results[channel]
        if problem:
            result.status, result.error = "failed", problem
        elif result.status == "pending":
            result.status, result.delivered_at = "success", self.wall()
        self._conclude(record)

    def _conclude(self, record: Record) -> None:
        if record.pending or record.status != "processing":
            return
        failed = [result for result in record.results.values() if result.status == "failed"]
        for result in record.results.values():
            if result.status == "pending":
                result.status, result.delivered_at = "success", self.wall()
        record.error = failed[0].error if failed else None
        self._change(record, "failed" if failed else "completed")

    def _change(self, record: Record, status: str) -> None:
        record.status, record.updated_at = status, self.wall()

    def _only_scheduled(self, record: Record, what: str) -> None:
        if record.status != "scheduled":
            raise Rejected(409, "Conflict", f"the publication is {record.status} and can no longer be {what}")


def _folded(address: str) -> str:
    """A mail address without its plus-tag."""
    local, at, domain = address.partition("@")
    return f"{local.partition('+')[0]}{at}{domain}".lower()
