"""The JSON schema (draft 2020-12) of a result: API, versioned."""

from __future__ import annotations

from enum import StrEnum

from prober.model import ChannelKind, Outcome, PublicationKind, PublishResult, Timeliness
from prober.report.gate_schema import gate_schema
from prober.report.overview_schema import report_schema
from prober.report.schema_parts import COUNT, INSTANT, SECONDS, TEXT, Schema, a_list, an_object, one_of, or_null
from prober.report.values import QUANTILES, VERSION, Result


def result_schema() -> Schema:
    """What ``run``, ``gate``, ``report`` and ``show`` print as JSON; readers must ignore fields that they do not know.

    ``events`` and ``notes`` are there in ``show`` only, ``report`` in ``report`` only, whose ``probes`` are the worst,
    ``gate`` in ``gate`` only.
    """
    root = an_object(
        {
            "version": {"const": VERSION},
            "target": an_object({"name": TEXT, "sandbox": {"type": "boolean"}}),
            "result": one_of(Result),
            "reason": TEXT,
            "probes": a_list({"$ref": "#/$defs/probe"}),
            "summary": a_list({"$ref": "#/$defs/summary"}),
        }
    )
    root["properties"]["events"] = a_list({"$ref": "#/$defs/event"})
    root["properties"]["notes"] = a_list(an_object({"channel": TEXT, "text": TEXT}))
    root["properties"]["report"] = report_schema()
    root["properties"]["gate"] = gate_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A result of prober, version {VERSION}",
        "description": "Durations and latencies are seconds; instants are RFC 3339 in UTC.",
        **root,
        "$defs": {
            "probe": _probe(),
            "delivery": _delivery(),
            "summary": _summary(),
            "event": _event(),
            "interval": an_object({"lower": SECONDS, "upper": SECONDS, "basis": TEXT}),
        },
    }


def _probe() -> Schema:
    answer = {
        "result": one_of(PublishResult),
        "status": or_null({"type": "integer"}),
        "title": TEXT,
        "detail": TEXT,
        "correlation_id": TEXT,
    }
    return an_object(
        {
            "scenario": TEXT,
            "probe": TEXT,
            "slot": or_null(INSTANT),
            "kind": one_of(PublicationKind),
            "requested_at": or_null(INSTANT),
            "answered_at": or_null(INSTANT),
            "answer": or_null(an_object(answer)),
            "trace_id": TEXT,
            "deliveries": a_list({"$ref": "#/$defs/delivery"}),
        }
    )


def _delivery() -> Schema:
    waypoint = {"name": TEXT, "at": INSTANT, "source": TEXT, "resolution": SECONDS, "detail": TEXT}
    return an_object(
        {
            "channel": TEXT,
            "channel_kind": one_of(ChannelKind),
            "within": SECONDS,
            "give_up": SECONDS,
            "timeliness": or_null(_verdict(Timeliness)),
            "outcome": or_null(_verdict(Outcome)),
            "latency": or_null({"$ref": "#/$defs/interval"}),
            "copies": COUNT,
            "waypoints": a_list(an_object(waypoint)),
            "checks": {**a_list(TEXT), "description": "One sentence per failed content check."},
            "stated": {
                **a_list(TEXT),
                "description": "What a provider says of this mail, e.g. why it bounced: a reason, never a verdict.",
            },
        }
    )


def _verdict(verdicts: type[StrEnum]) -> Schema:
    return an_object({"verdict": one_of(verdicts), "reason": TEXT, "settled_at": INSTANT})


def _summary() -> Schema:
    return an_object(
        {
            "scenario": TEXT,
            "channel": TEXT,
            "expected": COUNT,
            "open": {**COUNT, "description": "Deliveries about which a question is not settled yet."},
            "within": SECONDS,
            "give_up": SECONDS,
            "by_outcome": an_object({verdict.value: COUNT for verdict in Outcome}),
            "by_timeliness": an_object({verdict.value: COUNT for verdict in Timeliness}),
            **{name: or_null(SECONDS) for name in QUANTILES},
            "uncertainty_max": or_null(SECONDS),
            "undelivered": {
                **a_list({"enum": list(QUANTILES)}),
                "description": "Quantiles that are null because so many were not delivered.",
            },
        }
    )


def _event() -> Schema:
    return an_object(
        {
            "at": INSTANT,
            "offset": {**or_null(SECONDS), "description": "Seconds since the request."},
            "what": TEXT,
            "channel": TEXT,
            "detail": TEXT,
            "lower": or_null(SECONDS),
            "upper": or_null(SECONDS),
        }
    )
