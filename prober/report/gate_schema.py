"""The JSON schema of a result's part ``gate``."""

from __future__ import annotations

from prober.report.gate_values import Limit
from prober.report.schema_parts import COUNT, SECONDS, TEXT, Schema, a_list, an_object, one_of, or_null
from prober.report.values import Result


def gate_schema() -> Schema:
    """What ``gate`` says beside the probes."""
    channel = {
        "scenario": TEXT,
        "channel": TEXT,
        "within": SECONDS,
        "result": one_of(Result),
        "good": {**COUNT, "description": "Probes that counted, in the order of their launches, up to the decision."},
        "bad": COUNT,
        "void": COUNT,
        "pending": {**COUNT, "description": "Launched, and not counted yet."},
        "needed": {**COUNT, "description": "So many good ones in a row would have made it a pass."},
        "later_bad": {**COUNT, "description": "Bad ones after the decision, which stands."},
        "words": {"type": "object", "additionalProperties": COUNT},
        "examples": a_list(TEXT),
    }
    return an_object(
        {
            "profile": TEXT,
            "proves": TEXT,
            "leaves_open": TEXT,
            "limit": or_null(one_of(Limit)),
            "launched": COUNT,
            "seconds": SECONDS,
            "channels": a_list(an_object(channel)),
        }
    )
