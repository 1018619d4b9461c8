"""Discord as an observer: one bot that reads its channels' history, and is told by the gateway when something comes.

A read is complete only if it would have shown what is there. So each channel has an anchor, a message known to be in
its history: a read begins with the anchor and must return it. Where it does not (the right to read history is gone:
Discord then answers an *empty list*), a control message of our own is posted and must be returned instead.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, model_validator

from prober.acts import Acts
from prober.clean_up import Lying, Removal
from prober.clock import Clock, Instant, wait_for_any
from prober.durations import parse_duration
from prober.errors import Unreadable
from prober.model import Batch, Blindness, Channel, Control, ControlSeen, How, Message, Reading, Wake
from prober.observers.discord_gateway import DiscordGateway, Inbox
from prober.observers.discord_removal import LOOKS_PER_MINUTE, REMOVALS_PER_MINUTE, DiscordRemoval, rests_on
from prober.observers.discord_rest import DiscordRest
from prober.observers.discord_text import (
    is_blanked,
    is_control,
    is_ordinary,
    is_snowflake,
    message_of,
    snowflake_of,
    stamp_of,
)

HISTORY_PER_MINUTE: Final = 60.0
"""Complete reads that we allow ourselves: Discord bounds the route per channel, and 50 requests a second in all
(discord-api-docs, topics/rate-limits); what it says in its headers is kept besides."""

_POLL_WITHOUT_GATEWAY = 5.0
_UNSETTLED = 2.0
_MOST_KNOWN = 500
_CONTROL_SERVES = 300.0


def _period(value: Any) -> float | None:
    return None if value is None else parse_duration(value)


class DiscordSettings(BaseModel):
    """One bot. ``poll`` in seconds or as ``5s``; without the gateway it is 5 s unless given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: SecretStr
    mode: Literal["gateway", "rest"] = "gateway"
    api_url: str = "https://discord.com/api/v10"
    gateway_url: str = ""
    poll: Annotated[float | None, BeforeValidator(_period)] = None

    @model_validator(mode="before")
    @classmethod
    def _poll_without_gateway(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("mode") == "rest" and given.get("poll") is None:
            return {**given, "poll": _POLL_WITHOUT_GATEWAY}
        return given


@dataclass(frozen=True, slots=True)
class _Place:
    """How far one channel has been read: everything up to ``anchor``, and of what is newer the ``known`` ids.

    The anchor stays 2 s behind the newest message, because Discord makes ids on many machines: a message may become
    visible after one with a higher id.
    """

    address: str
    guild: str
    anchor: str
    known: frozenset[str] = frozenset()

    def proves(self, page: Sequence[dict[str, Any]]) -> bool:
        """Whether the page shows a message known to be there: then it shows all that is."""
        return any(message["id"] == self.anchor or message["id"] in self.known for message in page)

    def is_new(self, snowflake: str) -> bool:
        return int(snowflake) > int(self.anchor) and snowflake not in self.known

    def moved_over(self, page: Sequence[dict[str, Any]]) -> _Place:
        """The place after that page, which is sorted by id and not empty."""
        ids = [str(message["id"]) for message in page]
        settled_until = stamp_of(ids[-1]).at - _UNSETTLED
        settled = [each for each in ids[:-1] if stamp_of(each).at <= settled_until] + ids[:-_MOST_KNOWN]
        anchor = max((self.anchor, *settled), key=int)
        return _Place(self.address, self.guild, anchor, frozenset(each for each in ids if int(each) > int(anchor)))


@dataclass(frozen=True, slots=True)
class _ChannelRead:
    place: _Place
    reading: Reading
    messages: tuple[Message, ...]
    control: Control | None = None
    controls_seen: tuple[ControlSeen, ...] = ()


class DiscordObserver:
    """Implements the observer seam for Discord; ``wait`` and ``read`` recover by themselves.

    ``Unreadable`` reasons: ``unreachable auth missing_access content_intent intents rate_limited protocol timeout``.
    """

    def __init__(self, name: str, settings: DiscordSettings, channels: tuple[Channel, ...], clock: Clock) -> None:
        self.name = name
        self.acts = Acts(clock)
        self.channels = tuple(channel.name for channel in channels)
        self.poll = settings.poll
        self.reads_per_minute: float | None = HISTORY_PER_MINUTE
        self.removals_per_minute: float | None = REMOVALS_PER_MINUTE
        self.looks_per_minute: float | None = LOOKS_PER_MINUTE
        self._channels = channels
        self._clock = clock
        token = settings.token.get_secret_value()
        self._rest = DiscordRest(token, settings.api_url, clock)
        self._removal = DiscordRemoval(self._rest, channels, clock)
        self._inbox = Inbox()
        self._gateway: DiscordGateway | None = None
        if settings.mode == "gateway":
            self._gateway = DiscordGateway(
                token=token,
                api_url=settings.api_url,
                gateway_url=settings.gateway_url,
                rest=self._rest,
                inbox=self._inbox,
                clock=clock,
            )
        self._task: asyncio.Task[None] | None = None
        self._guilds: dict[str, str] = {}
        self._unproven: dict[str, tuple[str, Control]] = {}

    @property
    def pushing(self) -> bool:
        """Whether pushes flow now; False in mode ``rest``."""
        return self._gateway is not None and self._gateway.up

    @property
    def push_trouble(self) -> str:
        """See :class:`prober.observers.Observer`; as last heard."""
        return self._gateway.trouble if self._gateway is not None else ""

    async def __aenter__(self) -> Self:
        await self._rest.__aenter__()
        if self._gateway is not None:
            self._task = asyncio.create_task(self._gateway.run(), name=f"{self.name}-gateway")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._task is not None:
                self._task.cancel()
                with suppress(asyncio.CancelledError):
                    await self._task
        finally:
            await self._rest.__aexit__(kind, error, trace)

    async def wait(self, until: Instant) -> Wake:
        """Return when something was pushed, when the connection was lost or is back, or at ``until``."""
        await wait_for_any(self._clock, self._inbox.changed, until.since(self._clock.now()))
        arrivals, unread = self._inbox.take()
        pushed: list[Message] = []
        controls: list[ControlSeen] = []
        for arrival in arrivals:
            names = self._names_at(str(arrival.payload.get("channel_id")))
            if is_control(arrival.payload):
                controls += (ControlSeen(name, arrival.payload["id"], arrival.seen, arrival.how) for name in names)
            elif names and is_blanked(arrival.payload):
                unread = True
            elif is_ordinary(arrival.payload):
                pushed += (message_of(arrival.payload, name, arrival.seen, arrival.how) for name in names)
        return Wake(tuple(pushed), unread, tuple(controls))

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        """Read the history of every channel from the cursor's anchors on; one that cannot be read keeps its place."""
        if self._inbox.refusal is not None:
            if self._gateway is not None:
                await self._gateway.look_for_the_intent()
            raise Unreadable(self._inbox.refusal.reason, self._inbox.refusal.detail)
        how = How.HISTORY if self._inbox.doubtful else How.POLL
        self._inbox.doubtful = False
        places, begun = _places(cursor), self._clock.now()
        reads = await asyncio.gather(
            *(self._read_channel(channel, places.get(channel.name), since, how) for channel in self._channels),
            return_exceptions=True,
        )
        failed = {
            name: read for name, read in zip(self.channels, reads, strict=True) if isinstance(read, BaseException)
        }
        self._inbox.doubtful = self._inbox.doubtful or bool(failed)
        for error in failed.values():
            if len(failed) == len(reads) or not isinstance(error, Unreadable):
                raise error
        done = {name: read for name, read in zip(self.channels, reads, strict=True) if isinstance(read, _ChannelRead)}
        for name in done:
            self._unproven.pop(name, None)
        kept = {name: place for name, place in places.items() if name in failed}
        return Batch(
            messages=tuple(message for read in done.values() for message in read.messages),
            cursor=_cursor(kept | {name: read.place for name, read in done.items()}),
            readings={name: read.reading for name, read in done.items()},
            controls=tuple(read.control for read in done.values() if read.control is not None),
            controls_seen=tuple(seen for read in done.values() for seen in read.controls_seen),
            blind={
                name: Blindness(error.reason, error.detail, begun)
                for name, error in failed.items()
                if isinstance(error, Unreadable)
            },
        )

    async def control(self, channel: str) -> Control:
        """Post a message of our own to the channel of that name, which proves the right to post and dates its clock.

        Raises Unreadable when Discord does not take it, KeyError for a channel that is not ours.
        """
        for each in self._channels:
            if each.name == channel:
                return (await self._post_control(each))[1]
        raise KeyError(channel)

    async def remove(self, channel: str, message_ids: Sequence[str]) -> Mapping[str, Removal]:
        """See :class:`prober.observers.Removing`."""
        return await self._removal.remove(channel, message_ids)

    async def lying(self, position: str, before: Instant) -> Lying:
        """See :class:`prober.observers.Removing`."""
        return await self._removal.lying(position, before)

    def rests_on(self, cursor: str | None, channel: str, message_id: str) -> bool:
        """See :class:`prober.observers.Removing`."""
        return rests_on(cursor, channel, message_id)

    async def _read_channel(
        self, channel: Channel, place: _Place | None, since: Instant | None, how: How
    ) -> _ChannelRead:
        guild = await self._guild_of(channel.address)
        if place is not None and (place.address, place.guild) == (channel.address, guild):
            started = self._clock.now()
            page = await self._rest.messages_from(channel.address, place.anchor)
            if place.proves(page):
                return self._shown(channel, place, page, started, how)
        snowflake, control = await self._control_to_prove(channel)
        begin = snowflake if since is None else min(snowflake, snowflake_of(since.wall), key=int)
        fresh = _Place(channel.address, guild, begin, frozenset({snowflake}))
        started = self._clock.now()
        page = await self._rest.messages_from(channel.address, begin)
        if not fresh.proves(page):
            raise Unreadable(
                "missing_access",
                f"the history of channel {channel.name} does not show our own control message; "
                "grant the bot READ_MESSAGE_HISTORY",
            )
        return self._shown(channel, fresh, page, started, how, control=control)

    def _shown(
        self,
        channel: Channel,
        place: _Place,
        page: Sequence[dict[str, Any]],
        started: Instant,
        how: How,
        *,
        control: Control | None = None,
    ) -> _ChannelRead:
        """What a page that proved complete says. ``control``: it begins a new ``since``."""
        ended = self._clock.now()
        messages: list[Message] = []
        controls: list[ControlSeen] = []
        if control is not None:
            controls.append(ControlSeen(channel.name, control.id, *self._receipt(control.id, ended, How.POLL)))
        for payload in page:
            if not is_ordinary(payload) or not place.is_new(payload["id"]):
                continue
            if is_control(payload):
                controls.append(ControlSeen(channel.name, payload["id"], *self._receipt(payload["id"], ended, how)))
                continue
            if is_blanked(payload):
                raise Unreadable(
                    "content_intent",
                    f"Discord withholds the content of messages in channel {channel.name}; enable MESSAGE CONTENT "
                    "in the developer portal, or let the probe's text mention the bot",
                )
            messages.append(message_of(payload, channel.name, *self._receipt(payload["id"], ended, how)))
        reading = Reading(started, ended, continues=control is None)
        return _ChannelRead(place.moved_over(page), reading, tuple(messages), control, tuple(controls))

    def _receipt(self, snowflake: str, ended: Instant, how: How) -> tuple[Instant, How]:
        """When and how a message was first seen: by its push, or else by the read that ended then."""
        return self._inbox.receipts.get(snowflake, (ended, how))

    async def _guild_of(self, address: str) -> str:
        if address not in self._guilds:
            self._guilds[address] = await self._rest.guild_of(address)
        return self._guilds[address]

    async def _control_to_prove(self, channel: Channel) -> tuple[str, Control]:
        """A control message whose showing proves sight: for a while the one that was posted and never shown."""
        posted = self._unproven.get(channel.name)
        if posted is None or self._clock.now().since(posted[1].answered) > _CONTROL_SERVES:
            with self.acts.asking("control", channel.name, "") as answer:
                posted = self._unproven[channel.name] = await self._post_control(channel)
                answer.append(f"posted {posted[0]}")
        return posted

    async def _post_control(self, channel: Channel) -> tuple[str, Control]:
        sent, snowflake, answered = await self._rest.post_control(channel.address)
        heard = self._inbox.receipts.get(snowflake)
        shown = None if heard is None else ControlSeen(channel.name, snowflake, *heard)
        return snowflake, Control(channel.name, sent, answered, stamp_of(snowflake), snowflake, shown)

    def _names_at(self, address: str) -> list[str]:
        return [channel.name for channel in self._channels if channel.address == address]


def _cursor(places: dict[str, _Place]) -> str:
    return json.dumps(
        {
            name: {"address": place.address, "guild": place.guild, "anchor": place.anchor, "known": sorted(place.known)}
            for name, place in places.items()
        },
        separators=(",", ":"),
    )


def _places(cursor: str | None) -> dict[str, _Place]:
    """The places that a cursor tells; none for what is not one of ours."""
    try:
        told = json.loads(cursor or "{}")
    except ValueError:
        return {}
    places = {}
    for name, place in told.items() if isinstance(told, dict) else ():
        if isinstance(place, dict) and is_snowflake(place.get("anchor")):
            told_known = place.get("known")
            known = [each for each in told_known if is_snowflake(each)] if isinstance(told_known, list) else []
            places[name] = _Place(str(place.get("address")), str(place.get("guild")), place["anchor"], frozenset(known))
    return places
