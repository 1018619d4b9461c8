"""The evidence of one probe in the order of time, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prober.clock import rfc3339
from prober.interval import Interval
from prober.model import Outcome, PublishResult, StrayReason, Timeliness
from prober.report.lines import Line, Span, Tone, cells, hang, line_cells, pad, printable
from prober.report.provider_share import Note
from prober.report.quantities import latency_text, seconds_text
from prober.report.result import run_result
from prober.report.text import answered_lines, delivery_lines, result_lines, widths_of
from prober.report.values import ProbeResult, TargetName, instant_to_json, to_json

WIDE = 120
"""Columns from which each event shows its wall time and its interval in columns of their own."""


@dataclass(frozen=True, slots=True)
class Event:
    """One fact on record: ``at`` is wall seconds, ``offset`` seconds since the request (None: never requested).

    ``lower`` and ``upper`` bound the instant, as seconds since the request too, where it was not seen exactly;
    ``begun`` is where that began of which this is the end.
    """

    at: float
    offset: float | None
    what: str
    channel: str = ""
    detail: str = ""
    lower: float | None = None
    upper: float | None = None
    begun: float | None = None


@dataclass(frozen=True, slots=True)
class Timeline:
    """A probe, everything that is on record about it, and what explains its deliveries."""

    probe: ProbeResult
    events: tuple[Event, ...] = ()
    notes: tuple[Note, ...] = ()

    def sorted(self) -> tuple[Event, ...]:
        """The events in the order of time; of equal instants the first given comes first."""
        return tuple(sorted(self.events, key=lambda event: event.at))


def timeline_to_json(timeline: Timeline, target: TargetName) -> dict[str, Any]:
    """A result of this one probe with its ``events``, described by ``result_schema``."""
    result = to_json(run_result(target, (timeline.probe,)))
    notes = [{"channel": note.channel, "text": note.text} for note in timeline.notes]
    return {**result, "events": [_event_to_json(event) for event in timeline.sorted()], "notes": notes}


def _event_to_json(event: Event) -> dict[str, Any]:
    return {
        "at": rfc3339(event.at),
        "offset": event.offset,
        "what": event.what,
        "channel": event.channel,
        "detail": event.detail,
        "lower": event.lower,
        "upper": event.upper,
    }


def render_timeline(timeline: Timeline, width: int, target: TargetName | None = None) -> list[Line]:
    """What the probe was, each event in the order of time, what became of each delivery, and the result."""
    probe = timeline.probe
    lines = [*_head_lines(probe, width), (), *_event_lines(timeline, width)]
    widths = widths_of((probe,))
    if probe.deliveries:
        lines.append(())
    for delivery in probe.deliveries:
        lines += delivery_lines(probe, delivery, widths, width)
        for note in timeline.notes:
            if note.channel == delivery.channel:
                lines += hang((Span("    "),), printable(note.text), width, indent=4, tone=Tone.PLAIN)
    return [*lines, (), *result_lines(run_result(target or TargetName("", False), (probe,)), width)]


def _head_lines(probe: ProbeResult, width: int) -> list[Line]:
    title = (Span(printable(probe.scenario), Tone.STRONG), Span(f"  {printable(probe.probe)}  {probe.kind}"))
    facts = {
        "slot": instant_to_json(probe.slot),
        "requested": instant_to_json(probe.requested_at) or "never",
        "trace": probe.trace_id,
    }
    label = max(map(len, facts))
    lines: list[Line] = [title]
    for name, fact in facts.items():
        if fact:
            lines.append((Span(f"  {pad(name, label)}  ", Tone.FAINT), Span(fact)))
    if probe.answer is not None and probe.answer.result is not PublishResult.ACCEPTED:
        lines += answered_lines(probe, widths_of((probe,)), width)
    return lines


def _event_lines(timeline: Timeline, width: int) -> Iterator[Line]:
    events = timeline.sorted()
    offsets = [_offset_text(event) for event in events]
    bounds = [_bounds_text(event) for event in events]
    offset_cells = max(map(cells, offsets), default=0)
    what_cells = max((cells(printable(event.what)) for event in events), default=0)
    channel_cells = max((cells(printable(event.channel)) for event in events), default=0)
    bounds_cells = max(map(cells, bounds), default=0)
    for event, offset, bound in zip(events, offsets, bounds, strict=True):
        line: Line = (Span("  "),)
        if width >= WIDE:
            line = (*line, Span(_time_of_day(event.at) + "  ", Tone.FAINT))
        line = (*line, Span(" " * (offset_cells - cells(offset)) + offset, Tone.FAINT))
        line = (*line, Span("  " + pad(printable(event.channel), channel_cells)) if channel_cells else Span(""))
        line = (*line, Span("  " + pad(printable(event.what), what_cells), _tone(event)))
        rest = event.detail
        if width >= WIDE and bounds_cells:
            line = (*line, Span("  " + pad(bound, bounds_cells)))
        else:
            rest = ", ".join(filter(None, (bound, event.detail)))
        yield from hang(line, rest, width, indent=min(line_cells(line) + 2, max(6, width - 30)), tone=Tone.PLAIN)


def _offset_text(event: Event) -> str:
    if event.offset is None:
        return "-"
    return f"{'-' if event.offset < 0 else '+'}{seconds_text(abs(event.offset))} s"


def _bounds_text(event: Event) -> str:
    if event.lower is None or event.upper is None or not event.lower <= event.upper:
        return ""
    return latency_text(Interval(event.lower, event.upper))


def _time_of_day(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).strftime("%H:%M:%S.%fZ")


_TONES = {
    Tone.GOOD: (Timeliness.ON_TIME, Outcome.DELIVERED, Outcome.WITHHELD, PublishResult.ACCEPTED),
    Tone.BAD: (
        Timeliness.OVERDUE,
        Timeliness.EARLY,
        Outcome.LOST,
        Outcome.DAMAGED,
        Outcome.MISPLACED,
        Outcome.REFUSED,
        Outcome.UNANSWERED,
        Outcome.UNWANTED,
        PublishResult.ERROR,
        PublishResult.TIMEOUT,
        PublishResult.UNREACHABLE,
    ),
    Tone.UNSURE: (Timeliness.AMBIGUOUS, PublishResult.INTERRUPTED, *StrayReason, "copy", "stray"),
    Tone.VOID: (Timeliness.VOID, PublishResult.OWN_FAULT, "blind"),
}
_TONE_OF_WORD = {str(word): tone for tone, words in _TONES.items() for word in words}


def _tone(event: Event) -> Tone:
    """An event's tone by its own word or else the first word of its detail."""
    first = event.detail.replace(",", " ").replace(":", " ").split(maxsplit=1)
    words = (event.what, *first[:1])
    return next((_TONE_OF_WORD[word] for word in words if word in _TONE_OF_WORD), Tone.PLAIN)
