"""Ledger rows -> the spans of one trace: what a probe did and saw, as OpenTelemetry's conventions say it. Pure.

The conventions: HTTP client spans (stable), messaging spans (in development, so the version that is meant is said).
An arrival is linked to the request that made it, and not its child: nothing of ours was carried along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Row

from prober.clock import Instant, rfc3339
from prober.ledger.publishing import publication_of
from prober.ledger.reading import ProbeRecord
from prober.ledger.tables import instant_of
from prober.model import Publication, PublishResult
from prober.report.evidence import probe_result
from prober.report.result import judge_run
from prober.report.values import ProbeResult, Result
from prober.trace_ids import span_id, step_span_id

INTERNAL, CLIENT, CONSUMER = "internal", "client", "consumer"

Value = str | int | float | bool
Attributes = Mapping[str, Value]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something at one moment: ``at`` is wall seconds."""

    name: str
    at: float
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class SpanFact:
    """One span. ``begin`` and ``end`` are wall seconds, ``parent`` and ``links`` ids of spans of the same trace.

    ``error`` says what is wrong, '' where nothing is.
    """

    trace: str
    id: str
    parent: str
    name: str
    kind: str
    begin: float
    end: float
    attributes: Attributes
    events: tuple[SpanEvent, ...] = ()
    links: tuple[str, ...] = ()
    error: str = ""


def spans_of(record: ProbeRecord) -> tuple[SpanFact, ...]:
    """The probe, then its steps, then its arrivals. Instants count from one reading of the wall clock, so that a step
    of it in between turns nothing round."""
    publication = publication_of(record.probe.publication)
    when = _Wall(_origin(record))
    root = span_id(publication.trace_id, "probe", publication.span_id)
    below = (*_steps(record, publication, root, when), *_arrivals(record, publication, root, when))
    return (_probe(record, publication, root, below, when), *below)


@dataclass(frozen=True, slots=True)
class _Wall:
    """Instants as wall seconds, all by the reading at ``origin``."""

    origin: Instant

    def __call__(self, instant: Instant) -> float:
        return self.origin.wall + instant.since(self.origin)


def _origin(record: ProbeRecord) -> Instant:
    begun = (instant_of(record.steps[0], word) for word in ("requested", "taken"))
    found = next((instant for instant in begun if instant is not None), instant_of(record.probe, "planned"))
    assert found is not None  # noqa: S101 - written with the row
    return found


def _probe(
    record: ProbeRecord, publication: Publication, root: str, below: Sequence[SpanFact], when: _Wall
) -> SpanFact:
    probe, result = record.probe, probe_result(record)
    taken = instant_of(record.steps[0], "taken") or instant_of(probe, "planned") or when.origin
    begin = min([when(taken), *(span.begin for span in below)])
    events = tuple(sorted((*_verdicts(result), *_waypoints(record)), key=lambda event: event.at))
    settled = [event.at for event in events if event.name == "settled"]
    verdict, reason = judge_run((result,))
    attributes: dict[str, Value] = {
        "prober.probe": probe.id,
        "prober.scenario": probe.scenario,
        "prober.kind": probe.kind,
        "prober.location": probe.location,
        "prober.correlation_id": publication.correlation_id,
        "prober.result": verdict.value,
    }
    if not probe.run:
        attributes["prober.slot"] = rfc3339(probe.slot)
    return SpanFact(
        trace=probe.trace_id,
        id=root,
        parent="",
        name=f"probe {probe.scenario}",
        kind=INTERNAL,
        begin=begin,
        end=max([begin, *settled, *(span.end for span in below)]),
        attributes=attributes,
        events=events,
        error=(reason or verdict.value) if verdict is Result.FAIL else "",
    )


def _steps(record: ProbeRecord, publication: Publication, root: str, when: _Wall) -> Iterator[SpanFact]:
    """The steps that were taken; one that waited for another in vain never left."""
    for step in record.steps:
        taken, requested, ended = (instant_of(step, word) for word in ("taken", "requested", "ended"))
        begun = requested or taken
        if begun is None or ended is None:
            continue
        begin = when(begun)
        yield SpanFact(
            trace=record.probe.trace_id,
            id=step_span_id(publication, step.number),
            parent=root,
            name=step.request.partition(" ")[0] or step.action,
            kind=CLIENT,
            begin=begin,
            end=max(begin, when(ended)),
            attributes=_step_attributes(step),
            error="" if step.result == PublishResult.ACCEPTED.value else step.title or step.result or "",
        )


