"""The Publishing Module's channels and subscribers: listed, made and found."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from prober.errors import Unanswered
from prober.model import ChannelKind
from prober.safety import Inventory, TargetChannel, TargetSubscriber
from prober.targets.http_client import Reply
from prober.targets.problems import parse_json
from prober.targets.publishing_answers import document_of
from prober.targets.replies import failure, uuid_in

MOST_LISTED = 5000
"""Entries of one list that are read; a longer one counts as one that cannot be listed."""

_PAGE = 100
_NOT_OFFERED = frozenset({403, 404, 405, 501})
"""Statuses by which the module says that it lists nothing, or nothing to us."""

_SPECIAL = frozenset({"test", "invalid", "local", "localhost"})
"""Last labels of a domain that the module takes for special-use (RFC 6761, 6762)."""


class Ask(Protocol):
    """One call below the module's prefix, of whatever status. Raises Unanswered, Unreachable or OwnFault."""

    async def __call__(self, method: str, path: str, payload: Mapping[str, Any] | None = None) -> Reply: ...


async def read_inventory(ask: Ask) -> Inventory:
    """What the module lists. Raises Refused, Unanswered, Unreachable or OwnFault."""
    channels = await _listed(ask, "channels")
    if isinstance(channels, str):
        return Inventory(why=channels)
    subscribers = await _listed(ask, "subscribers")
    told = tuple(channel for channel in map(_channel, channels) if channel is not None)
    if isinstance(subscribers, str):
        return Inventory(told, why=subscribers)
    return Inventory(told, tuple(one for one in map(_subscriber, subscribers) if one is not None))


async def make_channel(ask: Ask, name: str, kind: ChannelKind, place: str) -> TargetChannel | None:
    """A new channel; None when the name is taken (409). Raises as :func:`read_inventory`."""
    configuration = {"channel_id": place} if place else {}
    payload = {"name": name, "channel_type": kind.value, "configuration": configuration, "is_active": True}
    reply = await ask("POST", "/channels", payload)
    if reply.status == 409:
        return None
    made = _channel(document_of(reply))
    if made is None:
        raise Unanswered("the answer lacks the channel's id", status=reply.status)
    return made


async def make_subscriber(ask: Ask, address: str, channel: str) -> TargetSubscriber | None:
    """A new subscriber; None when the address is taken (409). Raises as :func:`read_inventory`."""
    reply = await ask("POST", "/subscribers", {"email": address, "preferred_channels": [channel]})
    if reply.status == 409:
        return None
    made = _subscriber(document_of(reply))
    if made is None:
        raise Unanswered("the answer lacks the subscriber's id", status=reply.status)
    return made


async def subscribe(ask: Ask, subscriber: TargetSubscriber, channel: str) -> None:
    """Add a channel to those of a subscriber. Raises as :func:`read_inventory`."""
    payload = {"preferred_channels": sorted({*subscriber.channels, channel})}
    reply = await ask("PUT", f"/subscribers/{subscriber.id}", payload)
    if not 200 <= reply.status < 300:
        raise failure(reply)


def refused_address(address: str) -> str:
    """Why the module answers 422 to a mail address, in a few words; empty for one that it may take."""
    domain = address.rpartition("@")[2].lower()
    labels = domain.split(".")
    try:
        ipaddress.ip_address(domain.strip("[]").removeprefix("ipv6:"))
    except ValueError:
        if labels[-1] in _SPECIAL:
            return f"the publishing module refuses addresses in .{labels[-1]}"
        return "" if len(labels) > 1 and all(labels) else "the publishing module wants a domain with a dot"
    return "the publishing module refuses addresses at an IP address"


async def _listed(ask: Ask, what: str) -> list[Mapping[str, Any]] | str:
    """Every entry of a list, however it is paged; a few words where the module does not list it."""
    found: dict[str, Mapping[str, Any]] = {}
    while True:
        reply = await ask("GET", f"/{what}?limit={_PAGE}&offset={len(found)}")
        if reply.status in _NOT_OFFERED:
            return f"GET /{what} answered {reply.status}"
        if reply.status == 401:
            raise failure(reply)
        if reply.cut:
            return f"GET /{what} answered more than can be read"
        page, total = _page(reply, what)
        before = len(found)
        found |= {str(entry["id"]).lower(): entry for entry in page}
        grown = len(found) > before
        if len(found) > MOST_LISTED:
            return f"GET /{what} lists more than {MOST_LISTED}"
        # A module that knows no pages answers the same again: then nothing is new, and that was all.
        if not grown or (total is not None and len(found) >= total) or (total is None and len(page) < _PAGE):
            if total is not None and len(found) < total:
                return f"GET /{what} says {total} and lists {len(found)}"
            return list(found.values())


def _page(reply: Reply, what: str) -> tuple[list[Mapping[str, Any]], int | None]:
    """The entries of one answer, and how many it says there are: a bare list, or one in an object beside a count."""
    document_of(reply)  # raises what an answer without success means
    document = parse_json(reply.body)
    data = document.get("data", document) if isinstance(document, dict) else document
    total = data.get("total_count") if isinstance(data, dict) else None
    entries = data.get(what) if isinstance(data, dict) else data
    if not isinstance(entries, list) or not all(isinstance(one, dict) and one.get("id") for one in entries):
        raise Unanswered(f"GET /{what} answered no list", status=reply.status, answered_at=reply.answered_at)
    return entries, total if isinstance(total, int) and not isinstance(total, bool) else None


def _channel(data: Mapping[str, Any]) -> TargetChannel | None:
    identity, configuration = uuid_in(data.get("id")), data.get("configuration")
    if not identity:
        return None
    place = configuration.get("channel_id") if isinstance(configuration, dict) else None
    return TargetChannel(
        id=identity,
        name=str(data.get("name") or ""),
        kind=str(data.get("channel_type") or "").lower(),
        active=data.get("is_active") is not False,
        place=place if isinstance(place, str) else "",
    )


def _subscriber(data: Mapping[str, Any]) -> TargetSubscriber | None:
    identity = str(data.get("id") or "")
    if not identity:
        return None
    return TargetSubscriber(
        id=identity,
        email=str(data.get("email") or ""),
        channels=frozenset(_ids(data.get("preferred_channels"))),
        status=str(data.get("status") or "active").lower(),
    )


def _ids(value: object) -> Iterator[str]:
    for one in value if isinstance(value, list) else ():
        if isinstance(one, str) and uuid_in(one):
            yield uuid_in(one)
