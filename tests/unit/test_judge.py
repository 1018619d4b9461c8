"""The case table of the design, row by row, and what must hold for every case."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.interval import Interval
from prober.judge import Case, Sighted, blind_grace, judge
from prober.model import Arrive, Outcome, PublishResult, Timeliness

ACCEPTED = PublishResult.ACCEPTED
UNKNOWN = [PublishResult.ERROR, PublishResult.TIMEOUT]


def case(**changes: object) -> Case:
    """An alert just accepted: within 30 s, give up after 120 s, read completely since before the request."""
    fresh = Case(within=30, give_up=120, age=1, result=ACCEPTED, since=-5, watermark=0.5)
    return replace(fresh, **changes)  # type: ignore[arg-type]


def seen(lower: float, upper: float, **more: object) -> Sighted:
    return Sighted(Interval(lower, upper), **more)  # type: ignore[arg-type]


def verdicts(given_case: Case) -> tuple[str | None, str | None, str, str]:
    """Both verdicts and both reasons."""
    found = judge(given_case)
    return (
        found.timeliness.verdict.value if found.timeliness else None,
        found.outcome.verdict.value if found.outcome else None,
        found.timeliness.reason if found.timeliness else "",
        found.outcome.reason if found.outcome else "",
    )


def test_nothing_is_said_before_the_answer() -> None:
    """While the request is under way both questions stay open, even when the message is already there."""
    assert verdicts(case(result=None, sighted=seen(0, 1)))[:2] == (None, None)


def test_fresh_delivery_stays_open() -> None:
    """Nothing seen and the deadline not reached: open."""
    assert verdicts(case())[:2] == (None, None)


@pytest.mark.parametrize(
    ("lower", "upper", "timeliness"),
    [
        (0, 29.9, "on_time"),
        (0, 30, "on_time"),
        (30, 30, "on_time"),
        (30.1, 31, "overdue"),
        (29, 31, "ambiguous"),
        (30, 30.1, "overdue"),
        (-3, -1, "early"),
        (-3, 1, "on_time"),
    ],
)
def test_arrival_is_judged_by_both_bounds(lower: float, upper: float, timeliness: str) -> None:
    """On time needs the upper bound within, overdue the lower bound beyond; what straddles is ambiguous."""
    assert verdicts(case(sighted=seen(lower, upper)))[:2] == (timeliness, "delivered")


def test_own_fault_is_void_at_once() -> None:
    """Our own DNS, route or token says nothing about the target."""
    assert verdicts(case(result=PublishResult.OWN_FAULT)) == ("void", "void", "own_fault", "own_fault")


def test_unreachable_is_moot_and_unanswered_at_once() -> None:
    """Nothing left us because the target could not be reached."""
    assert verdicts(case(result=PublishResult.UNREACHABLE))[:2] == ("moot", "unanswered")


def test_refused_is_refused_and_moot_at_once() -> None:
    """A 4xx answers both questions."""
    assert verdicts(case(result=PublishResult.REFUSED))[:2] == ("moot", "refused")


@pytest.mark.parametrize("result", UNKNOWN)
def test_unanswered_publish_that_nobody_saw(result: PublishResult) -> None:
    """A 5xx or time-out that shows nowhere: moot at the deadline, unanswered at the horizon, not before."""
    assert verdicts(case(result=result, watermark=29, age=30))[:2] == (None, None)
    assert verdicts(case(result=result, watermark=30, age=31))[:2] == ("moot", None)
    assert verdicts(case(result=result, watermark=120, age=121))[:2] == ("moot", "unanswered")


@pytest.mark.parametrize("result", [*UNKNOWN, PublishResult.INTERRUPTED])
def test_publish_seen_on_another_channel_counts_as_accepted(result: PublishResult) -> None:
    """One channel's sighting proves that the publication exists: its sisters are then overdue and lost."""
    assert verdicts(case(result=result, seen_elsewhere=True, watermark=30, age=31))[:2] == ("overdue", None)
    assert verdicts(case(result=result, seen_elsewhere=True, watermark=121, age=122))[:2] == ("overdue", "lost")


