"""Facts -> one case per delivery, and messages -> the probes that they belong to. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prober.clock import Instant
from prober.interval import CLOCK_DRIFT, Interval, latency_from_stamp
from prober.judge import Case, Sighted
from prober.marker import Found, Standing
from prober.model import Arrive, How, KeyKind, PublishResult, Stamp, StepState, StrayReason

RETENTION = 30 * 86400.0
"""Seconds after which a genuine key that nobody knows any more counts as expired rather than foreign."""

_SIGNED = {KeyKind.MARKER, KeyKind.CONTENT_ID}


@dataclass(frozen=True, slots=True)
class StepFact:
    """What is on record about one step. ``ended_at`` is the answer's instant, or when the interruption was noticed."""

    number: int
    state: StepState
    result: PublishResult | None
    taken_at: Instant | None
    requested_at: Instant | None
    ended_at: Instant | None


@dataclass(frozen=True, slots=True)
class SightingFact:
    """One sighting: ``lower`` is the start of the last complete read that lacked it (None: there was none)."""

    lower: Instant | None
    upper: Instant
    how: How
    misplaced: bool
    checks_failed: tuple[str, ...]
    stamp: Stamp | None


@dataclass(frozen=True, slots=True)
class CoverageFact:
    """The span in which a channel is known to have been read completely."""

    since: Instant
    watermark: Instant


@dataclass(frozen=True, slots=True)
class Offset:
    """Bounds on a provider's clock minus the boottime of one boot, from control messages, as they held at ``at``.

    ``at`` and ``since`` are seconds of that boottime; what was stamped before ``since`` was stamped by a clock that has
    stepped meanwhile.
    """

    bounds: Interval
    boot_id: str
    at: float
    since: float = -math.inf

    def during(self, start: float, end: float) -> Interval | None:
        """The bounds for what was stamped between the two: the farther from ``at``, the wider. None across a step."""
        if start < self.since:
            return None
        return self.bounds.widened(CLOCK_DRIFT * max(abs(start - self.at), abs(end - self.at)))


@dataclass(frozen=True, slots=True)
class DeliveryFacts:
    """Everything on record about one delivery at one moment.

    ``seen_elsewhere``: on another channel that hangs on the same step.
    """

    within: float
    give_up: float
    arrive: Arrive
    scheduled_time: float | None
    step: StepFact
    stop: StepFact | None
    sighting: SightingFact | None
    seen_elsewhere: bool
    coverage: CoverageFact | None
    failed_read: Instant | None
    served: bool
    offsets: Mapping[str, Offset]


@dataclass(frozen=True, slots=True)
class Correlated:
    """A case and the latest instant from which its times count; ``contradiction`` names what disagrees."""

    case: Case
    origin: Instant
    contradiction: str = ""


def correlate(facts: DeliveryFacts, now: Instant) -> Correlated | None:
    """The case of one delivery, None while its step was neither requested nor given up."""
    step = facts.step
    first = step.requested_at or step.taken_at
    if first is None:
        if step.result is None:
            return None
        first = now  # never requested and given up: nothing is counted from here but the age
    origin = first if facts.scheduled_time is None else first.at_wall(facts.scheduled_time)
    late = latest_origin(step, facts.scheduled_time) or origin
    sighted, contradiction = None, ""
    if facts.sighting is not None:
        latency, contradiction = _latency(facts, first, origin, late)
        sighted = Sighted(latency, facts.sighting.checks_failed, facts.sighting.misplaced)
    coverage = facts.coverage
    # Coverage must begin before the request; a scheduled message could already be visible from the request on.
    since = None if coverage is None else coverage.since.since(first) + coverage.since.doubt(first)
    watermark = None if coverage is None else coverage.watermark.since(late) - coverage.watermark.doubt(late)
    case = Case(
        within=facts.within,
        give_up=facts.give_up,
        age=now.since(late),
        result=step.result,
        sighted=sighted,
        seen_elsewhere=facts.seen_elsewhere,
        since=since,
        watermark=watermark,
        failed_read=None if facts.failed_read is None else facts.failed_read.since(late),
        served=facts.served,
        arrive=facts.arrive,
        stopped_in_time=_stopped_in_time(facts.stop, origin),
    )
    return Correlated(case, late, contradiction)


def latest_origin(step: StepFact, scheduled_time: float | None) -> Instant | None:
    """The latest instant from which a delivery's times may count, None while its step was not requested.

    After a crash the request left somewhere between the committed claim and the moment the death was noticed:
    absence and lower bounds count from there, so that nothing is called late because we were.
    """
    first = step.requested_at or step.taken_at
    if first is None:
        return None
    if scheduled_time is not None:
        return first.at_wall(scheduled_time)
    return step.ended_at if step.result is PublishResult.INTERRUPTED and step.ended_at is not None else first


def after_horizon(step: StepFact, scheduled_time: float | None, give_up: float, lower: Instant | None) -> bool:
    """Whether what was still absent at ``lower`` certainly became visible only after the horizon."""
    late = latest_origin(step, scheduled_time)
    return late is not None and lower is not None and lower.since(late) - lower.doubt(late) > give_up


