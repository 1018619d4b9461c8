"""The JSON schema of ``report``: API, versioned with the result."""

from __future__ import annotations

from prober.burn_windows import Severity
from prober.model import ChannelKind, PublicationKind
from prober.objectives import Indicator
from prober.report.overview import SHOWN_QUANTILES
from prober.report.schema_parts import COUNT, INSTANT, SECONDS, TEXT, Schema, a_list, an_object, one_of, or_null

_NUMBER: Schema = {"type": "number"}
_RATIO: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_BAND: Schema = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}


def report_schema() -> Schema:
    """What a report over a window adds to a result."""
    return an_object(
        {
            "since": INSTANT,
            "until": INSTANT,
            "scenario": or_null(TEXT),
            "channel": or_null(TEXT),
            "location": or_null(TEXT),
            "deliveries": COUNT,
            "sampled": {**COUNT, "description": "Deliveries, evenly spread, on which the stages rest."},
            "channels": a_list(_channel()),
            "objectives": a_list(_objective()),
            "providers": a_list(_provider()),
        }
    )


def _channel() -> Schema:
    bounds = {
        **an_object({"lower": or_null(SECONDS), "upper": or_null(SECONDS)}),
        "description": "Quantiles of the intervals' bounds; null: so many were not delivered.",
    }
    stage = {
        **an_object({"name": TEXT, "count": COUNT, "p50": SECONDS, "p95": SECONDS}),
        "description": "Seconds from the request to a waypoint, by the clock that told it.",
    }
    return an_object(
        {
            "scenario": TEXT,
            "kind": one_of(PublicationKind),
            "channel": TEXT,
            "channel_kind": one_of(ChannelKind),
            "expected": COUNT,
            "open": COUNT,
            "void": COUNT,
            "on_time": an_object(
                {"good": COUNT, "of": COUNT, "ratio": or_null(_RATIO), "wilson": _BAND, "band": _BAND}
            ),
            "estimated": {"type": "boolean", "description": "Some were still awaited: quantiles by Kaplan and Meier."},
            "quantiles": an_object({name: or_null(bounds) for name in SHOWN_QUANTILES}),
            "undelivered": a_list({"enum": list(SHOWN_QUANTILES)}),
            "curve": {
                **a_list({"type": "array", "items": _NUMBER, "minItems": 3, "maxItems": 3}),
                "description": "Seconds, and the share visible by then at the least and at the most.",
            },
            "stages": a_list(stage),
        }
    )


def _provider() -> Schema:
    return {
        **an_object(
            {
                "channel": TEXT,
                "provider": TEXT,
                "control_messages": COUNT,
                "slow": COUNT,
                "lost": COUNT,
                "p50": or_null(SECONDS),
                "p95": or_null(SECONDS),
                "max": or_null(SECONDS),
                "sentence": TEXT,
            }
        ),
        "description": "What the provider itself took for control messages of ours; null: so many were lost.",
    }


def _objective() -> Schema:
    counts = an_object(
        {
            "good": COUNT,
            "bad": COUNT,
            "unsure": COUNT,
            "void": COUNT,
            "ratio": or_null(_RATIO),
            "band": or_null(_BAND),
            "coverage": or_null(_RATIO),
        }
    )
    burn = an_object(
        {
            "severity": one_of(Severity),
            "long_window": SECONDS,
            "short_window": SECONDS,
            "factor": _NUMBER,
            "long": or_null(_NUMBER),
            "short": or_null(_NUMBER),
            "burning": {"type": "boolean"},
        }
    )
    left = {
        **an_object({"remaining": _NUMBER, "interval": or_null(_BAND), "band": _BAND}),
        "description": "1: untouched, 0: spent; the interval (95 %) is given when few events were bad.",
    }
    return an_object(
        {
            "name": TEXT,
            "indicator": one_of(Indicator),
            "goal": _RATIO,
            "window": SECONDS,
            "within": or_null(SECONDS),
            "counts": {**counts, "description": "In the report's window, by whole hours."},
            "channels": {"type": "object", "additionalProperties": counts},
            "period": {**counts, "description": "In the objective's own window, which ends with the report's."},
            "budget": or_null(left),
            "burns": a_list(burn),
        }
    )
