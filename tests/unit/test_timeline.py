"""The evidence of one probe, as text and as JSON."""

from __future__ import annotations

import json

import jsonschema
import pytest

from prober.interval import Interval
from prober.model import ChannelKind, Outcome, PublicationKind, PublishResult, Timeliness, Waypoint
from prober.report.lines import line_cells, plain
from prober.report.result import (
    AnswerResult,
    DeliveryResult,
    ProbeResult,
    TargetName,
    VerdictResult,
    json_text,
    result_schema,
)
from prober.report.timeline import Event, Timeline, render_timeline, timeline_to_json

AT = 1_795_428_000.0
ACCEPTED = Waypoint("accepted_by_ses", AT + 0.4, "ses", 1.0)
PROBE = ProbeResult(
    "alert-latency",
    "k3f7q2",
    AT - 0.5,
    PublicationKind.ALERT,
    AT,
    AT + 0.012,
    AnswerResult(PublishResult.ACCEPTED, 201, correlation_id="req-7"),
    "ab" * 16,
    (
        DeliveryResult(
            "email",
            ChannelKind.EMAIL,
            30.0,
            120.0,
            VerdictResult(Timeliness.ON_TIME, "", AT + 1.0),
            VerdictResult(Outcome.DELIVERED, "", AT + 1.0),
            Interval(0.071, 0.213, "push"),
            0,
            (ACCEPTED, Waypoint("claimed", AT + 0.1, "target")),
        ),
        DeliveryResult(
            "slack",
            ChannelKind.SLACK,
            30.0,
            120.0,
            VerdictResult(Timeliness.OVERDUE, "not visible at the deadline", AT + 30.0),
            waypoints=(Waypoint("claimed", AT + 0.1, "target"),),
        ),
    ),
)
EVENTS = (
    Event(AT + 0.213, 0.213, "seen", "email", "push, message \x1b[31m[red]7[/red]", 0.071, 0.213),
    Event(AT - 0.6, -0.6, "planned"),
    Event(AT, 0.0, "create requested"),
    Event(AT + 0.012, 0.012, "create ended", detail="accepted, HTTP 201, correlation id req-7"),
    Event(AT + 0.4, 0.4, "accepted_by_ses", "email", "by ses, to 1 s"),
    Event(AT + 1.0, 1.0, "timeliness", "email", "on_time"),
    Event(AT + 30.0, 30.0, "timeliness", "slack", "overdue: not visible at the deadline"),
)


def shown(width: int, events: tuple[Event, ...] = EVENTS) -> list[str]:
    return [plain(line) for line in render_timeline(Timeline(PROBE, events), width)]


def test_the_timeline_reads_in_the_order_of_time() -> None:
    """Every event stands in its line, in the order of time, with what it rests on."""
    assert shown(80) == [
        "alert-latency  k3f7q2  alert",
        "  slot       2026-11-23T09:59:59.500000Z",
        "  requested  2026-11-23T10:00:00.000000Z",
        "  trace      abababababababababababababababab",
        "",
        "  -0.600 s         planned",
        "  +0.000 s         create requested",
        "  +0.012 s         create ended      accepted, HTTP 201, correlation id req-7",
        "  +0.213 s  email  seen              0.142 s ± 0.071 s, push, message",
        "                                     [31m[red]7[/red]",
        "  +0.400 s  email  accepted_by_ses   by ses, to 1 s",
        "  +1.000 s  email  timeliness        on_time",
        "  +30.00 s  slack  timeliness        overdue: not visible at the deadline",
        "",
        "✓ alert-latency  k3f7q2  email  on time   0.142 s ± 0.071 s  push",
        "✗ alert-latency  k3f7q2  slack  overdue   waiting until 2m",
        "",
        "FAIL  1 of 2 deliveries overdue: slack",
    ]


def test_a_wide_timeline_has_wall_times_and_intervals_in_columns() -> None:
    """At 200 columns an event's wall time and its interval have columns of their own."""
    lines = shown(200)
    assert any(
        line.startswith("  10:00:00.213000Z  +0.213 s  email  seen              0.142 s ± 0.071 s  push")
        for line in lines
    )


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_timeline_fits_the_width_and_interprets_nothing(width: int) -> None:
    """No line is wider than the terminal, and what was received has no power over it."""
    lines = render_timeline(Timeline(PROBE, (*EVENTS, Event(AT, 0.0, "stray", "email", "word " * 80))), width)
    assert max(map(line_cells, lines)) <= width
    assert all(plain(line).isprintable() for line in lines)


def test_a_probe_that_was_never_requested_has_a_timeline() -> None:
    """Without a request there are no offsets, and the timeline says so."""
    probe = ProbeResult("alert-latency", "k3f7q2", AT, PublicationKind.ALERT)
    lines = [plain(line) for line in render_timeline(Timeline(probe, (Event(AT, None, "planned"),)), 80)]
    assert "  requested  never" in lines
    assert "  -  planned" in lines
    assert lines[-1] == "INCONCLUSIVE  publication not answered yet"


def test_the_json_of_a_timeline_is_a_result_with_events() -> None:
    """`show` prints the result of this one probe and its events, described by the same schema."""
    value = json.loads(json_text(timeline_to_json(Timeline(PROBE, EVENTS), TargetName("staging", sandbox=False))))
    jsonschema.validate(value, result_schema())
    assert [event["what"] for event in value["events"]][:2] == ["planned", "create requested"]
    assert value["result"] == "fail"
    assert value["events"][3] == {
        "at": "2026-11-23T10:00:00.213000Z",
        "offset": 0.213,
        "what": "seen",
        "channel": "email",
        "detail": "push, message \x1b[31m[red]7[/red]",
        "lower": 0.071,
        "upper": 0.213,
    }