def _step_attributes(step: Row[Any]) -> Attributes:
    found: dict[str, Value] = {
        "prober.step": step.number,
        "prober.step.action": step.action,
        "prober.step.result": step.result or "",
        "user_agent.synthetic.type": "test",
    }
    method, _, url = step.request.partition(" ")
    if url:
        parts = urlsplit(url)
        found |= {
            "http.request.method": method,
            "url.full": url,
            "server.address": parts.hostname or "",
            "server.port": parts.port or _PORTS.get(parts.scheme, 0),
        }
    if step.status is not None:
        found["http.response.status_code"] = step.status
    if step.result != PublishResult.ACCEPTED.value:
        answered_badly = step.status is not None and step.status >= 400
        found["error.type"] = str(step.status) if answered_badly else step.result or "unknown"
    if step.correlation_id:
        found["prober.answer.correlation_id"] = step.correlation_id
    return found


def _arrivals(record: ProbeRecord, publication: Publication, root: str, when: _Wall) -> Iterator[SpanFact]:
    """What was seen first on each channel: the interval in which it became visible."""
    seen = {row.id: row for row in record.sightings}
    for delivery in record.deliveries:
        first = seen.get(delivery.sighting_id)
        upper = None if first is None else instant_of(first, "upper")
        if first is None or upper is None:
            continue
        step = next(step for step in record.steps if step.number == delivery.step_number)
        asked = instant_of(step, "requested") or instant_of(step, "taken") or upper
        begin, end = when(instant_of(first, "lower") or asked), when(upper)
        if delivery.latency_upper is not None:  # as it was judged: providers' stamps narrow it
            since = when(asked) if delivery.scheduled_time is None else delivery.scheduled_time
            begin, end = since + delivery.latency_lower, since + delivery.latency_upper
        yield SpanFact(
            trace=record.probe.trace_id,
            id=span_id(publication.trace_id, "receive", publication.span_id, delivery.channel),
            parent=root,
            name=f"receive {delivery.channel}",
            kind=CONSUMER,
            begin=min(begin, end),
            end=end,
            attributes=_arrival_attributes(delivery, first),
            links=(step_span_id(publication, step.number),),
        )


def _arrival_attributes(delivery: Row[Any], first: Row[Any]) -> Attributes:
    found: dict[str, Value] = {
        "messaging.operation.name": "receive",
        "messaging.operation.type": "receive",
        "messaging.system": delivery.channel_kind,
        "messaging.destination.name": delivery.channel,
        "messaging.message.id": first.message_id,
        "messaging.message.conversation_id": delivery.probe_id,
        "prober.how": first.how,
        "prober.within": delivery.within,
        "prober.timeliness": delivery.timeliness or "",
        "prober.outcome": delivery.outcome or "",
        "prober.copies": delivery.copies,
    }
    if delivery.latency_upper is not None:
        found |= {
            "prober.latency.lower": delivery.latency_lower,
            "prober.latency.upper": delivery.latency_upper,
            "prober.latency.basis": delivery.latency_basis,
        }
    return found


def _verdicts(result: ProbeResult) -> Iterator[SpanEvent]:
    for delivery in result.deliveries:
        for question, told in (("timeliness", delivery.timeliness), ("outcome", delivery.outcome)):
            if told is not None:
                about = {"prober.channel": delivery.channel, "prober.question": question,
                         "prober.verdict": told.verdict.value, "prober.reason": told.reason}  # fmt: skip
                yield SpanEvent("settled", told.settled_at, about)


def _waypoints(record: ProbeRecord) -> Iterator[SpanEvent]:
    """Facts on the way, on the clocks of those who tell them."""
    channels = {row.id: row.channel for row in record.deliveries}
    for row in record.waypoints:
        about: dict[str, Value] = {"prober.source": row.source, "prober.resolution": row.resolution}
        if row.delivery_id in channels:
            about["prober.channel"] = channels[row.delivery_id]
        yield SpanEvent(row.name, row.at, about)
