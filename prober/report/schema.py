"""The JSON schema (draft 2020-12) of a result: API, versioned."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from prober.model import ChannelKind, Outcome, PublicationKind, PublishResult, Timeliness
from prober.report.values import QUANTILES, VERSION, Result

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_INSTANT: Schema = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$",
}
_SECONDS: Schema = {"type": "number"}
_COUNT: Schema = {"type": "integer", "minimum": 0}


def result_schema() -> Schema:
    """What ``run``, ``gate``, ``report`` and ``show`` print as JSON; readers must ignore fields that they do not know.

    ``events`` and ``notes`` are there in ``show`` only.
    """
    root = _object(
        {
            "version": {"const": VERSION},
            "target": _object({"name": _TEXT, "sandbox": {"type": "boolean"}}),
            "result": _enum(Result),
            "reason": _TEXT,
            "probes": _list({"$ref": "#/$defs/probe"}),
            "summary": _list({"$ref": "#/$defs/summary"}),
        }
    )
    root["properties"]["events"] = _list({"$ref": "#/$defs/event"})
    root["properties"]["notes"] = _list(_object({"channel": _TEXT, "text": _TEXT}))
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
            "interval": _object({"lower": _SECONDS, "upper": _SECONDS, "basis": _TEXT}),
        },
    }


def _probe() -> Schema:
    answer = {
        "result": _enum(PublishResult),
        "status": _or_null({"type": "integer"}),
        "title": _TEXT,
        "detail": _TEXT,
        "correlation_id": _TEXT,
    }
    return _object(
        {
            "scenario": _TEXT,
            "probe": _TEXT,
            "slot": _or_null(_INSTANT),
            "kind": _enum(PublicationKind),
            "requested_at": _or_null(_INSTANT),
            "answered_at": _or_null(_INSTANT),
            "answer": _or_null(_object(answer)),
            "trace_id": _TEXT,
            "deliveries": _list({"$ref": "#/$defs/delivery"}),
        }
    )


def _delivery() -> Schema:
    waypoint = {"name": _TEXT, "at": _INSTANT, "source": _TEXT, "resolution": _SECONDS, "detail": _TEXT}
    return _object(
        {
            "channel": _TEXT,
            "channel_kind": _enum(ChannelKind),
            "within": _SECONDS,
            "give_up": _SECONDS,
            "timeliness": _or_null(_verdict(Timeliness)),
            "outcome": _or_null(_verdict(Outcome)),
            "latency": _or_null({"$ref": "#/$defs/interval"}),
            "copies": _COUNT,
            "waypoints": _list(_object(waypoint)),
            "checks": {**_list(_TEXT), "description": "One sentence per failed content check."},
            "stated": {
                **_list(_TEXT),
                "description": "What a provider says of this mail, e.g. why it bounced: a reason, never a verdict.",
            },
        }
    )


def _verdict(verdicts: type[StrEnum]) -> Schema:
    return _object({"verdict": _enum(verdicts), "reason": _TEXT, "settled_at": _INSTANT})


def _summary() -> Schema:
    return _object(
        {
            "scenario": _TEXT,
            "channel": _TEXT,
            "expected": _COUNT,
            "open": {**_COUNT, "description": "Deliveries about which a question is not settled yet."},
            "within": _SECONDS,
            "give_up": _SECONDS,
            "by_outcome": _object({verdict.value: _COUNT for verdict in Outcome}),
            "by_timeliness": _object({verdict.value: _COUNT for verdict in Timeliness}),
            **{name: _or_null(_SECONDS) for name in QUANTILES},
            "uncertainty_max": _or_null(_SECONDS),
            "undelivered": {
                **_list({"enum": list(QUANTILES)}),
                "description": "Quantiles that are null because so many were not delivered.",
            },
        }
    )


def _event() -> Schema:
    return _object(
        {
            "at": _INSTANT,
            "offset": {**_or_null(_SECONDS), "description": "Seconds since the request."},
            "what": _TEXT,
            "channel": _TEXT,
            "detail": _TEXT,
            "lower": _or_null(_SECONDS),
            "upper": _or_null(_SECONDS),
        }
    )


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _enum(values: type[StrEnum]) -> Schema:
    return {"enum": [value.value for value in values]}
