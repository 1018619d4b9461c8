"""A probe's ids in logs and traces: each a pure function of what is on record, so that no second process differs."""

from __future__ import annotations

import hashlib

from prober.model import Publication

SPAN_DIGITS = 16


def correlation_id(location: str, probe: str) -> str:
    """What a probe's requests carry as X-Correlation-ID, and its log lines as ``correlation_id``."""
    return f"{location}-{probe}"


def span_id(trace: str, *words: str) -> str:
    """The id of a span of a trace, by what the span is: 16 hexadecimal digits that are not all zero."""
    digest = hashlib.sha256("\0".join([trace, *words]).encode()).hexdigest()
    # All zeros are no id (W3C trace context, 3.2.2.4).
    return next(digest[at : at + SPAN_DIGITS] for at in range(len(digest)) if int(digest[at : at + SPAN_DIGITS], 16))


def step_span_id(publication: Publication, number: int) -> str:
    """The span of one step of a publication, as its ``traceparent`` says it; empty without a trace."""
    if number == 0 or not publication.span_id:
        return publication.span_id
    return span_id(publication.trace_id, "step", publication.span_id, str(number))
