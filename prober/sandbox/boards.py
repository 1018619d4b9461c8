"""Boards: places without protocols, on which the in-process world's messages become visible."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from prober.clock import Clock, Instant
from prober.model import Channel, Content
from prober.sandbox.climate import Climate
from prober.sandbox.records import DeliveryFailed, Outgoing, Place, sender_address, standard_places
from prober.sandbox.truth import Truth, Visible
from prober.sandbox.weather import Weather
from prober.sandbox.world import World

KEPT = 20_000
"""How many messages a board keeps, the newest."""


@dataclass(frozen=True, slots=True)
class Posted:
    """One message on a board; ``number`` counts from 0 and is never used again."""

    number: int
    message: Outgoing
    at: Instant


@dataclass(slots=True)
class Board:
    """What is visible at one address; ``first`` is the number of the oldest message that is still kept.

    A ``locked`` board lets nobody remove anything; ``asked`` are the ids of which somebody asked to.
    """

    address: str
    first: int = 0
    posts: list[Posted] = field(default_factory=list)
    watchers: list[asyncio.Queue[Posted]] = field(default_factory=list)
    removed: set[int] = field(default_factory=set)
    locked: bool = False
    asked: list[str] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The number that the next message gets."""
        return self.first + len(self.posts)

    def post(self, message: Outgoing, at: Instant) -> Posted:
        posted = Posted(self.end, message, at)
        self.posts.append(posted)
        if len(self.posts) >= 2 * KEPT:
            self.first += KEPT
            del self.posts[:KEPT]
        for watcher in self.watchers:
            watcher.put_nowait(posted)
        return posted

    def since(self, number: int) -> tuple[Posted, ...]:
        """The messages from ``number`` on."""
        return tuple(
            posted for posted in self.posts[max(0, number - self.first) :] if posted.number not in self.removed
        )


class InProcessWorld:
    """A world, its boards and its truth. Enter it as an async context manager."""

    def __init__(
        self,
        clock: Clock,
        weather: Weather | None = None,
        *,
        contents: Iterable[Content] = (),
        places: tuple[Place, ...] = (),
        world_id: str = "",
        workers: int = 8,
    ) -> None:
        self.clock = clock
        self.world_id = world_id or secrets.token_hex(4)
        self.places = places or standard_places(self.world_id, clock.now().wall)
        kinds = {place.name: place.kind for place in self.places}
        names = {place.address: place.name for place in self.places}
        self.climate = Climate(weather or Weather(), clock, kinds, names)
        self.truth = Truth()
        self.changed: set[asyncio.Event] = set()
        self._boards = {place.address: Board(place.address) for place in self.places}
        self.world = World(
            self.world_id,
            places=self.places,
            contents=contents,
            climate=self.climate,
            clock=clock,
            outlet=self,
            workers=workers,
        )

    async def __aenter__(self) -> Self:
        await self.world.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.world.__aexit__(kind, error, trace)

    def channels(self) -> dict[str, Channel]:
        """The channels as the prober's configuration has them, each with an observer of its own kind's name."""
        sender = sender_address(self.world_id)
        return {
            place.name: Channel(
                place.name, place.kind, f"world-{place.kind}", place.address, place.target_channel, (sender,)
            )
            for place in self.places
        }

    def board(self, address: str) -> Board:
        """What is visible at an address; a mail address's plus-tag is folded away."""
        local, at, domain = address.partition("@")
        return self._boards[f"{local.partition('+')[0]}{at}{domain}"]

    def set_weather(self, weather: Weather) -> None:
        """Change the weather at once."""
        self.climate.set_weather(weather)
        for event in self.changed:
            event.set()

    async def deliver(self, message: Outgoing) -> None:
        """Put a message on its board; an unknown address swallows it, like a mailbox that is not ours.

        Raises DeliveryFailed while the board's server is down.
        """
        if self.climate.outage(message.kind):
            raise DeliveryFailed("connection refused", passing=True)
        try:
            board = self.board(message.address)
        except KeyError:
            return
        now = self.clock.now()
        posted = board.post(message, now)
        visible = Visible(message.kind, board.address, message_id(self.world_id, board.address, posted), now, now)
        self.truth.add(visible)


def message_id(world_id: str, address: str, posted: Posted) -> str:
    """The id under which an observer reports a message."""
    board = hashlib.sha256(f"{world_id}|{address}".encode()).hexdigest()[:8]
    return f"{board}.{posted.number}"
