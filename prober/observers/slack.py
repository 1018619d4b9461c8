"""Observer of Slack: pushes by Socket Mode, complete reads by ``conversations.history`` from an anchor."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from prober.acts import Acts
from prober.clean_up import Lying, Removal
from prober.clock import Clock, Instant, wait_for_any
from prober.errors import Unreadable
from prober.model import Batch, Blindness, Channel, Control, ControlSeen, How, Message, Reading, Wake
from prober.observers.slack_connection import SocketMode, WebApi, open_session
from prober.observers.slack_history import (
    Anchor,
    History,
    Look,
    Shown,
    is_ts,
    load_anchors,
    save_anchors,
    stamp_of,
    ts_of,
)
from prober.observers.slack_pushes import PushRecord
from prober.observers.slack_removal import LOOKS_PER_MINUTE, REMOVALS_PER_MINUTE, SlackRemoval, rests_on
from prober.observers.slack_settings import SlackSettings
from prober.observers.slack_text import CONTROL_TEXT, is_blank, is_broadcast, is_control, is_ordinary, message_texts

__all__ = ["SlackObserver", "SlackSettings"]

WITHOUT_PUSHES: Final = 5.0
"""Seconds after which a read is asked for while Socket Mode is down: within Slack's limit for four channels."""

_MOST_KNOWN: Final = 20_000
_MOST_PUSHED: Final = 10_000
_MOST_HEARD: Final = 100
_CONTROL_SERVES: Final = 300.0


@dataclass(frozen=True, slots=True)
class _Identity:
    team: str
    own: frozenset[str]


@dataclass(slots=True)
class _Harvest:
    """What the channels of one read have shown so far, and to whom."""

    me: _Identity
    messages: list[Message]
    anchors: dict[str, Anchor]
    readings: dict[str, Reading]
    controls: list[Control]
    seen: list[ControlSeen]
    blind: dict[str, Blindness]


