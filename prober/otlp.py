"""Spans -> OTLP/HTTP, with OpenTelemetry's own exporter. Imported only where traces are configured: it costs 85 ms."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import suppress

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from prober import __version__
from prober.aside import aside
from prober.ledger.reading import ProbeRecord
from prober.traces_form import TraceSettings
from prober.tracing import SpanFact, spans_of

_KINDS = {kind.name.lower(): kind for kind in SpanKind}
_SCOPE = InstrumentationScope("delivery-prober", __version__, Schemas.V1_37_0.value)
_LOGGER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_MOST_WORDS = 300


class OtlpSink:
    """Where traces go: see :class:`prober.stages.TraceSink`. One request at a time."""

    def __init__(self, settings: TraceSettings, environment: str, location: str) -> None:
        headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        self._exporter = OTLPSpanExporter(endpoint=settings.url, headers=headers, timeout=settings.timeout)
        about = {"service.version": __version__, "deployment.environment.name": environment,
                 "prober.location": location}  # fmt: skip
        if not os.environ.get("OTEL_SERVICE_NAME"):
            about["service.name"] = "prober"
        self._resource = Resource.create(about)
        self._words = _LastWords()
        logger = logging.getLogger(_LOGGER)
        logger.addHandler(self._words)
        logger.propagate = False  # whoever exports says it once, and not at each attempt

    async def send(self, records: Sequence[ProbeRecord]) -> str:
        """As the sink says."""
        self._words.said = ""
        try:
            spans = [readable(fact, self._resource) for record in records for fact in spans_of(record)]
            result = await aside(lambda: self._exporter.export(spans), "otlp-export")
        except Exception as error:  # noqa: BLE001 - whatever the library raises is told, and the traces are kept
            return type(error).__name__
        return "" if result is SpanExportResult.SUCCESS else self._words.said[:_MOST_WORDS] or "not accepted"

    async def close(self) -> None:
        """Give up what is being sent."""
        logging.getLogger(_LOGGER).removeHandler(self._words)
        with suppress(TimeoutError):  # it only wakes who waits: the thread that sends keeps no process from ending
            await asyncio.wait_for(aside(self._exporter.shutdown, "otlp-close"), 1.0)


class _LastWords(logging.Handler):
    """What the exporter said last: it returns no reasons."""

    said = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.said = record.getMessage()


def readable(fact: SpanFact, resource: Resource) -> ReadableSpan:
    """A span as the SDK's exporters take it."""

    def at(span: str) -> SpanContext:
        return SpanContext(int(fact.trace, 16), int(span, 16), is_remote=False, trace_flags=TraceFlags(1))

    return ReadableSpan(
        name=fact.name,
        context=at(fact.id),
        parent=at(fact.parent) if fact.parent else None,
        resource=resource,
        attributes=dict(fact.attributes),
        events=[Event(event.name, dict(event.attributes), _nanoseconds(event.at)) for event in fact.events],
        links=[Link(at(link)) for link in fact.links],
        kind=_KINDS[fact.kind],
        status=Status(StatusCode.ERROR, fact.error) if fact.error else Status(StatusCode.UNSET),
        start_time=_nanoseconds(fact.begin),
        end_time=_nanoseconds(fact.end),
        instrumentation_scope=_SCOPE,
    )


def _nanoseconds(wall: float) -> int:
    return round(wall * 1e9)
