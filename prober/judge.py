"""Case -> verdicts: the two questions about a delivery, settled as soon as they are certain.

Pure. All times are seconds since the delivery's origin: the instant of its request, or its scheduled time.
"""

from __future__ import annotations

from dataclasses import dataclass

from prober.interval import Interval
from prober.model import Arrive, Outcome, PublishResult, Timeliness, VoidReason

MIN_BLIND_GRACE = 60.0
"""Seconds after the horizon during which a blind channel may still come back, at the least."""

BLIND_GRACE_SHARE = 0.1
"""The same as a share of the give-up."""

_NEVER_LEFT = {PublishResult.REFUSED, PublishResult.UNREACHABLE, PublishResult.OWN_FAULT}


@dataclass(frozen=True, slots=True)
class Sighted:
    """The first genuine sighting: its latency since the origin, and what was wrong with the message."""

    latency: Interval
    checks_failed: tuple[str, ...] = ()
    misplaced: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """All that is known about one delivery when it is judged.

    ``result`` is None while no answer is on record; ``since`` and ``watermark`` bound the channel's coverage (None:
    never read); ``failed_read`` is when the latest failed read began (None: the last read worked); ``served`` is
    False when no observer serves the channel's identity any more; ``stopped_in_time`` says, for a delivery that must
    not arrive, whether the stopping step was answered before its effect was due (None: not answered yet).
    """

    within: float
    give_up: float
    age: float
    result: PublishResult | None
    sighted: Sighted | None = None
    seen_elsewhere: bool = False
    since: float | None = None
    watermark: float | None = None
    failed_read: float | None = None
    served: bool = True
    arrive: Arrive = Arrive.ALWAYS
    stopped_in_time: bool | None = None


@dataclass(frozen=True, slots=True)
class TimelinessFinding:
    """The answer to "was it visible within the deadline?" and why."""

    verdict: Timeliness
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OutcomeFinding:
    """The answer to "what became of it?" and why."""

    verdict: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What can be said now; None where the question stays open."""

    timeliness: TimelinessFinding | None
    outcome: OutcomeFinding | None


def judge(case: Case) -> Judgement:
    """Answer what is certain by the case table of the design; leave open what is not."""
    return Judgement(_timeliness(case), _outcome(case))


def blind_grace(give_up: float) -> float:
    """Seconds after the horizon before a blind channel makes a delivery void."""
    return max(MIN_BLIND_GRACE, BLIND_GRACE_SHARE * give_up)


def _timeliness(case: Case) -> TimelinessFinding | None:
    if case.result is None:
        return None
    if case.result is PublishResult.OWN_FAULT:
        return _void_timeliness(VoidReason.OWN_FAULT)
    if case.result in _NEVER_LEFT:
        return TimelinessFinding(Timeliness.MOOT, case.result.value)
    if case.arrive is Arrive.NEVER:
        return TimelinessFinding(Timeliness.MOOT, "must not arrive")
    if case.sighted is not None:
        return _arrived(case.sighted.latency, case.within)
    if _absent_until(case, case.within):
        return _absent_at_deadline(case)
    hole = _void_reason(case, case.within)
    return _void_timeliness(hole) if hole else None


def _arrived(latency: Interval, within: float) -> TimelinessFinding:
    if latency.upper < 0:
        return TimelinessFinding(Timeliness.EARLY, "visible before it was due")
    if latency.upper <= within:
        return TimelinessFinding(Timeliness.ON_TIME)
    # A complete read that began at the lower bound did not show it: at that very instant it was not visible yet
    # (measurement: bad if and only if lower >= the deadline).
    if latency.lower >= within:
        return TimelinessFinding(Timeliness.OVERDUE, "visible only after the deadline")
    return TimelinessFinding(Timeliness.AMBIGUOUS, "the interval straddles the deadline")


def _absent_at_deadline(case: Case) -> TimelinessFinding:
    if case.result is PublishResult.ACCEPTED or case.seen_elsewhere:
        return TimelinessFinding(Timeliness.OVERDUE, "not visible at the deadline")
    if case.result is PublishResult.INTERRUPTED:
        return _void_timeliness(VoidReason.OWN_FAULT)
    return TimelinessFinding(Timeliness.MOOT, str(case.result))


def _outcome(case: Case) -> OutcomeFinding | None:
    if case.result is None:
        return None
    if case.result is PublishResult.OWN_FAULT:
        return _void_outcome(VoidReason.OWN_FAULT)
    if case.result is PublishResult.UNREACHABLE:
        return OutcomeFinding(Outcome.UNANSWERED, "the target could not be reached")
    if case.result is PublishResult.REFUSED:
        return OutcomeFinding(Outcome.REFUSED)
    if case.arrive is Arrive.NEVER:
        return _stopped(case)
    if case.sighted is not None:
        return _visible(case.sighted, case.give_up)
    if _absent_until(case, case.give_up):
        return _absent_at_horizon(case)
    hole = _void_reason(case, case.give_up)
    return _void_outcome(hole) if hole else None


def _visible(sighted: Sighted, give_up: float) -> OutcomeFinding:
    if sighted.latency.lower > give_up:
        return OutcomeFinding(Outcome.LOST, "visible only after the horizon")
    if sighted.checks_failed:
        return OutcomeFinding(Outcome.DAMAGED, "; ".join(sighted.checks_failed))
    if sighted.misplaced:
        return OutcomeFinding(Outcome.MISPLACED, "found in the junk folder")
    return OutcomeFinding(Outcome.DELIVERED)


def _absent_at_horizon(case: Case) -> OutcomeFinding:
    if case.result is PublishResult.ACCEPTED or case.seen_elsewhere:
        return OutcomeFinding(Outcome.LOST, "not visible at the horizon")
    if case.result is PublishResult.INTERRUPTED:
        return _void_outcome(VoidReason.OWN_FAULT)
    return OutcomeFinding(Outcome.UNANSWERED, str(case.result))


def _stopped(case: Case) -> OutcomeFinding | None:
    if case.stopped_in_time is False:
        return _void_outcome(VoidReason.STOP_TOO_LATE)
    if case.stopped_in_time is None:
        return None
    if case.sighted is not None:
        return OutcomeFinding(Outcome.UNWANTED, "arrived although it was stopped in time")
    if _absent_until(case, case.give_up):
        return OutcomeFinding(Outcome.WITHHELD)
    hole = _void_reason(case, case.give_up)
    return _void_outcome(hole) if hole else None


def _absent_until(case: Case, bound: float) -> bool:
    """Whether coverage proves that nothing was visible from the origin until ``bound``."""
    return case.since is not None and case.watermark is not None and case.since <= 0 and case.watermark >= bound


def _void_reason(case: Case, bound: float) -> VoidReason | None:
    """Why we can never know whether it was visible at ``bound``, None while we still may."""
    if case.since is not None and case.watermark is not None and case.since > 0 and case.watermark >= bound:
        return VoidReason.NO_COVERAGE
    if case.age < case.give_up + blind_grace(case.give_up):
        return None
    if not case.served:
        return VoidReason.WORLD_GONE
    if case.failed_read is not None and case.failed_read >= case.give_up:
        return VoidReason.BLIND
    return None


def _void_timeliness(reason: VoidReason) -> TimelinessFinding:
    return TimelinessFinding(Timeliness.VOID, reason.value)


def _void_outcome(reason: VoidReason) -> OutcomeFinding:
    return OutcomeFinding(Outcome.VOID, reason.value)
