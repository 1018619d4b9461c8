"""Scenario, configured channels -> the channels that a probe of it is watched on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prober.errors import ConfigurationError
from prober.model import Channel, ChannelKind, PublicationKind, Scenario
from prober.nearest import did_you_mean

ALL = "all"
"""Stands for every configured channel."""

_KINDS = tuple(kind.value for kind in ChannelKind)


def most_target_channels(kind: PublicationKind) -> int:
    """How many of its channels the Publishing Module takes in one request."""
    return 5 if kind is PublicationKind.ALERT else 10


def resolve_channels(scenario: Scenario, channels: Mapping[str, Channel]) -> tuple[Channel, ...]:
    """The channels that a scenario's entries stand for, each once, in the entries' order.

    An entry is a channel's name, else a kind: the next channel of that kind, in configured order, that no entry
    names. A name that stands a second time is taken for a kind. ``all`` is every channel in configured order.
    Raises ConfigurationError that names the entry.
    """
    if ALL in scenario.channels:
        chosen = tuple(channels.values())
        if not chosen:
            raise _error(scenario, "no channel is configured", "add one under channels in prober.yaml")
    else:
        chosen = _chosen(scenario, channels)
    fed = {channel.target_channel or channel.identity for channel in chosen}
    most = most_target_channels(scenario.kind)
    if len(fed) > most:
        problem = f"a publication of kind {scenario.kind} goes to at most {most} target channels, not {len(fed)}"
        raise _error(scenario, problem, "name fewer channels")
    return chosen


def _chosen(scenario: Scenario, channels: Mapping[str, Channel]) -> tuple[Channel, ...]:
    named = {entry for entry in scenario.channels if entry in channels}
    unused = [channel for name, channel in channels.items() if name not in named]
    chosen: dict[str, Channel] = {}
    for entry in scenario.channels:
        if entry in channels and entry not in chosen:
            chosen[entry] = channels[entry]
            continue
        channel = next((channel for channel in unused if channel.kind == entry), None)
        if channel is None:
            raise _unknown(scenario, entry, channels)
        unused.remove(channel)
        chosen[channel.name] = channel
    return tuple(chosen.values())


def _unknown(scenario: Scenario, entry: str, channels: Mapping[str, Channel]) -> ConfigurationError:
    if entry in _KINDS:
        count = sum(channel.kind == entry for channel in channels.values())
        mend = "configure another one under channels in prober.yaml, or name fewer"
        return _error(scenario, f"{entry!r} asks for one more {entry} channel than the {count} configured", mend)
    if entry in channels:
        return _error(scenario, f"{entry!r} is named twice", "name each channel once")
    return _error(scenario, f"no channel is named {entry!r}", did_you_mean(entry, (*channels, *_KINDS, ALL)))


def _error(scenario: Scenario, problem: str, mend: str) -> ConfigurationError:
    return ConfigurationError(f"scenario {scenario.name!r}: {problem}", mend, scenario.source, field="channels")


def channels_of(recipients: Iterable[str], channels: Sequence[Channel]) -> tuple[Channel, ...]:
    """Each mail recipient's channel: that of its very address, else that of the address without its plus-tag."""
    by_address = {channel.address.lower(): channel for channel in channels}
    found: dict[str, Channel] = {}
    for recipient in recipients:
        local, _, domain = recipient.rpartition("@")
        base = f"{local.split('+', 1)[0]}@{domain}"
        channel = by_address.get(recipient) or by_address.get(base)
        if channel is not None:
            found[channel.name] = channel
    return tuple(found.values())
