"""Observer of Slack: pushes by Socket Mode, complete reads by ``conversations.history`` from an anchor."""

from __future__ import annotations

import asyncio
import json
import re
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Annotated, Any, Final, Literal, Self

import aiohttp
from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, model_validator

from prober.clock import Clock, Instant, wait_for_any
from prober.durations import parse_duration
from prober.errors import Unreadable
from prober.model import Batch, Blindness, Channel, Control, How, Message, Reading, Stamp, Wake
from prober.observers.slack_connection import SocketMode, WebApi, open_session
from prober.observers.slack_text import CONTROL_TEXT, is_blank, is_control, is_ordinary, message_texts

WITHOUT_PUSHES: Final = 5.0
"""Seconds after which a read is asked for while Socket Mode is down: within Slack's limit for four channels."""

HISTORY_PER_MINUTE: Final = 45.0
"""Calls of conversations.history that we allow ourselves: tier 3 is 50 a minute and more, per app and workspace
(docs.slack.dev, apis/web-api/rate-limits)."""

_PAGE: Final = 200
_MOST_PAGES: Final = 500
_MOST_KNOWN: Final = 20_000
_MOST_PUSHED: Final = 10_000
_CONTROL_SHOWN_WITHIN: Final = (0.0, 0.1, 0.4, 1.5)
_TS: Final = re.compile(r"\d{1,12}\.\d{6}")


def _seconds(value: Any) -> Any:
    return value if value is None else parse_duration(value)


