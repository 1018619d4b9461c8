"""``check``: every part of a configuration examined at once, each within its time, each answer a finding."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from prober.acts import Acting, Acts
from prober.aside import aside
from prober.assembly import bounds, examiner, keyring, make_target
from prober.clock import Clock
from prober.config import Settings
from prober.errors import ConfigurationError, LedgerError, OwnFault, TargetError
from prober.findings import (
    ClockReading,
    Examined,
    Finding,
    State,
    clock_findings,
    ok,
    timed_out,
    unknown,
    warning,
    wrong,
)
from prober.ledger.acting import record
from prober.ledger.examination import examine_ledger, first_uses
from prober.ledger.ledger import Ledger
from prober.ledger.owner import claim_ledger
from prober.marker import Keyring, Standing, find, mint, mint_content_id
from prober.own_clock import examine_own_clock
from prober.processes import this_process
from prober.safety import Inventory, examine_safety
from prober.targets import Examinable, Listing, Target

EXAMINED_WITHIN = 8.0
"""Seconds that one part may take, its target's and provider's time included."""

_OLD = 365 * 86_400.0
"""Seconds after which a signing key should have been replaced."""

_HEARD = ("reachable", "credentials")
"""What must be well before the target can list anything."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is examined: settings, the ledger's place ('' for a thrown-away one), whether messages may be posted."""

    settings: Settings
    ledger: str
    post: bool = False


async def examine_all(scope: Scope, clock: Clock) -> tuple[Examined, ...]:
    """All parts side by side, in the order in which they are read. Raises ConfigurationError."""
    settings = scope.settings
    bounds(settings)  # a wrong target is said before anything is asked
    acts = Acts(clock)
    parts: dict[str, Awaitable[Examined]] = {
        "keys": aside(lambda: _keys(scope, clock.now().wall), "keys"),
        "clock": aside(lambda: Examined("clock", (examine_own_clock(),)), "clock"),
        "ledger": aside(lambda: Examined("ledger", _ledger(scope.ledger)), "ledger"),
        "target": _target(settings, clock, acts),
    }
    for name, raw in settings.observers.items():
        channels = tuple(channel for channel in settings.channels.values() if channel.observer == name)
        parts[name] = examiner(raw["adapter"])(name, raw, channels, clock, post=scope.post, acts=acts)
    examined = await asyncio.gather(*(_bounded(part, work) for part, work in parts.items()), return_exceptions=True)
    done: dict[str, Examined] = {}
    for part, answer in zip(parts, examined, strict=True):
        if isinstance(answer, BaseException):
            raise answer
        done[part] = answer
    readings = tuple(reading for each in done.values() for reading in each.clocks)
    done["clock"] = _with_others(done["clock"], readings)
    unrecorded = await _record(scope, acts)
    done["ledger"] = replace(done["ledger"], findings=(*done["ledger"].findings, *unrecorded))
    return (_configuration(settings), *done.values())


async def _record(scope: Scope, acts: Acts) -> tuple[Finding, ...]:
    """Put on record what the examination itself changed outside: messages that it posted, tokens that it fetched."""
    done = acts.take(whole=True)
    if not done or not scope.ledger:
        return ()
    try:
        async with Ledger(scope.ledger) as ledger:
            await ledger.write(claim_ledger, scope.settings.environment)
            await ledger.write(record, scope.settings.location, this_process(), done)
    except LedgerError as error:
        return (warning("audit", f"what this examination did is not on record: {error}", "mend the ledger"),)
    return ()


async def _bounded(part: str, work: Awaitable[Examined]) -> Examined:
    """A part within its time; a fault of our own in it is a finding like any other."""
    try:
        async with asyncio.timeout(EXAMINED_WITHIN):
            return await work
    except ConfigurationError:
        raise
    except TimeoutError:
        return timed_out(part, EXAMINED_WITHIN)
    except Exception as error:  # noqa: BLE001 - recorded as a finding; its words might hold a secret
        sentence = f"a fault of our own: {type(error).__name__}"
        return Examined(part, (unknown("examination", sentence, "report it, with what you examined"),))


