"""Slack's history read completely from an anchor: page by page, over several reads where the limits forbid more."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from prober.clock import Clock, Instant
from prober.errors import Unreadable
from prober.model import Channel, Stamp
from prober.observers.slack_connection import RateLimited, WebApi
from prober.observers.slack_settings import Tier

_MOST_PAGES: Final = 500
_TS: Final = re.compile(r"\d{1,12}\.\d{6}")


@dataclass(frozen=True, slots=True)
class Pending:
    """A look whose older pages are still to be read: from where on, the newest message, and when it was begun."""

    position: str
    newest: str
    begun: Instant


@dataclass(frozen=True, slots=True)
class Anchor:
    """How far a channel has been read: up to the message ``ts``, which every complete look must show again."""

    team: str
    ts: str
    pending: Pending | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as the history showed it, and when the page was in our hands."""

    raw: Mapping[str, Any]
    seen: Instant


@dataclass(frozen=True, slots=True)
class Look:
    """What one look showed by ts; ``begun`` is its watermark, ``newest`` its last message. It is complete unless
    ``pending``."""

    shown: Mapping[str, Shown]
    begun: Instant
    newest: str
    pending: Pending | None


class History:
    """``conversations.history`` of one app, within the calls that one read may make.

    Messages come newest first, so an unfinished look has shown the newest ones.
    """

    def __init__(self, api: WebApi, tier: Tier, clock: Clock) -> None:
        self._api = api
        self._tier = tier
        self._clock = clock

    async def look(self, channel: Channel, anchor: Anchor) -> Look:
        """Everything from the anchor on, or as much of it as may be asked for now. Raises Unreadable."""
        shown: dict[str, Shown] = {}
        begun = anchor.pending.begun if anchor.pending else self._clock.now()
        position = anchor.pending.position if anchor.pending else None
        newest = anchor.pending.newest if anchor.pending else anchor.ts
        for _ in range(min(_MOST_PAGES, self._tier.calls_at_once or _MOST_PAGES)):
            try:
                answer = await self._page(channel, anchor.ts, position)
            except RateLimited:
                if position is None or not shown:
                    raise
                break
            seen = self._clock.now()
            for raw in _messages(answer, channel):
                shown.setdefault(raw["ts"], Shown(raw, seen))
            newest = max((newest, *shown), key=float)
            if not answer.get("has_more"):
                return Look(shown, begun, newest, None)
            following = (answer.get("response_metadata") or {}).get("next_cursor")
            if not following or following == position:
                raise _endless(channel)
            position = str(following)
        else:
            if self._tier.calls_at_once is None:
                raise _endless(channel)
        assert position is not None  # noqa: S101 - at least one page was read, and it was not the last
        return Look(shown, begun, newest, Pending(position, newest, begun))

    async def _page(self, channel: Channel, oldest: str, position: str | None) -> Mapping[str, Any]:
        return await self._api.call(
            "conversations.history",
            about=channel.name,
            channel=channel.address,
            oldest=oldest,
            inclusive=True,
            include_all_metadata=True,
            limit=self._tier.page,
            cursor=position,
        )


def _endless(channel: Channel) -> Unreadable:
    return Unreadable("protocol", f"{channel.name}: conversations.history could not be read to its end")


def _messages(answer: Mapping[str, Any], channel: Channel) -> Sequence[Mapping[str, Any]]:
    messages = answer.get("messages")
    if isinstance(messages, list) and all(isinstance(raw, dict) and is_ts(raw.get("ts")) for raw in messages):
        return messages
    raise Unreadable("protocol", f"{channel.name}: conversations.history answered without messages; check api_url")


def is_ts(value: Any) -> bool:
    """Whether it is a message's id as Slack writes them."""
    return isinstance(value, str) and _TS.fullmatch(value) is not None


def stamp_of(ts: str) -> Stamp:
    """When Slack's own clock made the id, to the second: the digits behind it are no clock."""
    return Stamp(float(int(ts.partition(".")[0])), 1.0, "slack")


def ts_of(wall: float) -> str:
    """The id that a message of that time would have."""
    return f"{max(0.0, wall):.6f}"


def load_anchors(cursor: str | None) -> dict[str, Anchor]:
    """A cursor's anchors by channel id; a cursor that cannot be understood is a lost one."""
    try:
        return {address: _anchor(entry) for address, entry in json.loads(cursor or "{}").items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _anchor(entry: Mapping[str, Any]) -> Anchor:
    anchor, pending = Anchor(str(entry["team"]), str(entry["anchor"])), entry.get("pending")
    if pending is None:
        return anchor
    wall, boottime, boot_id = pending["begun"]
    begun = Instant(float(wall), float(boottime), str(boot_id))
    return replace(anchor, pending=Pending(str(pending["position"]), str(pending["newest"]), begun))


def save_anchors(anchors: Mapping[str, Anchor]) -> str:
    """The anchors as a cursor."""
    return json.dumps({address: _entry(anchor) for address, anchor in anchors.items()})


def _entry(anchor: Anchor) -> dict[str, Any]:
    entry: dict[str, Any] = {"team": anchor.team, "anchor": anchor.ts}
    if anchor.pending is not None:
        pending = asdict(anchor.pending)
        entry["pending"] = {**pending, "begun": list(pending["begun"].values())}
    return entry
