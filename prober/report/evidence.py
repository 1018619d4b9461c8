"""Ledger rows -> result values: what is on record, as the JSON and the timeline say it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Row

from prober.clock import Instant
from prober.interval import Interval
from prober.ledger.reading import ProbeRecord
from prober.ledger.tables import instant_of
from prober.model import ChannelKind, Outcome, PublicationKind, PublishResult, Timeliness, Waypoint
from prober.report.provider_share import ProviderFacts, provider_notes
from prober.report.quantities import resolution_text, seconds_text
from prober.report.timeline import Event, Timeline
from prober.report.values import AnswerResult, DeliveryResult, ProbeResult, VerdictResult

STATED = frozenset({"ses_bounce", "ses_complaint", "ses_delivery_delay", "ses_reject", "ses_suppressed"})
"""Waypoints that say why a mail does not come, or how it was taken."""


NO_PROVIDER_FACTS = ProviderFacts()


def probe_result(record: ProbeRecord) -> ProbeResult:
    """One probe as its result."""
    probe = record.probe
    publishing = _publishing_step(record)
    requested, ended = instant_of(publishing, "requested"), instant_of(publishing, "ended")
    return ProbeResult(
        scenario=probe.scenario,
        probe=probe.id,
        slot=None if probe.run else probe.slot,
        kind=PublicationKind(probe.kind),
        requested_at=requested.wall if requested else None,
        answered_at=ended.wall if ended and publishing.status is not None else None,
        answer=_answer(publishing),
        trace_id=probe.trace_id,
        deliveries=tuple(_delivery(record, row) for row in record.deliveries),
    )


def _publishing_step(record: ProbeRecord) -> Row[Any]:
    """The step that tells how the publication went: the first that was not accepted, else the first."""
    bad = [step for step in record.steps if step.result not in {None, PublishResult.ACCEPTED.value}]
    return bad[0] if bad else record.steps[0]


def _answer(step: Row[Any]) -> AnswerResult | None:
    if step.result is None:
        return None
    return AnswerResult(PublishResult(step.result), step.status, step.title, step.detail, step.correlation_id)


def _delivery(record: ProbeRecord, row: Row[Any]) -> DeliveryResult:
    first = next((seen for seen in record.sightings if seen.id == row.sighting_id), None)
    timeliness = outcome = latency = None
    if row.timeliness is not None:
        timeliness = VerdictResult(Timeliness(row.timeliness), row.timeliness_reason, row.timeliness_at)
    if row.outcome is not None:
        outcome = VerdictResult(Outcome(row.outcome), row.outcome_reason, row.outcome_at)
    if row.latency_upper is not None:
        latency = Interval(row.latency_lower, row.latency_upper, row.latency_basis)
    points = tuple(waypoint(point) for point in record.waypoints if point.delivery_id in {None, row.id})
    return DeliveryResult(
        channel=row.channel,
        channel_kind=ChannelKind(row.channel_kind),
        within=row.within,
        give_up=row.give_up,
        timeliness=timeliness,
        outcome=outcome,
        latency=latency,
        copies=row.copies,
        waypoints=points,
        checks=tuple(json.loads(first.checks_failed)) if first is not None else (),
        stated=_stated(points),
    )


def waypoint(row: Row[Any]) -> Waypoint:
    """A waypoint from its row."""
    return Waypoint(row.name, row.at, row.source, row.resolution, row.detail)


def _stated(points: Sequence[Waypoint]) -> tuple[str, ...]:
    """The reasons that providers gave, each once, in the order of time."""
    return tuple(dict.fromkeys(point.detail for point in points if point.name in STATED and point.detail))


def timeline(
    record: ProbeRecord,
    covered: Sequence[Row[Any]],
    observers: Sequence[Row[Any]],
    providers: ProviderFacts = NO_PROVIDER_FACTS,
) -> Timeline:
    """Everything on record about one probe, as events, and what explains its deliveries."""
    result = probe_result(record)
    return Timeline(result, (*_planned(record), *_waypoints(record), *_steps(record), *_stamped(record),
                             *_seen(record), *_covered(record, covered), *_blind(record, observers),
                             *_controls(record, providers), *_verdicts(result)),
                    provider_notes(record, providers, observers))  # fmt: skip


def _controls(record: ProbeRecord, providers: ProviderFacts) -> Iterator[Event]:
    """Control messages of about the same time: what the provider itself took."""
    for fact in (fact for told in providers.controls.values() for fact in told):
        took = "never shown" if fact.upper is None else f"shown after {seconds_text(fact.upper)} s, by {fact.how}"
        yield Event(fact.sent_at, _by_wall(record, fact.sent_at), "control posted", fact.channel, took)


def _at(record: ProbeRecord) -> Callable[[Instant], float]:
    """Seconds since the request, on whatever clock the two instants share."""
    first = next(
        (i for step in record.steps if (i := instant_of(step, "requested") or instant_of(step, "taken"))), None
    )
    return lambda instant: 0.0 if first is None else instant.since(first)


def _planned(record: ProbeRecord) -> Iterator[Event]:
    planned = instant_of(record.probe, "planned")
    if planned is not None:
        names = ", ".join(row.channel for row in record.deliveries)
        yield Event(planned.wall, _at(record)(planned), "planned", detail=f"expected on {names}")


def _steps(record: ProbeRecord) -> Iterator[Event]:
    offset = _at(record)
    for step in record.steps:
        alone = sum(other.action == step.action for other in record.steps) == 1
        name = step.action if alone else f"{step.action} {step.number}"
        for word in ("taken", "requested", "ended"):
            instant = instant_of(step, word)
            if instant is None:
                continue
            detail = _step_detail(step) if word == "ended" else f"by process {step.taken_by}" if word == "taken" else ""
            begun = instant_of(step, "requested") if word == "ended" else None
            yield Event(instant.wall, offset(instant), f"{name} {word}", detail=detail,
                        begun=offset(begun) if begun is not None else None)  # fmt: skip


def _step_detail(step: Row[Any]) -> str:
    parts = [step.result, f"HTTP {step.status}" if step.status is not None else "", step.title, step.detail]
    correlation = f"correlation id {step.correlation_id}" if step.correlation_id else ""
    return ", ".join(part for part in [*parts, correlation] if part)


def _stamped(record: ProbeRecord) -> Iterator[Event]:
    """What the providers' own clocks say of each sighting, unless a waypoint says it; they may be wrong."""
    told = {(point.at, point.source) for point in record.waypoints}
    for row in record.sightings:
        if row.stamp_at is not None and (row.stamp_at, row.stamp_source) not in told:
            doubt = f", to {resolution_text(row.stamp_resolution)}" if row.stamp_resolution else ""
            yield Event(row.stamp_at, _by_wall(record, row.stamp_at), "stamped", row.channel,
                        f"by {row.stamp_source}{doubt}")  # fmt: skip


