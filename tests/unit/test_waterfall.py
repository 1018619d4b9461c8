"""A probe's way as rows on one axis of time, and the marks of a lane's last deliveries."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from prober.interval import Interval
from prober.model import ChannelKind, Outcome, PublicationKind, Timeliness
from prober.report.timeline import Event, Timeline
from prober.report.values import DeliveryResult, ProbeResult, VerdictResult
from prober.status.marks import FAR, NEAR, TOP, plot
from prober.status.page import age_text, confidence_text
from prober.status.waterfall import MOST_ROWS, waterfall

AT = 1_790_000_000.0


def timeline(*events: Event, timeliness: Timeliness = Timeliness.ON_TIME, latency: Interval | None = None) -> Timeline:
    outcome = Outcome.LOST if latency is None else Outcome.DELIVERED
    delivery = DeliveryResult(
        "email", ChannelKind.EMAIL, 30.0, 600.0, VerdictResult(timeliness, "", AT), VerdictResult(outcome, "", AT),
        latency,
    )  # fmt: skip
    return Timeline(ProbeResult("s", "p", AT, PublicationKind.ALERT, AT, deliveries=(delivery,)), events)


def seen(offset: float, what: str, channel: str = "email", **rest: Any) -> Event:
    return replace(Event(AT + offset, offset, what, channel), **rest)


def test_the_axis_ends_with_what_arrived_and_not_with_a_deadline_that_was_kept() -> None:
    """A step and a sighting are stretches of their own length; a kept deadline far away does not crush them."""
    found = waterfall(
        timeline(
            seen(-0.1, "create taken", ""), seen(0, "create requested", ""), seen(0.5, "create ended", "", begun=0.0),
            seen(2.0, "sighting", lower=1.0, upper=2.0), seen(2.01, "timeliness"), latency=Interval(1.0, 2.0),
        )
    )  # fmt: skip
    step, sighting, verdict = found.rows
    assert [row.what for row in found.beside] == ["create taken", "create requested"]
    assert step.x is not None
    assert sighting.x is not None
    assert abs(sighting.width - 2 * step.width) < 0.05
    assert abs(sighting.x - step.x - 2 * step.width) < 0.05
    assert 90 < sighting.x + sighting.width < 100
    assert (sighting.tone, verdict.tone, step.tone) == ("seen", "pass", "step")
    assert sighting.deadlines == ()
    assert sighting.when == "1.500 s ± 0.500 s"
    assert [text for _, text in found.ticks] == ["0 s", "0.5 s", "1 s", "1.5 s", "2 s"]


def test_a_missed_deadline_stands_on_the_axis_and_a_far_verdict_beyond_it() -> None:
    """What was lost shows its deadline; the horizon, twenty times as far, is told and not drawn."""
    found = waterfall(timeline(seen(30.02, "timeliness"), seen(600.0, "outcome"), timeliness=Timeliness.OVERDUE))
    overdue, lost = found.rows
    assert (overdue.tone, lost.tone) == ("fail", "fail")
    (deadline,) = overdue.deadlines
    assert 90 < deadline < 100
    assert overdue.x is not None
    assert lost.x is None
    assert lost.when == "600.0 s"


def test_thousands_of_copies_make_no_endless_page() -> None:
    """A page shows so many events and counts the rest."""
    copies = [seen(n / 100, "copy", lower=0.0, upper=n / 100) for n in range(1, 5000)]
    found = waterfall(timeline(*copies, latency=Interval(0.0, 1.0)))
    assert len(found.rows) == MOST_ROWS
    assert found.left_out == 4999 - MOST_ROWS


def row(upper: float | None, timeliness: str | None, outcome: str | None) -> Any:
    return cast(
        Any,
        SimpleNamespace(
            probe_id="p", planned_wall=AT, timeliness=timeliness, outcome=outcome, latency_lower=upper and 0.0,
            latency_upper=upper, latency_basis="push",
        ),
    )  # fmt: skip


def test_each_fate_has_its_own_shape_and_place() -> None:
    """In time below the deadline, late above it, lost and void along the top, awaited at the foot; all in words."""
    drawn = plot(
        [
            row(2.0, "on_time", "delivered"), row(40.0, "overdue", "delivered"), row(None, "overdue", "lost"),
            row(None, "void", "void"), row(None, "moot", "withheld"), row(None, None, None),
        ],
        30.0,
    )  # fmt: skip
    assert [mark.shape for mark in drawn.marks] == ["pass", "fail", "lost", "void", "kept", "open"]
    good, late, lost, void, kept, awaited = (mark.y for mark in drawn.marks)
    assert TOP < FAR <= late < drawn.deadline < good <= NEAR
    assert lost == void == TOP
    assert kept == awaited == NEAR
    assert drawn.marks[-1].x > 98
    assert drawn.words == (
        "The last 6, deadline 30s; median 21.00 s, longest 40.00 s; 1 on time; 1 overdue; 1 lost; 1 void; 1 withheld; "
        "1 open."
    )
    assert plot([], 30.0).words == "No probe yet."


def test_lengths_and_bounds_as_people_read_them() -> None:
    """To what matters, and no number that pretends to say more."""
    assert [age_text(each) for each in (-1, 7.4, 90, 7200, 200_000)] == ["0 s", "7 s", "2 min", "2 h", "2 d"]
    assert confidence_text((-140.0, 1.0)) == "less than -100 % to 100 %"
    assert confidence_text((0.25, 0.9)) == "25 % to 90 %"


def test_what_was_last_read_long_before_the_request_takes_no_room() -> None:
    """A push alone bounds from above: its stretch begins with the request, and says so."""
    (pushed,) = waterfall(timeline(seen(0.3, "sighting", lower=-40.0, upper=0.3), latency=Interval(0.0, 0.3))).rows
    assert pushed.x == 0.0
    assert pushed.when == "≤ 0.300 s"