class SlackSettings(BaseModel):
    """One Slack app of the prober's own. ``poll`` in seconds; without pushes it must be given."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    bot_token: SecretStr
    app_token: SecretStr | None = None
    mode: Literal["socket", "web"] = "socket"
    api_url: str = "https://slack.com/api/"
    poll: Annotated[float | None, BeforeValidator(_seconds)] = None

    @property
    def pushes(self) -> bool:
        return self.mode == "socket" and self.app_token is not None

    @model_validator(mode="after")
    def _reads_somehow(self) -> Self:
        if not self.pushes and not self.poll:
            raise ValueError("without Socket Mode nothing is pushed: give app_token, or poll such as 5s")
        return self


@dataclass(frozen=True, slots=True)
class _Anchor:
    team: str
    ts: str


@dataclass(frozen=True, slots=True)
class _Identity:
    team: str
    own: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Shown:
    """A message as the history showed it, and when the page was in our hands."""

    raw: Mapping[str, Any]
    seen: Instant


class SlackObserver:
    """Reads channels through one Slack app; see :class:`prober.observers.Observer`."""

    def __init__(self, name: str, settings: SlackSettings, channels: tuple[Channel, ...], clock: Clock) -> None:
        self.name = name
        self.channels = tuple(channel.name for channel in channels)
        self.poll: float | None = settings.poll
        self.reads_per_minute: float | None = HISTORY_PER_MINUTE / max(1, len(channels))
        self._settings = settings
        self._by_address = {channel.address: channel for channel in channels}
        self._by_name = {channel.name: channel for channel in channels}
        self._clock = clock
        self._news = asyncio.Event()
        self._pushed: deque[Message] = deque()
        self._unread = False
        self._gaps = 0
        self._behind = True
        self._known: OrderedDict[tuple[str, str], tuple[Instant, How]] = OrderedDict()
        self._identity: _Identity | None = None
        self._session: aiohttp.ClientSession | None = None
        self._web: WebApi | None = None
        self._socket: SocketMode | None = None
        self._listening: asyncio.Task[None] | None = None

    @property
    def push_trouble(self) -> str:
        """Why pushes do not flow as they should, in a sentence; '' when they do or are not wanted."""
        return self._socket.trouble if self._socket is not None else ""

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._session = open_session()
        bot_token = settings.bot_token.get_secret_value()
        self._web = WebApi(bot_token, settings.api_url, self._session, self._clock)
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
        self._session = self._web = None

    # --- pushes ----------------------------------------------------------------------------------------------

    async def wait(self, until: Instant) -> Wake:
        """See :class:`prober.observers.Observer`; while Socket Mode is down it asks for a read now and then."""
        seconds = until.since(self._clock.now())
        blind = self._socket is not None and not self._socket.up and seconds > WITHOUT_PUSHES
        woken = await wait_for_any(self._clock, self._news, WITHOUT_PUSHES if blind else seconds)
        if self._listening is not None and self._listening.done():
            self._listening.result()
        self._news.clear()
        wake = Wake(tuple(self._pushed), self._unread or (blind and not woken))
        self._pushed.clear()
        self._unread = False
        return wake

    def _hear(self, envelope: Mapping[str, Any], received: Instant) -> None:
        payload = envelope.get("payload")
        event = payload.get("event") if isinstance(payload, Mapping) else None
        if not isinstance(event, Mapping) or event.get("type") != "message" or not is_ordinary(event):
            return
        channel = self._by_address.get(str(event.get("channel")))
        if channel is None or (self._identity is not None and is_control(event, self._identity.own)):
            return
        late = bool(envelope.get("retry_attempt"))
        if late or is_blank(event) or not _is_ts(event.get("ts")) or len(self._pushed) >= _MOST_PUSHED:
            # Only the history tells when it can have become visible, or whether its content is withheld.
            self._gaps += late
            self._behind = self._behind or late
            self._unread = True
        elif event.get("text") != CONTROL_TEXT:
            self._pushed.append(self._message(channel, event, received, How.PUSH))
        self._news.set()

    def _miss(self) -> None:
        self._gaps += 1
        self._behind = self._unread = True
        self._news.set()

    # --- reads -----------------------------------------------------------------------------------------------

    async def read(self, cursor: str | None) -> Batch:
        """See :class:`prober.observers.Observer`. A lost anchor, or another workspace, begins anew."""
        how, gaps = (How.HISTORY if self._behind else How.POLL), self._gaps
        known = _anchors(cursor)
        try:
            me = await self._who_am_i()
            batch = await self._read_channels(known, me, how)
        except Unreadable:
            self._behind = True
            self._identity = None
            raise
        self._behind = self._gaps != gaps or bool(batch.blind)
        return batch

    async def _read_channels(self, known: Mapping[str, _Anchor], me: _Identity, how: How) -> Batch:
        """All channels; one that cannot be read keeps its anchor. Raises Unreadable when none can."""
        messages: list[Message] = []
        anchors: dict[str, _Anchor] = {}
        readings: dict[str, Reading] = {}
        controls: list[Control] = []
        blind: dict[str, Blindness] = {}
        for channel in self._by_address.values():
            anchor = known.get(channel.address)
            anchor = anchor if anchor is not None and anchor.team == me.team else None
            begun = self._clock.now()
            try:
                reading, shown, control = await self._read_channel(channel, anchor)
                sighted = self._sightings(channel, shown, anchor, me, how)
            except Unreadable as error:
                if len(blind) + 1 == len(self._by_address):
                    raise
                blind[channel.name] = Blindness(error.reason, error.detail, begun)
                anchors |= {} if anchor is None else {channel.address: anchor}
                continue
            readings[channel.name] = reading
            controls += [control] if control is not None else []
            anchors[channel.address] = _Anchor(me.team, max(shown, key=float))
            messages += sighted
        return Batch(tuple(messages), _cursor(anchors), readings, tuple(controls), blind)

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
        self, channel: Channel, anchor: _Anchor | None
    ) -> tuple[Reading, dict[str, _Shown], Control | None]:
        """What one channel shows since its anchor; without one, a control message becomes the anchor."""
        shown: dict[str, _Shown] = {}
        if anchor is not None:
            started = self._clock.now()
            shown = await self._history(channel, anchor.ts)
            if anchor.ts in shown:
                return Reading(started, self._clock.now(), continues=True), shown, None
        ts, control = await self._post_control(channel)
        for pause in _CONTROL_SHOWN_WITHIN:
            await self._clock.sleep(pause)
            # What came before the control message is not looked for, so coverage begins after it.
            started = self._clock.now()
            fresh = await self._history(channel, ts)
            if ts in fresh:
                return Reading(started, self._clock.now(), continues=False), shown | fresh, control
        raise Unreadable("protocol", f"{channel.name}: the history does not show a message that Slack accepted")

    async def _post_control(self, channel: Channel) -> tuple[str, Control]:
        sent = self._clock.now()
        answer = await self._api.call(
            "chat.postMessage", about=channel.name, channel=channel.address, text=CONTROL_TEXT, unfurl_links=False
        )
        answered = self._clock.now()
        ts = answer.get("ts")
        if not isinstance(ts, str) or not _is_ts(ts):
            raise Unreadable("protocol", f"{channel.name}: chat.postMessage answered without a ts; check api_url")
        return ts, Control(channel.name, sent, answered, _stamp(ts))

    async def _history(self, channel: Channel, oldest: str) -> dict[str, _Shown]:
        """Every message from ``oldest`` on, by ts; complete, or Unreadable."""
        shown: dict[str, _Shown] = {}
        position: str | None = None
        for _ in range(_MOST_PAGES):
            answer = await self._api.call(
                "conversations.history",
                about=channel.name,
                channel=channel.address,
                oldest=oldest,
                inclusive=True,
                include_all_metadata=True,
                limit=_PAGE,
                cursor=position,
            )
            seen = self._clock.now()
            for raw in _page(answer, channel):
                shown.setdefault(raw["ts"], _Shown(raw, seen))
            if not answer.get("has_more"):
                return shown
            following = (answer.get("response_metadata") or {}).get("next_cursor")
            if not following or following == position:
                break
            position = following
        raise Unreadable("protocol", f"{channel.name}: conversations.history could not be read to its end")

    def _sightings(
        self, channel: Channel, shown: Mapping[str, _Shown], anchor: _Anchor | None, me: _Identity, how: How
    ) -> list[Message]:
        found = []
        for ts in sorted(shown, key=float):
            raw = shown[ts].raw
            if (anchor is not None and ts == anchor.ts) or not is_ordinary(raw) or is_control(raw, me.own):
                continue
            if is_blank(raw):
                raise Unreadable("missing_scope", f"{channel.name}: Slack shows a message without its content")
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
            stamp=_stamp(ts),
        )

    @property
    def _api(self) -> WebApi:
        if self._web is None:
            raise RuntimeError("a SlackObserver must be entered before it is used")
        return self._web


def _page(answer: Mapping[str, Any], channel: Channel) -> Sequence[Mapping[str, Any]]:
    messages = answer.get("messages")
    if isinstance(messages, list) and all(isinstance(raw, dict) and _is_ts(raw.get("ts")) for raw in messages):
        return messages
    raise Unreadable("protocol", f"{channel.name}: conversations.history answered without messages; check api_url")


def _is_ts(value: Any) -> bool:
    return isinstance(value, str) and _TS.fullmatch(value) is not None


def _stamp(ts: str) -> Stamp:
    return Stamp(float(int(ts.partition(".")[0])), 1.0, "slack")


def _anchors(cursor: str | None) -> dict[str, _Anchor]:
    """A cursor's anchors by channel id; a cursor that cannot be understood is a lost one."""
    try:
        read = json.loads(cursor or "{}")
        return {address: _Anchor(str(entry["team"]), str(entry["anchor"])) for address, entry in read.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _cursor(anchors: Mapping[str, _Anchor]) -> str:
    return json.dumps({address: {"team": anchor.team, "anchor": anchor.ts} for address, anchor in anchors.items()})
