"""What the target says about its channels and subscribers -> is it safe, and fit, to publish there? Pure.

Nothing is published to a target channel that is not known to be a probe's: by its name, by the place that it feeds,
and by who is subscribed to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from prober.findings import Finding, State, ok, unknown, warning, wrong
from prober.model import Channel, ChannelKind


@dataclass(frozen=True, slots=True)
class TargetChannel:
    """One of the target's channel objects; ``place`` is the provider's id that it posts to, empty where untold."""

    id: str
    name: str
    kind: str
    active: bool = True
    place: str = ""


@dataclass(frozen=True, slots=True)
class TargetSubscriber:
    """Who gets the mail of the target channels in ``channels``; the address is personal and is never shown."""

    id: str
    email: str = field(repr=False)
    channels: frozenset[str] = frozenset()
    status: str = "active"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the target has. None: it does not list them, and ``why`` says so in a few words."""

    channels: tuple[TargetChannel, ...] | None = None
    subscribers: tuple[TargetSubscriber, ...] | None = None
    why: str = "this target does not list them"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be published to: the allowed target channel ids, the beginning of their names, our channels.

    ``by_subscription`` says that mail reaches our addresses because they are subscribed.
    """

    allowed: tuple[str, ...]
    prefix: str
    channels: tuple[Channel, ...]
    by_subscription: bool = True

    def fed_by(self, target_channel: str) -> list[Channel]:
        return [channel for channel in self.channels if channel.target_channel.lower() == target_channel]

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id that could be published to, each once, in lower case."""
        fed = (channel.target_channel.lower() for channel in self.channels if channel.target_channel)
        return tuple(dict.fromkeys([*(each.lower() for each in self.allowed), *fed]))

    @property
    def addresses(self) -> frozenset[str]:
        return frozenset(fold_address(one.address) for one in self.channels if one.kind is ChannelKind.EMAIL)


def breaches(bounds: Bounds, inventory: Inventory) -> tuple[Finding, ...]:
    """Why it is not safe to publish; empty where it is, as far as the target tells."""
    found = list(_channel_breaches(bounds, inventory.channels or ()))
    if inventory.channels is not None:
        known = {channel.id for channel in inventory.channels}
        missing = [each for each in bounds.ids if each not in known]
        found += [_missing(each, bounds) for each in missing]
    strangers = _strangers(bounds, inventory.subscribers or ())
    if active := [one for one in strangers if one.status == "active"]:
        who = "subscriber is" if len(active) == 1 else "subscribers are"
        sentence = f"{len(active)} {who} not ours, e.g. {active[0].id}: real people would get the probes"
        mend = "take them off the test channels, or give the prober channels of its own (prober provision)"
        found.append(wrong("subscribers", sentence, mend))
    return tuple(found)


def unverified(inventory: Inventory) -> str:
    """What could not be verified, in a sentence; empty where all was."""
    lacking = [
        name
        for name, listed in (("channels", inventory.channels), ("subscribers", inventory.subscribers))
        if listed is None
    ]
    return f"{' and '.join(lacking)} unverified: {inventory.why}" if lacking else ""


def examine_safety(bounds: Bounds, inventory: Inventory) -> tuple[Finding, ...]:
    """Everything that ``check`` says about the allow-list: what is unsafe, what is unfit, and what is fine."""
    found = [*breaches(bounds, inventory), *_unfit(bounds, inventory)]
    if not bounds.ids:
        found.append(wrong("allow-list", "target.channels is empty: nothing can be published", "run prober provision"))
    found += _unfed(bounds)
    if inventory.channels is not None and bounds.ids and not any(one.subject == "allow-list" for one in found):
        count = f"{len(bounds.ids)} target channel{'s' if len(bounds.ids) > 1 else ''}"
        found.insert(0, ok("allow-list", f"{count}, there, active, named {bounds.prefix}…, each of the right kind"))
    if inventory.subscribers is not None and not any(
        one.subject == "subscribers" and one.state is State.WRONG for one in found
    ):
        ours = sum(bool(one.channels & set(bounds.ids)) for one in inventory.subscribers)
        found.append(ok("subscribers", f"{ours} on these channels, all with addresses of ours"))
    if lacking := unverified(inventory):
        found.append(unknown("allow-list", lacking))
    return tuple(found)