@pytest.mark.parametrize("result", [*UNKNOWN, PublishResult.INTERRUPTED])
def test_unanswered_publish_that_arrives_is_judged_as_accepted(result: PublishResult) -> None:
    """Arrival decides, whatever the API said."""
    assert verdicts(case(result=result, sighted=seen(0, 2)))[:2] == ("on_time", "delivered")


def test_interrupted_and_unseen_is_our_fault() -> None:
    """We died between claim and answer and nothing came: nobody can say whether it left."""
    assert verdicts(case(result=PublishResult.INTERRUPTED, watermark=120, age=121)) == (
        "void", "void", "own_fault", "own_fault",
    )  # fmt: skip


def test_total_outage_is_overdue_at_the_deadline_and_lost_at_the_horizon() -> None:
    """Absence with coverage answers the first question after 30 s, the second at the horizon."""
    assert verdicts(case(watermark=30, age=30.1))[:2] == ("overdue", None)
    assert verdicts(case(watermark=120, age=120.1))[:2] == ("overdue", "lost")


@pytest.mark.parametrize("watermark", [None, -1, 29.999])
def test_no_verdict_from_absence_without_coverage(watermark: float | None) -> None:
    """However long ago: what was not read completely is not absent."""
    since = None if watermark is None else -5
    assert verdicts(case(since=since, watermark=watermark, age=10_000))[:2] == (None, None)


def test_hole_in_the_coverage_is_void() -> None:
    """Coverage that began after the request can never prove absence."""
    assert verdicts(case(since=1, watermark=30, age=31)) == ("void", None, "no_coverage", "")
    assert verdicts(case(since=1, watermark=120, age=121)) == ("void", "void", "no_coverage", "no_coverage")


def test_hole_does_not_hide_an_arrival() -> None:
    """A message that is there is there, whatever was missed before."""
    assert verdicts(case(since=1, watermark=120, age=121, sighted=seen(0, 3)))[:2] == ("on_time", "delivered")


def test_blind_is_void_only_after_the_grace_and_a_read_that_failed_after_the_horizon() -> None:
    """Blindness stays open until now >= horizon + grace and a read begun after the horizon has failed."""
    end = 120 + blind_grace(120)
    assert verdicts(case(watermark=5, age=end - 1, failed_read=121))[:2] == (None, None)
    assert verdicts(case(watermark=5, age=end + 1, failed_read=119))[:2] == (None, None)
    assert verdicts(case(watermark=5, age=end, failed_read=120)) == ("void", "void", "blind", "blind")


def test_blind_grace_is_a_minute_or_a_tenth_of_the_give_up() -> None:
    """max(60 s, 10 %)."""
    assert (blind_grace(120), blind_grace(3600)) == (60, 360)


def test_vanished_world_is_void_and_never_lost() -> None:
    """Nobody serves the channel's identity any more."""
    assert verdicts(case(since=None, watermark=None, age=181, served=False)) == (
        "void", "void", "world_gone", "world_gone",
    )  # fmt: skip


def test_damaged_and_misplaced_keep_their_timeliness() -> None:
    """What is wrong with a message does not change when it came."""
    damaged = case(sighted=seen(0, 1, checks_failed=("text missing: 'x'",)))
    assert verdicts(damaged) == ("on_time", "damaged", "", "text missing: 'x'")
    assert verdicts(case(sighted=seen(31, 32, misplaced=True)))[:2] == ("overdue", "misplaced")


def test_what_certainly_came_after_the_horizon_is_lost() -> None:
    """Seen by a late read, but a provider's stamp says that it came only after the horizon: lost, and it says so."""
    assert verdicts(case(sighted=seen(121, 122), age=123)) == (
        "overdue", "lost", "visible only after the deadline", "visible only after the horizon",
    )  # fmt: skip
    assert verdicts(case(sighted=seen(119, 122), age=123))[:2] == ("overdue", "delivered")