def _seen(record: ProbeRecord) -> Iterator[Event]:
    offset = _at(record)
    for row in record.sightings:
        lower, upper = instant_of(row, "lower"), instant_of(row, "upper")
        if upper is None:
            continue
        what = {"first": "sighting", "copy": "copy", "moved": "moved"}.get(row.role, f"stray {row.stray or ''}".strip())
        where = ", in the junk folder" if row.misplaced else ""
        yield Event(
            upper.wall, offset(upper), what, row.channel, f"by {row.how}, message {row.message_id}{where}",
            lower=offset(lower) if lower is not None else None, upper=offset(upper),
        )  # fmt: skip


def _verdicts(result: ProbeResult) -> Iterator[Event]:
    for delivery in result.deliveries:
        for question in (delivery.timeliness, delivery.outcome):
            if question is None:
                continue
            name = "timeliness" if question is delivery.timeliness else "outcome"
            said = f"{question.verdict.value}: {question.reason}" if question.reason else question.verdict.value
            since = None if result.requested_at is None else question.settled_at - result.requested_at
            yield Event(question.settled_at, since, name, delivery.channel, said)


def _covered(record: ProbeRecord, covered: Sequence[Row[Any]]) -> Iterator[Event]:
    offset, rows = _at(record), {row.identity: row for row in covered}
    for delivery in record.deliveries:
        row = rows.get(delivery.identity)
        if row is None:
            continue
        failed = instant_of(row, "failed_read")
        if row.blind_reason and failed is not None:
            why = f"{row.blind_reason}: {row.blind_detail}"
            yield Event(failed.wall, offset(failed), "blind", delivery.channel, why)
        since, watermark = instant_of(row, "since"), instant_of(row, "watermark")
        if since is not None and watermark is not None:
            if since != watermark:
                yield Event(since.wall, offset(since), "coverage", delivery.channel, "read completely from here on")
            yield Event(watermark.wall, offset(watermark), "watermark", delivery.channel, "read completely until here")


def _blind(record: ProbeRecord, observers: Sequence[Row[Any]]) -> Iterator[Event]:
    offset, rows = _at(record), {row.name: row for row in observers}
    for delivery in record.deliveries:
        row = rows.get(delivery.observer)
        since = None if row is None else instant_of(row, "blind_since")
        if row is not None and row.blind_reason and since is not None:
            yield Event(since.wall, offset(since), "blind", delivery.channel, f"{row.blind_reason}: {row.blind_detail}")


def _waypoints(record: ProbeRecord) -> Iterator[Event]:
    names = {row.id: row.channel for row in record.deliveries}
    for row in record.waypoints:
        doubt = f", to {resolution_text(row.resolution)}" if row.resolution else ""
        channel = names.get(row.delivery_id, "")
        said = f": {row.detail}" if row.detail else ""
        yield Event(row.at, _by_wall(record, row.at), row.name, channel, f"by {row.source}{doubt}{said}")


def _by_wall(record: ProbeRecord, wall: float) -> float | None:
    """Seconds since the request of an instant on somebody else's clock."""
    first = next((i for step in record.steps if (i := instant_of(step, "requested"))), None)
    return None if first is None else wall - first.wall
