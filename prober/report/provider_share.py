"""The provider's own share of a latency: what control messages of the same time took, in a plain sentence."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, select

from prober.ledger.controls import GIVE_UP, ControlFact, controls_around
from prober.ledger.reading import ProbeRecord
from prober.ledger.tables import instant_of, offsets
from prober.model import How, Outcome, Timeliness
from prober.report.overview import ProviderShare
from prober.report.quantities import seconds_text
from prober.statistics import quantile

AROUND = 900.0
"""Seconds before a request and after its end within which a control message says something about the provider."""

SLOW = 2.0
"""Seconds from which a provider that shows a control message so late is slow, and a latency asks for a reason."""

SELDOM = 6.0
"""Reads a minute from which on downwards the provider's limit is what makes bounds wide."""

_NAMES = {"slack": "Slack", "discord": "Discord"}


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence that explains what became of a delivery."""

    channel: str
    text: str


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """What is on record about the providers around one probe: control messages by channel identity, clocks' steps."""

    controls: Mapping[str, Sequence[ControlFact]] = field(default_factory=dict)
    steps: Sequence[Row[Any]] = ()


def provider_facts(conn: Connection, record: ProbeRecord) -> ProviderFacts:
    """Look up what :func:`provider_notes` needs."""
    begin, location = _requested(record), record.probe.location
    if begin is None:
        return ProviderFacts()
    found = {}
    for row in record.deliveries:
        end = _end(record, row, begin)
        found[row.identity] = controls_around(conn, location, row.identity, begin - AROUND, end + AROUND)
    stepped = select(offsets).where(offsets.c.location == location, offsets.c.stepped_at >= begin)
    return ProviderFacts(found, tuple(conn.execute(stepped).all()))


def provider_notes(record: ProbeRecord, facts: ProviderFacts, observers: Sequence[Row[Any]]) -> tuple[Note, ...]:
    """What the provider or the way in which we read it has to do with each delivery of one probe."""
    accounts = {row.name: row for row in observers}
    return tuple(
        Note(row.channel, text)
        for row in record.deliveries
        for text in _notes(record, row, facts, accounts.get(row.observer))
    )


def _notes(record: ProbeRecord, row: Row[Any], facts: ProviderFacts, account: Row[Any] | None) -> Iterator[str]:
    begin = _requested(record)
    if begin is None:
        return
    late = (row.latency_upper or 0.0) >= SLOW
    bad = row.timeliness not in {None, Timeliness.ON_TIME} or row.outcome in {Outcome.LOST, Outcome.UNANSWERED}
    told = facts.controls.get(row.identity, ())
    if (late or bad) and told:
        yield control_sentence(_telling(told, begin, _end(record, row, begin)), begin)
    seen = next((each for each in record.sightings if each.id == row.sighting_id), None)
    pushed = seen is not None and seen.how == How.PUSH
    limit = None if account is None else account.reads_per_minute
    if limit is not None and limit <= SELDOM and not pushed:
        times = "once a minute" if limit == 1 else f"{limit:g} times a minute"
        yield f"its provider lets it be read {times}: bounds are up to {60 / limit:g} s wide"
    if account is not None and account.trouble and not pushed:
        yield f"pushes do not flow as they should: {account.trouble}"
    source = seen.stamp_source if seen is not None else None
    for step in facts.steps:
        if step.source == source and step.stepped_at <= begin + AROUND + row.give_up:
            yield (
                f"{_name(step.source)}'s clock stepped by {seconds_text(abs(step.step))} s or more: its stamps from "
                "before narrow nothing"
            )


def took(fact: ControlFact) -> float:
    """Seconds that the provider certainly took for a control message: a read tells when it was still lacking."""
    return fact.upper if fact.how == How.PUSH and fact.upper is not None else fact.lower


def control_sentence(fact: ControlFact, requested: float) -> str:
    """Whether the provider itself was slow, by a control message that was posted around a request (wall seconds)."""
    name, before = _name(fact.source), requested - fact.sent_at
    when = f"{seconds_text(abs(before))} s {'before' if before >= 0 else 'after'} the request"
    ours = f"a control message of ours, posted {when},"
    if fact.upper is None:
        return f"{name} itself lost messages: {ours} was not shown for {GIVE_UP:.0f} s"
    if took(fact) >= SLOW:
        least = "" if fact.how == How.PUSH else "at least "
        return f"{name} itself was slow: {ours} took {least}{seconds_text(took(fact))} s"
    if fact.upper < SLOW:
        return f"{name} itself was not slow: {ours} took {seconds_text(fact.upper)} s"
    between = f"{seconds_text(fact.lower)} and {seconds_text(fact.upper)} s"
    return f"whether {name} itself was slow is not known: {ours} took between {between}"


def provider_shares(facts: Sequence[ControlFact], channels: Collection[str]) -> tuple[ProviderShare, ...]:
    """What the providers themselves took, for each of these channels that had control messages."""
    grouped: dict[tuple[str, str], list[ControlFact]] = {}
    for fact in facts:
        if fact.channel in channels:
            grouped.setdefault((fact.channel, fact.source), []).append(fact)
    return tuple(_share(channel, provider, mine) for (channel, provider), mine in sorted(grouped.items()))


def _share(channel: str, provider: str, facts: Sequence[ControlFact]) -> ProviderShare:
    uppers = [math.inf if fact.upper is None else fact.upper for fact in facts]
    lost = sum(fact.upper is None for fact in facts)
    slow = sum(fact.upper is None or took(fact) >= SLOW for fact in facts)
    p50, p95, most = (quantile(uppers, q) for q in (0.5, 0.95, 1.0))
    return ProviderShare(channel, provider, len(facts), slow, lost, p50, p95, most)


def share_sentence(share: ProviderShare) -> str:
    """Whether the provider itself was slow, by all control messages of a window."""
    name, of = _name(share.provider), f"of {share.count} control messages of ours"
    if share.slow:
        lost = f", {share.lost} of which it lost" if share.lost else ""
        return f"{name} itself was slow: {share.slow} {of} took {SLOW:g} s or longer{lost} ({_bounds(share)})"
    if share.max < SLOW:
        return f"{name} itself was not slow: control messages of ours took {seconds_text(share.max)} s at the most"
    return f"whether {name} itself was slow is not known: reads came too seldom to tell ({_bounds(share)})"


def _bounds(share: ProviderShare) -> str:
    told = ("lost" if math.isinf(most) else f"{seconds_text(most)} s" for most in (share.p50, share.p95, share.max))
    return "median {}, p95 {}, max {}".format(*told)


def _telling(told: Sequence[ControlFact], begin: float, end: float) -> ControlFact:
    """The control message that explains most: the nearest of the slow ones, else the nearest of all."""
    slow = [fact for fact in told if fact.upper is None or took(fact) >= SLOW]
    return min(slow or told, key=lambda fact: max(begin - fact.sent_at, fact.sent_at - end, 0.0))


def _requested(record: ProbeRecord) -> float | None:
    instants = (instant_of(step, "requested") or instant_of(step, "taken") for step in record.steps)
    first = next(filter(None, instants), None)
    return None if first is None else first.wall


def _end(record: ProbeRecord, row: Row[Any], begin: float) -> float:
    """When the waiting ended: with the sighting, else at the horizon."""
    seen = next((each.upper_wall for each in record.sightings if each.id == row.sighting_id), None)
    return begin + row.give_up if seen is None else float(seen)


def _name(source: str) -> str:
    return _NAMES.get(source, source)
