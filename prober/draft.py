"""Scenario, slot -> everything that must be on record before a probe's first request leaves. Pure but for entropy."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from prober.clock import Instant
from prober.ledger.planning import PlannedDelivery, PlannedProbe, PlannedStep
from prober.marker import Keyring, mint, mint_content_id
from prober.model import Channel, ChannelKind, Key, KeyKind, Publication, Scenario, StepAction
from prober.trace_ids import SPAN_DIGITS, correlation_id

AD_HOC_LATENESS = 30.0
"""Seconds after which an ad hoc probe that could not be started is not started any more."""


@dataclass(frozen=True, slots=True)
class Drafting:
    """What every probe of this process shares.

    ``send_by_test`` asks for a second step per e-mail channel; ``check_text`` says that the target shows a content's
    text also without a template of its own.
    """

    environment: str
    location: str
    keyring: Keyring = field(repr=False)
    templates: Mapping[str, str]
    send_by_test: bool = False
    check_text: bool = False


def probe_id(drafting: Drafting, scenario: str, run: str, slot: float, number: int) -> str:
    """The probe's short name: a pure function of its identity, so that a slot is planned once."""
    identity = "\0".join([drafting.environment, drafting.location, scenario, run, repr(slot), str(number)])
    digest = hashlib.sha256(identity.encode()).digest()
    return base64.b32encode(digest[:8]).decode("ascii").lower().rstrip("=")[:10]


def draft_probe(
    drafting: Drafting,
    scenario: Scenario,
    channels: tuple[Channel, ...],
    *,
    slot: float,
    now: Instant,
    run: str = "",
    number: int = 0,
    late_after: float = AD_HOC_LATENESS,
) -> PlannedProbe:
    """One probe of ``scenario`` for ``slot`` (wall time), with its keys minted and its steps laid out.

    ``late_after`` seconds after its slot it is not started any more. What is to happen some time after it (a
    scheduled publication, a cancellation) counts from now where the slot is past: the target cannot act in the past.
    Nor is a scheduled publication started after its time.
    """
    name = probe_id(drafting, scenario.name, run, slot, number)
    due, begin = now.at_wall(slot), now.at_wall(max(slot, now.wall))
    if scenario.scheduled_after is not None:
        late_after = min(late_after, begin.since(due) + scenario.scheduled_after)
    publication = _publication(drafting, scenario, channels, name, begin=begin, now=now)
    steps, sends, stop = _steps(drafting, scenario, channels, name, due=due, begin=begin, late_after=late_after)
    keys = [Key(KeyKind.CONTENT_ID, publication.content_id), Key(KeyKind.MARKER, publication.marker)]
    keys += [Key(KeyKind.PLUS_TAG, name, channel) for channel, step in sends.items() if f"+{name}@" in step.recipient]
    deliveries = tuple(
        PlannedDelivery(
            channel=channel,
            within=scenario.within,
            give_up=scenario.give_up,
            checks=scenario.content.expect if publication.template_id or drafting.check_text else (),
            step_number=sends[channel.name].number if channel.name in sends else 0,
            arrive=scenario.arrive,
            stop_step=stop,
        )
        for channel in channels
    )
    return PlannedProbe(
        id=name,
        location=drafting.location,
        scenario=scenario.name,
        slot=slot,
        run=run,
        number=number,
        publication=publication,
        planned=now,
        steps=steps,
        deliveries=deliveries,
        keys=tuple(keys),
    )


def _publication(
    drafting: Drafting, scenario: Scenario, channels: tuple[Channel, ...], name: str, *, begin: Instant, now: Instant
) -> Publication:
    return Publication(
        probe=name,
        scenario=scenario.name,
        kind=scenario.kind,
        target_channels=tuple(dict.fromkeys(c.target_channel for c in channels if c.target_channel)),
        content_id=mint_content_id(drafting.keyring, now.wall, secrets.token_bytes(16)),
        marker=mint(drafting.keyring, now.wall, secrets.token_bytes(16)),
        priority=scenario.priority,
        template_id=drafting.templates.get(scenario.content.template, ""),
        subject=scenario.content.subject,
        text=scenario.content.text,
        scheduled_time=None if scenario.scheduled_after is None else begin.wall + scenario.scheduled_after,
        correlation_id=correlation_id(drafting.location, name),
        trace_id=secrets.token_hex(16),
        span_id=secrets.token_hex(SPAN_DIGITS // 2),
    )


def _steps(
    drafting: Drafting,
    scenario: Scenario,
    channels: tuple[Channel, ...],
    name: str,
    *,
    due: Instant,
    begin: Instant,
    late_after: float,
) -> tuple[tuple[PlannedStep, ...], dict[str, PlannedStep], int | None]:
    """All steps; the sending step of each e-mail channel that has one; the number of the stopping step."""
    steps = [PlannedStep(0, StepAction.CREATE, due, late_after)]
    sends: dict[str, PlannedStep] = {}
    if drafting.send_by_test:
        for channel in channels:
            if channel.kind is ChannelKind.EMAIL:
                recipient = _tagged(channel.address, name)
                step = PlannedStep(len(steps), StepAction.SEND, due, late_after, recipient, after_step=0)
                steps.append(step)
                sends[channel.name] = step
    stop = None
    if scenario.cancel_after is not None:
        stop = len(steps)
        steps.append(PlannedStep(stop, StepAction.CANCEL, begin.plus(scenario.cancel_after), late_after, after_step=0))
    return tuple(steps), sends, stop


def _tagged(address: str, tag: str) -> str:
    """The address with a plus-tag of the probe's own; one that has a tag already names its channel and stays."""
    local, at, domain = address.rpartition("@")
    return address if "+" in local else f"{local}+{tag}{at}{domain}"