def test_never_arriving_delivery() -> None:
    """Withheld or unwanted only if the stop was answered before its effect was due."""
    never = case(arrive=Arrive.NEVER, stopped_in_time=True)
    assert verdicts(replace(never, watermark=120, age=121))[:2] == ("moot", "withheld")
    assert verdicts(replace(never, sighted=seen(0, 1)))[:2] == ("moot", "unwanted")
    assert verdicts(replace(never, stopped_in_time=None))[:2] == ("moot", None)
    assert verdicts(replace(never, stopped_in_time=False)) == ("moot", "void", "must not arrive", "stop_too_late")


bounds = st.floats(min_value=-10, max_value=400, allow_nan=False)
intervals = st.tuples(bounds, bounds).map(lambda pair: Interval(min(pair), max(pair)))
cases = st.builds(
    Case,
    within=st.just(30.0),
    give_up=st.just(120.0),
    age=st.floats(min_value=0, max_value=1000),
    result=st.sampled_from([None, *PublishResult]),
    sighted=st.none() | st.builds(Sighted, intervals, st.sampled_from([(), ("x",)]), st.booleans()),
    seen_elsewhere=st.booleans(),
    since=st.none() | bounds,
    watermark=st.none() | bounds,
    failed_read=st.none() | bounds,
    served=st.booleans(),
    arrive=st.sampled_from(list(Arrive)),
    stopped_in_time=st.sampled_from([None, True, False]),
)


@given(cases)
def test_absence_is_never_claimed_without_coverage(any_case: Case) -> None:
    """Overdue-by-silence, lost, unanswered-by-silence and withheld each need since <= request and watermark."""
    found = judge(any_case)
    silent = any_case.sighted is None and any_case.result not in {PublishResult.UNREACHABLE, PublishResult.REFUSED}
    covered = any_case.since is not None and any_case.since <= 0 and any_case.watermark is not None
    claims = {Outcome.LOST, Outcome.UNANSWERED, Outcome.WITHHELD}
    if silent and found.outcome is not None and found.outcome.verdict in claims:
        assert covered
        assert any_case.watermark is not None
        assert any_case.watermark >= any_case.give_up
    if silent and found.timeliness is not None and found.timeliness.verdict is Timeliness.OVERDUE:
        assert covered
        assert any_case.watermark is not None
        assert any_case.watermark >= any_case.within


@given(cases)
def test_own_fault_never_counts_against_the_target(any_case: Case) -> None:
    """A fault of ours is void in both questions, always."""
    found = judge(replace(any_case, result=PublishResult.OWN_FAULT))
    assert found.timeliness is not None
    assert found.outcome is not None
    assert (found.timeliness.verdict, found.outcome.verdict) == (Timeliness.VOID, Outcome.VOID)


@given(cases, st.floats(min_value=0, max_value=500), st.floats(min_value=0, max_value=500))
def test_time_and_coverage_alone_never_reopen_a_question(any_case: Case, later: float, further: float) -> None:
    """What was certain stays answered when nothing but time and the watermark move on."""
    first = judge(any_case)
    mark = None if any_case.watermark is None else any_case.watermark + further
    second = judge(replace(any_case, age=any_case.age + later, watermark=mark))
    assert first.timeliness is None or second.timeliness is not None
    assert first.outcome is None or second.outcome is not None


@given(cases)
def test_what_other_channels_saw_says_nothing_of_an_accepted_publish(any_case: Case) -> None:
    """Its deliveries are judged each by itself: a sighting on one need not have its sisters judged again."""
    accepted = replace(any_case, result=ACCEPTED)
    assert judge(replace(accepted, seen_elsewhere=True)) == judge(replace(accepted, seen_elsewhere=False))
