"""Facts -> one case, and messages -> deliveries: clocks, bounds, and who may be believed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.clock import CROSS_BOOT_UNCERTAINTY, Instant
from prober.correlate import (
    RETENTION,
    CoverageFact,
    DeliveryFacts,
    KnownKey,
    Offset,
    SightingFact,
    StepFact,
    attribute,
    correlate,
    sender_allowed,
)
from prober.interval import CLOCK_DRIFT, Interval
from prober.marker import Found, Standing
from prober.model import Arrive, How, KeyKind, PublishResult, Stamp, StepState, StrayReason

START = Instant(1_000_000.0, 500.0, "boot")


def at(seconds: float) -> Instant:
    return START.plus(seconds)


def step(**changes: object) -> StepFact:
    fact = StepFact(0, StepState.ANSWERED, PublishResult.ACCEPTED, at(-0.1), at(0), at(0.05))
    return replace(fact, **changes)  # type: ignore[arg-type]


def sighting(lower: float | None, upper: float, **changes: object) -> SightingFact:
    fact = SightingFact(None if lower is None else at(lower), at(upper), How.PUSH, False, (), None)
    return replace(fact, **changes)  # type: ignore[arg-type]


def facts(**changes: object) -> DeliveryFacts:
    fact = DeliveryFacts(
        within=30,
        give_up=120,
        arrive=Arrive.ALWAYS,
        scheduled_time=None,
        step=step(),
        stop=None,
        sighting=None,
        seen_elsewhere=False,
        coverage=CoverageFact(at(-10), at(3)),
        failed_read=None,
        served=True,
        offsets={},
    )
    return replace(fact, **changes)  # type: ignore[arg-type]


def latency(given_facts: DeliveryFacts) -> Interval:
    correlated = correlate(given_facts, at(60))
    assert correlated is not None
    assert correlated.case.sighted is not None
    return correlated.case.sighted.latency


def test_nothing_is_correlated_before_the_step_is_claimed() -> None:
    """A step that only waits for its time has no origin."""
    waiting = step(state=StepState.PLANNED, result=None, taken_at=None, requested_at=None, ended_at=None)
    assert correlate(facts(step=waiting), at(1)) is None


def test_bounds_count_from_the_request() -> None:
    """Both bounds and the coverage count from the instant just before the first byte."""
    found = correlate(facts(sighting=sighting(2, 3)), at(60))
    assert found is not None
    assert found.case.sighted is not None
    assert found.case.sighted.latency == Interval(2, 3, "push")
    assert (found.case.since, found.case.watermark, found.case.age) == (-10, 3, 60)


def test_a_read_before_the_request_bounds_nothing() -> None:
    """What was last absent before the request was absent at the request at the earliest."""
    assert latency(facts(sighting=sighting(-5, 3))) == Interval(0, 3, "push")
    assert latency(facts(sighting=sighting(None, 3))) == Interval(0, 3, "push")


def test_interruption_widens_the_interval() -> None:
    """The request left between the claim and the death: upper from the one, lower from the other."""
    died = step(result=PublishResult.INTERRUPTED, requested_at=None, ended_at=at(4))
    found = latency(facts(step=died, sighting=sighting(6, 7)))
    assert found.lower == pytest.approx(2)
    assert found.upper == pytest.approx(7.1)
    assert latency(facts(step=died, sighting=sighting(3, 7))).lower == 0


def test_scheduled_publication_counts_from_its_time() -> None:
    """Before the scheduled time a latency is negative; coverage must still begin before the request."""
    scheduled = facts(scheduled_time=START.wall + 20, sighting=sighting(23, 24))
    assert latency(scheduled) == Interval(3, 4, "push")
    early = replace(scheduled, sighting=sighting(None, 5))
    assert latency(early) == Interval(-20, -15, "push")
    found = correlate(scheduled, at(60))
    assert found is not None
    assert found.case.since == -10


def test_another_boot_widens_by_what_the_wall_clock_may_be_off() -> None:
    """Across a reboot only the wall clocks compare."""
    lower, upper = Instant(START.wall + 8, 1.0, "next"), Instant(START.wall + 10, 3.0, "next")
    after = SightingFact(lower, upper, How.PUSH, False, (), None)
    found = latency(facts(sighting=after))
    assert found == Interval(8 - CROSS_BOOT_UNCERTAINTY, 10 + CROSS_BOOT_UNCERTAINTY, "push")


def test_provider_stamp_refines_by_its_bounded_clock() -> None:
    """A stamp is used only through an offset that control messages bound, and only narrows."""
    stamp = Stamp(START.wall + 2.0, 0.5, "discord")
    seen = sighting(0, 10, stamp=stamp, how=How.POLL)
    offset = Offset(Interval(START.wall - 500.0 - 0.1, START.wall - 500.0 + 0.1, "discord"), "boot", START.boottime)
    assert latency(facts(sighting=seen)) == Interval(0, 10, "poll")
    found = latency(facts(sighting=seen, offsets={"discord": offset}))
    assert found.lower == pytest.approx(1.9, abs=10 * CLOCK_DRIFT)
    assert found.upper == pytest.approx(2.6, abs=10 * CLOCK_DRIFT)
    assert found.basis == "poll+discord"
    assert latency(facts(sighting=seen, offsets={"discord": replace(offset, boot_id="other")})) == Interval(
        0, 10, "poll"
    )


def test_stamp_of_a_pushed_message_says_nothing_of_an_earlier_copy() -> None:
    """Beside what was pushed there may be an earlier copy whose push got lost: only the upper bound is narrowed."""
    offset = Offset(Interval(START.wall - 500.0 - 0.1, START.wall - 500.0 + 0.1, "discord"), "boot", START.boottime)
    pushed = sighting(0, 10, stamp=Stamp(START.wall + 2.0, 0.5, "discord"))
    found = latency(facts(sighting=pushed, offsets={"discord": offset}))
    assert found.lower == 0
    assert found.upper == pytest.approx(2.6, abs=10 * CLOCK_DRIFT)
    assert found.basis == "push+discord"
    late = sighting(0, 32, stamp=Stamp(START.wall + 31.0, 2.0, "discord"))
    straddling = latency(facts(sighting=late, offsets={"discord": offset}))
    assert straddling == Interval(0, 32, "push")


def test_an_old_bound_on_a_clock_narrows_less() -> None:
    """Bounds of an hour ago have widened by what two clocks may drift apart in an hour, on either side."""
    seen = sighting(0, 10, stamp=Stamp(START.wall + 5.0, 0.0, "discord"), how=How.POLL)
    there = Interval(START.wall - 500.0, START.wall - 500.0, "discord")
    fresh = latency(facts(sighting=seen, offsets={"discord": Offset(there, "boot", START.boottime)}))
    assert fresh.width == pytest.approx(2 * CLOCK_DRIFT * 10)
    old = latency(facts(sighting=seen, offsets={"discord": Offset(there, "boot", START.boottime - 3600.0)}))
    assert old.width == pytest.approx(2 * CLOCK_DRIFT * 3610)
    assert 5.0 in old


def test_stamp_of_what_a_first_read_shows_says_nothing_of_an_earlier_copy() -> None:
    """It shows the newest that is still there: the copy that came in time may be gone. It was there by its stamp."""
    offset = Offset(Interval(START.wall - 500.0 - 0.1, START.wall - 500.0 + 0.1, "discord"), "boot", START.boottime)
    seen = sighting(None, 300, stamp=Stamp(START.wall + 100.0, 0.5, "discord"), how=How.HISTORY)
    found = latency(facts(sighting=seen, offsets={"discord": offset}))
    assert found.lower == 0
    assert found.upper == pytest.approx(100.6, abs=400 * CLOCK_DRIFT)
    assert found.basis == "history+discord"


def test_a_stamp_from_before_a_step_narrows_nothing() -> None:
    """What the provider stamped with the clock that it had before is not read with the one that it has now."""
    seen = sighting(0, 10, stamp=Stamp(START.wall + 5.0, 0.0, "discord"), how=How.POLL)
    offset = Offset(Interval(START.wall - 500.0, START.wall - 500.0, "discord"), "boot", START.boottime + 60)
    after = replace(offset, since=START.boottime)
    assert latency(facts(sighting=seen, offsets={"discord": after})).basis == "poll+discord"
    before = replace(offset, since=START.boottime + 0.001)
    assert latency(facts(sighting=seen, offsets={"discord": before})) == Interval(0, 10, "poll")


def test_contradicting_stamp_is_an_alarm_and_changes_nothing() -> None:
    """An empty intersection names the clock and keeps our own interval."""
    seen = sighting(0, 1, stamp=Stamp(START.wall + 50.0, 0.001, "discord"))
    offset = Offset(Interval(START.wall - 500.0, START.wall - 500.0, "discord"), "boot", START.boottime)
    found = correlate(facts(sighting=seen, offsets={"discord": offset}), at(60))
    assert found is not None
    assert found.contradiction == "discord"
    assert found.case.sighted is not None
    assert found.case.sighted.latency == Interval(0, 1, "push")


def test_read_that_lacked_what_was_already_pushed_is_an_alarm() -> None:
    """A complete read that should have shown the message contradicts its push: the wider interval stands."""
    found = correlate(facts(sighting=sighting(5, 3)), at(60))
    assert found is not None
    assert found.contradiction == "coverage"
    assert found.case.sighted is not None
    assert found.case.sighted.latency == Interval(0, 3, "push")


def test_stop_counts_only_if_it_was_answered_before_its_effect_was_due() -> None:
    """A withdrawal that is answered after the scheduled time proves nothing."""
    never = facts(arrive=Arrive.NEVER, scheduled_time=START.wall + 20)
    for stop, expected in [
        (step(number=1, ended_at=at(19)), True),
        (step(number=1, ended_at=at(21)), False),
        (step(number=1, result=PublishResult.ERROR), False),
        (step(number=1, result=None, ended_at=None), None),
    ]:
        found = correlate(replace(never, stop=stop), at(60))
        assert found is not None
        assert found.case.stopped_in_time is expected


@given(
    requested=st.floats(0, 100),
    visible=st.floats(0, 100),
    reads=st.lists(st.floats(-50, 300), max_size=8),
    lag=st.floats(0, 5),
)
def test_the_interval_holds_the_truth(requested: float, visible: float, reads: list[float], lag: float) -> None:
    """Whatever the reads: a message visible at an instant after the request is seen in an interval around it."""
    visible += requested
    lower = max((read for read in reads if read < visible), default=None)
    seen = sighting(lower, visible + lag)
    asked = step(taken_at=at(requested - 0.1), requested_at=at(requested))
    found = latency(facts(step=asked, sighting=seen))
    truth = visible - requested
    assert found.lower <= truth + 1e-6
    assert found.upper >= truth - 1e-6
    if lower is not None:
        assert found.lower >= lower - requested - 1e-6


def found(kind: KeyKind, value: str, standing: Standing, minted: float | None = None) -> Found:
    return Found(kind, value, standing, minted)


GENUINE = found(KeyKind.MARKER, "m1", Standing.GENUINE, 0.0)
ID = found(KeyKind.PUBLICATION_ID, "p1", Standing.UNSIGNED)


def attributed(*keys: Found, known: tuple[KnownKey, ...] = (), sender: bool = True, now: float = 0.0) -> object:
    result = attribute(keys, known, sender_allowed=sender, now_wall=now)
    return result.deliveries or result.stray or result.candidates


def test_verified_key_decides() -> None:
    """A genuine key counts from any sender, once, on a channel on which its probe has a delivery."""
    assert attributed(GENUINE, known=(KnownKey("m1", "probe", 7),), sender=False) == (7,)
    twice = (KnownKey("m1", "probe", 7), KnownKey("c1", "probe", 7))
    assert attributed(GENUINE, found(KeyKind.CONTENT_ID, "c1", Standing.GENUINE, 0.0), known=twice) == (7,)


def test_several_probes_in_one_message() -> None:
    """A digest that repeats older alerts shows each of them."""
    other = found(KeyKind.MARKER, "m2", Standing.GENUINE, 0.0)
    assert attributed(GENUINE, other, known=(KnownKey("m1", "a", 7), KnownKey("m2", "b", 8))) == (7, 8)


def test_genuine_key_that_nobody_expects_here() -> None:
    """Another channel's, another life's, or long past: a stray by its reason."""
    assert attributed(GENUINE) is StrayReason.FOREIGN
    assert attributed(GENUINE, known=(KnownKey("m1", "probe", None),)) is StrayReason.FOREIGN
    assert attributed(GENUINE, now=RETENTION + 1) is StrayReason.EXPIRED


def test_forged_and_foreign_keys() -> None:
    """A known key id with a wrong MAC is forged, an unknown one foreign, whatever ids stand beside them."""
    forged = found(KeyKind.MARKER, "m9", Standing.FORGED)
    foreign = found(KeyKind.MARKER, "m8", Standing.FOREIGN)
    known = (KnownKey("p1", "probe", 7),)
    assert attributed(forged, ID, known=known) is StrayReason.FORGED
    assert attributed(foreign, ID, known=known) is StrayReason.FOREIGN
    assert attributed(forged, GENUINE, known=(KnownKey("m1", "probe", 7),)) == (7,)


def test_id_told_by_the_target_counts_from_an_allowed_sender_only() -> None:
    """An unsigned id is believed from an allowed sender; one that is not known yet is kept."""
    known = (KnownKey("p1", "probe", 7),)
    assert attributed(ID, known=known) == (7,)
    assert attributed(ID, known=known, sender=False) is StrayReason.UNMATCHED
    assert attributed(ID) == ("p1",)


@pytest.mark.parametrize(
    ("sender", "allowed", "believed"),
    [
        ("news@example.org", (), True),
        ("News@Example.org", ("news@example.org",), True),
        ("news@example.org", ("@example.org",), True),
        ("news@evil-example.org", ("@example.org",), False),
        ("news@example.org.evil.org", ("@example.org",), False),
        ("B123 U456", ("U456",), True),
        ("", ("U456",), False),
    ],
)
def test_senders(sender: str, allowed: tuple[str, ...], believed: bool) -> None:
    """Addresses and ids compare whole, domains by their @."""
    assert sender_allowed(sender, allowed) is believed