def _stopped_in_time(stop: StepFact | None, origin: Instant) -> bool | None:
    if stop is None or stop.result is None:
        return None
    if stop.result is not PublishResult.ACCEPTED or stop.ended_at is None:
        return False
    return stop.ended_at.since(origin) + stop.ended_at.doubt(origin) < 0


def _latency(facts: DeliveryFacts, first: Instant, origin: Instant, late: Instant) -> tuple[Interval, str]:
    """Bounds on the latency since ``origin``, and the name of a clock that contradicts ours."""
    seen = facts.sighting
    assert seen is not None  # noqa: S101 - the caller has looked
    floor = first.since(origin)  # nothing is visible before it was asked for
    upper = max(seen.upper.since(origin) + seen.upper.doubt(origin), floor)
    lower = floor if seen.lower is None else max(floor, seen.lower.since(late) - seen.lower.doubt(late))
    contradiction = "request" if seen.upper.since(origin) + seen.upper.doubt(origin) < floor else ""
    if lower > upper:
        lower, contradiction = floor, "coverage"
    own = Interval(lower, upper, seen.how.value)
    refined, clock = _refined(own, seen, facts.offsets, (first, origin, late))
    return refined, clock or contradiction


def _refined(
    own: Interval, seen: SightingFact, offsets: Mapping[str, Offset], requested: tuple[Instant, Instant, Instant]
) -> tuple[Interval, str]:
    """The own-clock interval, narrowed by the provider's stamp where its clock is bounded by control messages.

    ``requested``: the first instant at which the request may have left, and the two between which it did as far as
    times count. A stamp raises the lower bound only of what a complete read showed that followed another: beside a
    pushed message there may be an earlier copy, whose own push got lost, and beside the newest that a first read shows
    one that it does not show any more.
    """
    first, origin, late = requested
    stamp = seen.stamp
    if stamp is None or (offset := offsets.get(stamp.source)) is None or offset.boot_id != origin.boot_id:
        return own, ""
    # It was stamped between the request and the moment at which it was in our hands.
    bounds = offset.during(origin.boottime + first.since(origin), origin.boottime + own.upper)
    if bounds is None:
        return own, ""
    by_stamp = latency_from_stamp(stamp.at, stamp.resolution, origin.boottime, bounds)
    unsure = max(0.0, late.since(origin) + late.doubt(origin))
    both = own.intersection(Interval(by_stamp.lower - unsure, by_stamp.upper, by_stamp.basis))
    if both is None:
        return own, stamp.source
    if seen.how is How.PUSH or seen.lower is None:
        return (own if both.upper == own.upper else Interval(own.lower, both.upper, both.basis)), ""
    return both, ""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key on record: whose it is, and the delivery that it has on the channel at hand (None: it has none there)."""

    value: str
    probe: str
    delivery: int | None


@dataclass(frozen=True, slots=True)
class Attribution:
    """What a message is: deliveries that it shows, or the reason why it is a stray, or neither.

    ``candidates`` are unsigned ids that an answer may still make known.
    """

    deliveries: tuple[int, ...] = ()
    stray: StrayReason | None = None
    candidates: tuple[str, ...] = ()


def attribute(
    found: Sequence[Found],
    known: Sequence[KnownKey],
    *,
    sender_allowed: bool,
    now_wall: float,
    retention: float = RETENTION,
) -> Attribution:
    """Decide whose message it is: verified keys first, else ids that the target told, from an allowed sender.

    A verified key that is not known is ``expired`` when it is older than ``retention`` seconds.
    """
    genuine = [key for key in found if key.kind in _SIGNED and key.standing is Standing.GENUINE]
    by_value: dict[str, list[KnownKey]] = {}
    for row in known:
        by_value.setdefault(row.value, []).append(row)
    if genuine:
        ours = [row.delivery for key in genuine for row in by_value.get(key.value, ())]
        matched = tuple(dict.fromkeys(delivery for delivery in ours if delivery is not None))
        if matched:
            return Attribution(deliveries=matched)
        old = all(key.minted_at is not None and now_wall - key.minted_at > retention for key in genuine)
        return Attribution(stray=StrayReason.EXPIRED if old and not ours else StrayReason.FOREIGN)
    for standing, reason in ((Standing.FORGED, StrayReason.FORGED), (Standing.FOREIGN, StrayReason.FOREIGN)):
        if any(key.standing is standing for key in found):
            return Attribution(stray=reason)
    ids = tuple(dict.fromkeys(key.value for key in found))
    if not ids or not sender_allowed:
        return Attribution(stray=StrayReason.UNMATCHED if ids else None)
    told = tuple(dict.fromkeys(row.delivery for i in ids for row in by_value.get(i, ()) if row.delivery is not None))
    return Attribution(deliveries=told) if told else Attribution(candidates=ids)


def sender_allowed(sender: str, allowed: Sequence[str]) -> bool:
    """Whether ``sender`` (an address, or ids separated by spaces) is on the list; an empty list allows all."""
    names = sender.lower().split() or [""]
    return not allowed or any(
        name == entry.lower() or (entry.startswith("@") and name.endswith(entry.lower()))
        for name in names
        for entry in allowed
    )
