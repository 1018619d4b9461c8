"""``provision``: the test channels and subscribers that a configuration needs, found in the target or made there.

Idempotent: what is there is found. Nothing is touched whose name does not begin with the prefix.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import StrEnum

from prober.auditing import Audit
from prober.clock import SystemClock
from prober.errors import ConfigurationError, TargetError
from prober.model import Channel, ChannelKind
from prober.safety import Bounds, Inventory, TargetChannel, TargetSubscriber
from prober.targets import Furnishing


class Act(StrEnum):
    """What was done about an object of the target."""

    FOUND = "found"
    MADE = "made"
    WOULD_MAKE = "would make"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Provisioned:
    """One object: ``channel`` is the configured channel that it is for; ``sentence`` and ``mend`` of a refusal."""

    sort: str
    channel: str
    name: str
    act: Act
    id: str = ""
    sentence: str = ""
    mend: str = ""


def ensure_acceptable(target: Furnishing, channels: tuple[Channel, ...], source: str) -> None:
    """Raises ConfigurationError for an address that the target would refuse: nothing is asked then."""
    for channel in channels:
        if channel.kind is ChannelKind.EMAIL and (why := target.refuses(channel.address)):
            mend = "use an inbox of a real domain, such as something.example"
            raise ConfigurationError(why, mend, source, field=f"channels.{channel.name}.address")


async def provision(
    target: Furnishing, bounds: Bounds, *, dry_run: bool, audit: Audit | None = None
) -> tuple[Provisioned, ...]:
    """Find or make what every configured channel needs; what is made is put into ``audit`` first.

    Raises TargetError where nothing can be listed, LedgerError.
    """
    inventory = await target.inventory()
    work = _Work(target, bounds, inventory, audit or Audit(None, SystemClock(), "", ""), dry_run=dry_run)
    done: list[Provisioned] = []
    for channel in bounds.channels:
        async for one in work.provide(channel):
            done.append(one)
    return tuple(done)


def to_configure(bounds: Bounds, done: tuple[Provisioned, ...]) -> dict[str, object]:
    """What belongs into the configuration: the allow-list, and the target channel of each channel."""
    refused = {one.id for one in done if one.sort == "channel" and one.act is Act.REFUSED}
    fed = {one.channel: one.id for one in done if one.sort == "channel" and one.act in (Act.FOUND, Act.MADE)}
    allowed = [each.lower() for each in bounds.allowed if each.lower() not in refused]
    return {
        "target": {"channels": list(dict.fromkeys([*allowed, *fed.values()]))},
        "channels": {name: {"target_channel": identity} for name, identity in fed.items()},
    }


class _Work:
    """One provisioning: what the target has is kept up to date as objects are made."""

    def __init__(
        self, target: Furnishing, bounds: Bounds, inventory: Inventory, audit: Audit, *, dry_run: bool
    ) -> None:
        self._target = target
        self._audit = audit
        self._bounds = bounds
        self._dry = dry_run
        self._listed = inventory.channels is not None
        self._channels = {one.id: one for one in inventory.channels or ()}
        self._subscribers = None if inventory.subscribers is None else list(inventory.subscribers)
        self._why = inventory.why

    async def provide(self, channel: Channel) -> AsyncIterator[Provisioned]:
        """The target channel of one configured channel, then, for mail, its subscriber."""
        name = f"{self._bounds.prefix}{channel.name}"
        try:
            found = await self._target_channel(channel, name)
        except TargetError as error:
            found = Provisioned("channel", channel.name, name, Act.REFUSED, "", str(error), _mend(channel))
        yield found
        if channel.kind is not ChannelKind.EMAIL or found.act is Act.REFUSED or not self._bounds.by_subscription:
            return
        try:
            yield await self._subscriber(channel, found.id)
        except TargetError as error:
            sentence = str(error)
            yield Provisioned("subscriber", channel.name, channel.address, Act.REFUSED, "", sentence, _mend(channel))

    async def _target_channel(self, channel: Channel, name: str) -> Provisioned:
        if not self._listed:
            sentence = f"what is there cannot be found: {self._why}"
            return Provisioned(
                "channel", channel.name, name, Act.REFUSED, "", sentence, "make it in the target by hand"
            )
        there = self._channels.get(channel.target_channel.lower()) or self._named(name)
        if there is None and self._dry:
            return Provisioned("channel", channel.name, name, Act.WOULD_MAKE)
        act = Act.FOUND
        if there is None:
            place = "" if channel.kind is ChannelKind.EMAIL else channel.address
            async with self._audit.asking("make channel", "target", {name: ""}) as answers:
                there, act = await self._target.make_channel(name, channel.kind, place), Act.MADE
                answers[name] = f"made {there.id}" if there is not None else "the name is taken"
        if there is None:  # taken meanwhile, or the list was not whole
            self._channels = {one.id: one for one in (await self._target.inventory()).channels or ()}
            there, act = self._named(name), Act.FOUND
        if there is None:
            sentence = "the name is taken by a channel that the target does not list"
            return Provisioned("channel", channel.name, name, Act.REFUSED, "", sentence, "look for it in the target")
        self._channels[there.id] = there
        for sentence, mend in _unfit(channel, there, self._bounds.prefix):
            return Provisioned("channel", channel.name, there.name, Act.REFUSED, there.id, sentence, mend)
        return Provisioned("channel", channel.name, there.name, act, there.id)

    def _named(self, name: str) -> TargetChannel | None:
        return next((one for one in self._channels.values() if one.name == name), None)

    async def _subscriber(self, channel: Channel, target_channel: str) -> Provisioned:
        address = channel.address
        known = [one for one in self._subscribers or () if one.email.casefold() == address.casefold()]
        if known:
            return await self._known_subscriber(channel, known[0], target_channel)
        if self._dry:
            return Provisioned("subscriber", channel.name, address, Act.WOULD_MAKE)
        async with self._audit.asking("subscriber", "target", {address: ""}) as answers:
            made = await self._target.make_subscriber(address, target_channel)
            answers[address] = f"made {made.id}" if made is not None else "the address is taken"
        if made is None:
            sentence = "the address is taken by a subscriber that the target does not list"
            mend = "see in the target that it gets this channel, and only test channels"
            return Provisioned("subscriber", channel.name, address, Act.REFUSED, "", sentence, mend)
        if self._subscribers is not None:
            self._subscribers.append(made)
        return Provisioned("subscriber", channel.name, address, Act.MADE, made.id)

    async def _known_subscriber(self, channel: Channel, known: TargetSubscriber, target_channel: str) -> Provisioned:
        def ended(act: Act, sentence: str = "", mend: str = "") -> Provisioned:
            return Provisioned("subscriber", channel.name, channel.address, act, known.id, sentence, mend)

        if known.status != "active":
            return ended(Act.REFUSED, f"it is {known.status}", "activate it in the target")
        if target_channel and target_channel in known.channels:
            return ended(Act.FOUND)
        if not all(self._is_ours(each) for each in known.channels):
            sentence = "it also gets channels that are no probe's, so it is not touched"
            return ended(Act.REFUSED, sentence, "give the channel an inbox of its own")
        if self._dry:
            return ended(Act.WOULD_MAKE)
        change = f"{channel.address} to {target_channel}"
        async with self._audit.asking("subscribe", "target", {change: ""}) as answers:
            await self._target.subscribe(known, target_channel)
            answers[change] = "subscribed"
        changed = TargetSubscriber(known.id, known.email, known.channels | {target_channel}, known.status)
        self._subscribers = [changed if one.id == known.id else one for one in self._subscribers or ()]
        return ended(Act.MADE)

    def _is_ours(self, target_channel: str) -> bool:
        there = self._channels.get(target_channel)
        return there is not None and there.name.startswith(self._bounds.prefix)


def _unfit(channel: Channel, there: TargetChannel, prefix: str) -> Iterator[tuple[str, str]]:
    """Why an object that is there cannot serve a channel: sentence and mend, the worst first."""
    if not there.name.startswith(prefix):
        yield f"it is named so, not {prefix}…, and is not touched", f"take it out of channels.{channel.name}"
    if there.kind and there.kind != channel.kind:
        yield f"it is of kind {there.kind}, not {channel.kind}", "rename the channel, or mend the one in the target"
    if there.place and channel.kind is not ChannelKind.EMAIL and there.place != channel.address:
        yield f"it posts to {there.place}, not to {channel.address}", "let both name the same test channel"
    if not there.active:
        yield "it is not active", "activate it in the target"


def _mend(channel: Channel) -> str:
    if channel.kind is ChannelKind.EMAIL:
        return "mend what the target says, and run this again: what was made is found"
    return "mend what the target says, or make it there by hand: it may need a token of the target's own"