class SlackObserver:
    """Reads channels through one Slack app; see :class:`prober.observers.Observer`."""

    def __init__(self, name: str, settings: SlackSettings, channels: tuple[Channel, ...], clock: Clock) -> None:
        self.name = name
        self.acts = Acts(clock)
        self.channels = tuple(channel.name for channel in channels)
        self.poll: float | None = settings.period
        at_once = min(len(channels), settings.limits.calls_at_once or len(channels))
        self.reads_per_minute: float | None = settings.limits.calls_per_minute / max(1, at_once)
        self.removals_per_minute: float | None = REMOVALS_PER_MINUTE
        # An app that may read once a minute has nothing to spare.
        self.looks_per_minute: float | None = LOOKS_PER_MINUTE if settings.tier == "internal" else 0.0
        self._at_once = at_once
        self._settings = settings
        self._by_address = {channel.address: channel for channel in channels}
        self._by_name = {channel.name: channel for channel in channels}
        self._clock = clock
        self._news = asyncio.Event()
        self._pushed: deque[Message] = deque()
        self._controls_seen: list[ControlSeen] = []
        self._record = PushRecord()
        self._looked_at: dict[str, Instant] = {}
        self._unproven: dict[str, tuple[str, Control]] = {}
        self._unread = False
        self._gaps = 0
        self._behind = set(self._by_address)
        self._heard: OrderedDict[str, ControlSeen] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], tuple[Instant, How]] = OrderedDict()
        self._identity: _Identity | None = None
        self._session: aiohttp.ClientSession | None = None
        self._web: WebApi | None = None
        self._reader: History | None = None
        self._socket: SocketMode | None = None
        self._listening: asyncio.Task[None] | None = None

    @property
    def push_trouble(self) -> str:
        """See :class:`prober.observers.Observer`."""
        if self._socket is None:
            return ""
        return self._socket.trouble or self._record.trouble(self._clock.now())

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._session = open_session()
        bot_token = settings.bot_token.get_secret_value()
        self._web = WebApi(bot_token, settings.api_url, self._session, self._clock)
        self._reader = History(self._web, settings.limits, self._clock)
        if settings.pushes and settings.app_token is not None:
            app = WebApi(settings.app_token.get_secret_value(), settings.api_url, self._session, self._clock)
            self._socket = SocketMode(app, self._session, self._clock, self._hear, self._miss)
            self._listening = asyncio.create_task(self._socket.run(), name=f"slack {self.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        self._session = self._web = self._reader = None

    # --- pushes ----------------------------------------------------------------------------------------------

    async def wait(self, until: Instant) -> Wake:
        """See :class:`prober.observers.Observer`; while Socket Mode is down it asks for a read now and then."""
        seconds = until.since(self._clock.now())
        blind = self._socket is not None and not self._socket.up and seconds > WITHOUT_PUSHES
        woken = await wait_for_any(self._clock, self._news, WITHOUT_PUSHES if blind else seconds)
        if self._listening is not None and self._listening.done():
            self._listening.result()
        self._news.clear()
        wake = Wake(tuple(self._pushed), self._unread or (blind and not woken), tuple(self._controls_seen))
        self._pushed.clear()
        self._controls_seen.clear()
        self._unread = False
        return wake

    def _hear(self, envelope: Mapping[str, Any], received: Instant) -> None:
        payload = envelope.get("payload")
        event = payload.get("event") if isinstance(payload, Mapping) else None
        if not isinstance(event, Mapping) or event.get("type") != "message":
            return
        channel = self._by_address.get(str(event.get("channel")))
        broadcast = is_broadcast(event)
        if channel is None or not (is_ordinary(event) or broadcast):
            return
        late, ts = bool(envelope.get("retry_attempt")), event.get("ts")
        how = How.HISTORY if late else How.PUSH  # a repeated event was in our hands late: an upper bound only
        if late:
            self._gaps += 1
            self._unread = True
            self._behind.add(channel.address)
        if is_ts(ts):
            self._record.pushed((channel.address, str(ts)))
        if is_blank(event) or not is_ts(ts) or len(self._pushed) >= _MOST_PUSHED:
            self._unread = True  # only the history tells whether its content is withheld
        elif event.get("text") != CONTROL_TEXT:
            self._pushed.append(self._message(channel, event, received, how))
        elif self._identity is not None and is_control(event, self._identity.own):
            seen = ControlSeen(channel.name, str(ts), received, how)
            self._controls_seen.append(seen)
            self._heard[seen.id] = seen
            if len(self._heard) > _MOST_HEARD:
                self._heard.popitem(last=False)
        self._news.set()

    def _miss(self) -> None:
        self._gaps += 1
        self._record.interrupted()
        self._unread = True
        self._behind |= self._by_address.keys()
        self._news.set()

    # --- reads -----------------------------------------------------------------------------------------------

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        """See :class:`prober.observers.Observer`. A lost anchor, or another workspace, begins anew."""
        gaps = self._gaps
        known = load_anchors(cursor)
        try:
            me = await self._who_am_i()
            batch = await self._read_channels(known, me, since)
        except Unreadable:
            self._behind |= self._by_address.keys()
            self._identity = None
            raise
        self._behind |= {self._by_name[name].address for name in batch.blind}
        if self._gaps == gaps:
            self._behind -= {self._by_name[name].address for name in batch.readings}
        return batch

    async def _read_channels(self, known: Mapping[str, Anchor], me: _Identity, since: Instant | None) -> Batch:
        """As many channels as the limits allow, the longest unread first; one that cannot be read keeps its anchor.

        Raises Unreadable when none can.
        """
        kept = {address: anchor for address, anchor in known.items() if anchor.team == me.team}
        harvest = _Harvest(me, [], dict(kept), {}, [], [], {})
        never = self._clock.now().plus(-1e9)
        due = sorted(self._by_address.values(), key=lambda each: self._looked_at.get(each.address, never).boottime)
        for channel in due[: self._at_once]:
            self._looked_at[channel.address] = begun = self._clock.now()
            try:
                await self._read_channel(channel, kept.get(channel.address), since, harvest)
            except Unreadable as error:
                if len(harvest.blind) + 1 == len(self._by_address):
                    raise
                harvest.blind[channel.name] = Blindness(error.reason, error.detail, begun)
                if error.reason == "protocol" and channel.address in kept:  # perhaps Slack forgot where we had come to
                    harvest.anchors[channel.address] = replace(kept[channel.address], pending=None)
        return Batch(
            tuple(harvest.messages),
            save_anchors(harvest.anchors),
            harvest.readings,
            tuple(harvest.controls),
            harvest.blind,
            tuple(harvest.seen),
        )

    async def remove(self, channel: str, message_ids: Sequence[str]) -> Mapping[str, Removal]:
        """See :class:`prober.observers.Removing`."""
        return await self._removal().remove(channel, message_ids)

    async def lying(self, position: str, before: Instant) -> Lying:
        """See :class:`prober.observers.Removing`."""
        return await self._removal().lying(position, before, (await self._who_am_i()).own)

    def rests_on(self, cursor: str | None, channel: str, message_id: str) -> bool:
        """See :class:`prober.observers.Removing`."""
        return rests_on(cursor, self._by_name[channel].address, message_id)

    def _removal(self) -> SlackRemoval:
        apis, deleter, session = [self._api], self._settings.delete_token, self._session
        if deleter is not None and session is not None:
            apis.insert(0, WebApi(deleter.get_secret_value(), self._settings.api_url, session, self._clock))
        return SlackRemoval(self._api, apis, tuple(self._by_name.values()), self._clock)

    async def control(self, channel: str) -> Control:
        """Post a control message to the channel of this name. Raises Unreadable."""
        return (await self._post_control(self._by_name[channel]))[1]

    async def _who_am_i(self) -> _Identity:
        if self._identity is None:
            answer = await self._api.call("auth.test")
            own = frozenset(str(answer[key]) for key in ("bot_id", "user_id") if answer.get(key))
            self._identity = _Identity(str(answer.get("team_id", "")), own)
        return self._identity

    async def _read_channel(
        self, channel: Channel, anchor: Anchor | None, since: Instant | None, harvest: _Harvest
    ) -> None:
        """What one channel shows since its anchor; without one, a control message becomes the anchor."""
        if anchor is not None:
            look = await self._history.look(channel, anchor)
            if look.pending is not None or anchor.ts in look.shown:
                self._take(channel, look, anchor, harvest)
                return
            harvest.messages += self._messages(channel, look.shown, anchor.ts, harvest.me)
            if self._settings.limits.calls_at_once is not None:  # no call is left: the next read begins anew
                harvest.anchors.pop(channel.address)
                return
        ts, control = await self._control_to_prove(channel)
        fresh = Anchor(harvest.me.team, ts)
        begin = fresh if since is None else replace(fresh, ts=min(ts, ts_of(since.wall), key=float))
        for pause in self._settings.limits.looks:
            await self._clock.sleep(pause)
            # What came before the control message is not looked for completely, so coverage begins after it.
            look = replace(await self._history.look(channel, begin), pending=None)
            if ts in look.shown:
                self._unproven.pop(channel.address, None)
                harvest.controls.append(control)
                shown = ControlSeen(channel.name, ts, look.shown[ts].seen, How.POLL)
                harvest.seen.append(self._heard.get(ts, shown))
                self._take(channel, look, fresh, harvest, begins=True)
                return
        raise Unreadable("protocol", f"{channel.name}: the history does not show a message that Slack accepted")

    def _take(self, channel: Channel, look: Look, anchor: Anchor, harvest: _Harvest, *, begins: bool = False) -> None:
        """Take what a look showed; only one that is complete is a reading. ``begins``: a new ``since``."""
        me = harvest.me
        harvest.messages += self._messages(channel, look.shown, anchor.ts, me)
        own = [ts for ts in sorted(look.shown, key=float) if is_control(look.shown[ts].raw, me.own) and ts != anchor.ts]
        how = self._how(channel)
        harvest.seen += [ControlSeen(channel.name, ts, look.shown[ts].seen, how) for ts in own]
        if look.pending is None:
            harvest.readings[channel.name] = Reading(look.begun, self._clock.now(), continues=not begins)
            harvest.anchors[channel.address] = Anchor(me.team, look.newest)
        else:
            harvest.anchors[channel.address] = replace(anchor, pending=look.pending)
            self._unread = True
            self._news.set()

    def _how(self, channel: Channel) -> How:
        return How.HISTORY if channel.address in self._behind else How.POLL

    async def _control_to_prove(self, channel: Channel) -> tuple[str, Control]:
        """A control message whose showing proves sight: for a while the one that was posted and never shown."""
        posted = self._unproven.get(channel.address)
        if posted is None or self._clock.now().since(posted[1].answered) > _CONTROL_SERVES:
            with self.acts.asking("control", channel.name, "") as answer:
                posted = self._unproven[channel.address] = await self._post_control(channel)
                answer.append(f"posted {posted[0]}")
        return posted

    async def _post_control(self, channel: Channel) -> tuple[str, Control]:
        sent = self._clock.now()
        answer = await self._api.call(
            "chat.postMessage", about=channel.name, channel=channel.address, text=CONTROL_TEXT, unfurl_links=False
        )
        answered = self._clock.now()
        ts = answer.get("ts")
        if not isinstance(ts, str) or not is_ts(ts):
            raise Unreadable("protocol", f"{channel.name}: chat.postMessage answered without a ts; check api_url")
        return ts, Control(channel.name, sent, answered, stamp_of(ts), ts, self._heard.get(ts))

    def _messages(self, channel: Channel, shown: Mapping[str, Shown], anchor: str, me: _Identity) -> Sequence[Message]:
        """What people said on the channel after the anchor. Raises Unreadable where Slack withholds it."""
        found, how = [], self._how(channel)
        for ts in sorted(shown, key=float):
            raw = shown[ts].raw
            broadcast = is_broadcast(raw)
            if ts == anchor or not (is_ordinary(raw) or broadcast) or is_control(raw, me.own):
                continue
            if is_blank(raw) and not broadcast:
                raise Unreadable("missing_scope", f"{channel.name}: Slack shows a message without its content")
            if how is How.POLL and self._socket is not None and self._socket.up:
                self._record.shown((channel.address, ts), shown[ts].seen)
            found.append(self._message(channel, raw, shown[ts].seen, how))
        return found

    def _message(self, channel: Channel, raw: Mapping[str, Any], seen: Instant, how: How) -> Message:
        ts = str(raw["ts"])
        seen, how = self._known.setdefault((channel.address, ts), (seen, how))
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return Message(
            channel=channel.name,
            id=ts,
            fingerprint=ts,
            texts=message_texts(raw),
            sender=str(raw.get("bot_id") or raw.get("user") or ""),
            recipients=(),
            seen=seen,
            how=how,
            stamp=stamp_of(ts),
            broadcast=is_broadcast(raw),
        )

    @property
    def _api(self) -> WebApi:
        if self._web is None:
            raise RuntimeError("a SlackObserver must be entered before it is used")
        return self._web

    @property
    def _history(self) -> History:
        if self._reader is None:
            raise RuntimeError("a SlackObserver must be entered before it is used")
        return self._reader