def fold_address(address: str) -> str:
    """A mail address without its plus-tag, for comparing."""
    local, at, domain = address.strip().rpartition("@")
    return f"{local.partition('+')[0]}{at}{domain}".lower()


def _channel_breaches(bounds: Bounds, listed: Sequence[TargetChannel]) -> Iterator[Finding]:
    ids = set(bounds.ids)
    for channel in listed:
        if channel.id not in ids:
            continue
        if not channel.name.startswith(bounds.prefix):
            sentence = f"target channel {channel.id} is named {_shown(channel.name)!r}, not {bounds.prefix}…"
            yield wrong("allow-list", sentence, "take it out of the configuration; make one with prober provision")
        for ours in bounds.fed_by(channel.id):
            if channel.kind and channel.kind != ours.kind:
                sentence = f"target channel {_shown(channel.name)} is of kind {_shown(channel.kind)}, but channel "
                sentence += f"{ours.name} is {ours.kind}"
                yield wrong("allow-list", sentence, f"correct channels.{ours.name}.target_channel")
        yield from _misplaced(bounds, channel)


def _misplaced(bounds: Bounds, channel: TargetChannel) -> Iterator[Finding]:
    """A target channel that posts elsewhere than where we look."""
    ours = [one for one in bounds.fed_by(channel.id) if one.kind == channel.kind and one.kind is not ChannelKind.EMAIL]
    if channel.place and ours and channel.place not in {one.address for one in ours}:
        sentence = f"target channel {_shown(channel.name)} posts to {_shown(channel.place)}, but channel "
        sentence += f"{ours[0].name} looks at {ours[0].address}"
        yield wrong("allow-list", sentence, "let both name the same test channel")


def _missing(target_channel: str, bounds: Bounds) -> Finding:
    used = [channel.name for channel in bounds.fed_by(target_channel)]
    by = f" (channel {', '.join(used)})" if used else ""
    mend = "correct target.channels and target_channel, or let prober provision make it"
    return wrong("allow-list", f"the target has no channel {target_channel}{by}", mend)


def _strangers(bounds: Bounds, subscribers: Sequence[TargetSubscriber]) -> list[TargetSubscriber]:
    ids = set(bounds.ids)
    return [one for one in subscribers if one.channels & ids and fold_address(one.email) not in bounds.addresses]


def _unfit(bounds: Bounds, inventory: Inventory) -> Iterator[Finding]:
    """What is safe, but will not work."""
    ids = set(bounds.ids)
    for channel in inventory.channels or ():
        if channel.id in ids and not channel.active:
            sentence = f"target channel {_shown(channel.name)} is not active"
            yield wrong("allow-list", sentence, "activate it in the target")
    if inventory.subscribers is None:
        return
    asleep = [one for one in _strangers(bounds, inventory.subscribers) if one.status != "active"]
    if asleep:
        sentence = f"{len(asleep)} not ours and not active now, e.g. {asleep[0].id}"
        yield warning("subscribers", sentence, "take them off the test channels before they come back")
    for ours in bounds.channels if bounds.by_subscription else ():
        if ours.kind is ChannelKind.EMAIL and ours.target_channel and not _subscribed(ours, inventory.subscribers):
            sentence = f"channel {ours.name} has no active subscriber on its target channel: no mail will come"
            yield wrong("subscribers", sentence, "run prober provision, or subscribe its address in the target")


def _subscribed(ours: Channel, subscribers: Collection[TargetSubscriber]) -> bool:
    address, target_channel = fold_address(ours.address), ours.target_channel.lower()
    return any(
        one.status == "active" and target_channel in one.channels and fold_address(one.email) == address
        for one in subscribers
    )


def _unfed(bounds: Bounds) -> Iterator[Finding]:
    unfed = [channel.name for channel in bounds.channels if not channel.target_channel]
    if unfed:
        sentence = f"no target_channel feeds {', '.join(unfed)}: nothing can be published there"
        yield warning("target channels", sentence, "run prober provision, which prints what is missing")


def _shown(text: str) -> str:
    """A word of the target's, bounded."""
    return text if len(text) <= 80 else text[:79] + "…"