def _with_others(own: Examined, readings: tuple[ClockReading, ...]) -> Examined:
    return replace(own, findings=(*own.findings, *clock_findings(readings)), clocks=readings)


def _configuration(settings: Settings) -> Examined:
    count = len(settings.channels)
    told = f"environment {settings.environment}, {count} channel{'' if count == 1 else 's'}"
    findings = [ok("file", f"{settings.source}: {told} on {len(settings.observers)} observers")]
    if not settings.channels:
        findings.append(wrong("channels", "no channel is configured: nothing can be watched", "add channels"))
    read = {channel.observer for channel in settings.channels.values()}
    if idle := [name for name in settings.observers if name not in read]:
        findings.append(warning("observers", f"no channel is read by {', '.join(idle)}", "add one, or remove it"))
    return Examined("configuration", tuple(findings))


def _ledger(place: str) -> tuple[Finding, ...]:
    return examine_ledger(place) if place else (ok("place", "the sandbox's own, thrown away at the end of a run"),)


def _keys(scope: Scope, now: float) -> Examined:
    """Who signs since when, and whether what is signed verifies."""
    ring = keyring(scope.settings)
    ids = tuple(key.id for key in ring.keys)
    used = first_uses(scope.ledger, ids) if scope.ledger else {}
    findings = [ok("ids", _told_ids(ids)), *_ages(ids, used, now), _round_trip(ring, now)]
    return Examined("keys", tuple(findings))


def _told_ids(ids: tuple[str, ...]) -> str:
    signing, *verifying = ids
    return f"{signing} signs, {signing} and {verifying[0]} verify" if verifying else f"{signing} signs and verifies"


def _ages(ids: tuple[str, ...], used: Mapping[str, float], now: float) -> Iterator[Finding]:
    """By the oldest marker on record: what is older has been removed, so a key may be older still."""
    if ids[0] not in used:
        yield unknown("age", f"nothing on record is signed by {ids[0]} yet")
        return
    since = datetime.fromtimestamp(used[ids[0]], UTC).strftime("%Y-%m-%d")
    if now - used[ids[0]] > _OLD:
        yield warning("age", f"{ids[0]} signs since {since} at the latest", "put a new key before it, as the first")
    else:
        yield ok("age", f"{ids[0]} signs since {since} at the latest")


def _round_trip(ring: Keyring, now: float) -> Finding:
    minted = {mint(ring, now, secrets.token_bytes(9)), mint_content_id(ring, now, secrets.token_bytes(4))}
    verified = {found.value for found in find([" ".join(minted)], [], ring) if found.standing is Standing.GENUINE}
    if verified != minted:
        return wrong("round trip", "what the first key signs does not verify", "give each key a secret of its own")
    return ok("round trip", "a marker and a content id verify")


async def _target(settings: Settings, clock: Clock, acts: Acts) -> Examined:
    """What the target says about itself, then what it has."""
    try:
        target = make_target(settings, clock)
    except OwnFault as error:
        return Examined("target", (wrong("credentials", str(error), "correct the target's token"),))
    try:
        async with target as entered:
            return await _target_examined(entered, settings)
    finally:
        if isinstance(target, Acting):
            acts.add(target.acts.take(whole=True))


async def _target_examined(target: Target, settings: Settings) -> Examined:
    examined = Examined("target", (unknown("contract", "this target cannot be examined without publishing"),))
    if isinstance(target, Examinable):
        examined = await target.examine()
    if any(finding.subject in _HEARD and finding.state is not State.OK for finding in examined.findings):
        lost = unknown("allow-list", "not verified: the target was not heard", "mend the target's lines first")
        return replace(examined, findings=(*examined.findings, lost))
    return replace(examined, findings=(*examined.findings, *await _safety(target, settings)))


async def _safety(target: object, settings: Settings) -> tuple[Finding, ...]:
    inventory = Inventory()
    if isinstance(target, Listing):
        try:
            inventory = await target.inventory()
        except TargetError as error:
            return (unknown("allow-list", f"not verified: {error}", "mend the target, and run this again"),)
    return examine_safety(bounds(settings), inventory)
