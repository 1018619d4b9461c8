"""Intervals: the algebra of bounds, and the two ways in which clocks make them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.interval import Interval, latency_from_stamp, offset_from_exchange

CALM = settings(deadline=None)  # the machine may be busy with other tests
# Multiples of 1/1024 below 2**31 add and subtract without rounding.
EXACT = st.integers(-(2**31) * 1024, 2**31 * 1024).map(lambda ticks: ticks / 1024)
SHORT = st.integers(0, 600 * 1024).map(lambda ticks: ticks / 1024)
RESOLUTION = st.sampled_from([1 / 1024, 1 / 8, 1.0])
BASIS = st.sampled_from(["", "push", "poll", "history", "slack"])


@st.composite
def _intervals(draw: st.DrawFn) -> Interval:
    lower = draw(st.integers(-20, 20))
    return Interval(lower, lower + draw(st.integers(0, 20)), draw(BASIS))


@CALM
@given(_intervals(), _intervals(), st.integers(-25, 45))
def test_a_value_is_in_both_exactly_when_it_is_in_the_intersection(one: Interval, other: Interval, value: int) -> None:
    """The intersection allows what both allow, and is None when that is nothing."""
    both = one.intersection(other)
    assert (value in one and value in other) == (both is not None and value in both)
    assert (both is not None) == one.intersects(other) == other.intersects(one)


@CALM
@given(_intervals(), _intervals())
def test_intersection_commutes(one: Interval, other: Interval) -> None:
    """The order of two intervals changes neither the bounds nor the set of names in the basis."""
    there, back = one.intersection(other), other.intersection(one)
    if there is None or back is None:
        assert there is back
        return
    assert (there.lower, there.upper) == (back.lower, back.upper)
    assert set(there.basis.split("+")) == set(back.basis.split("+"))


@CALM
@given(_intervals(), _intervals(), _intervals())
def test_intersection_is_associative(one: Interval, two: Interval, three: Interval) -> None:
    """Three intervals may be intersected in any grouping."""
    left, right = one.intersection(two), two.intersection(three)
    assert (left and left.intersection(three)) == (right and one.intersection(right))


@CALM
@given(_intervals())
def test_intersection_with_itself_changes_nothing(one: Interval) -> None:
    """Intersection is idempotent, in its basis too."""
    assert one.intersection(one) == one


@CALM
@given(_intervals(), _intervals())
def test_an_intersection_is_never_wider(one: Interval, other: Interval) -> None:
    """A refinement only narrows, and it names every clock that it rests on once."""
    both = one.intersection(other)
    if both is not None:
        assert both.width <= min(one.width, other.width)
        assert one.lower <= both.lower <= both.middle <= both.upper <= one.upper
        assert sorted(both.basis.split("+")) == sorted({one.basis, other.basis} - {""} or {""})


@CALM
@given(_intervals(), st.integers(0, 9), st.integers(-9, 9))
def test_widening_and_shifting(one: Interval, doubt: int, by: int) -> None:
    """Doubt is added on either side, a shift moves both bounds, and the basis stays."""
    assert one.widened(doubt) == Interval(one.lower - doubt, one.upper + doubt, one.basis)
    assert one.shifted(by) == Interval(one.lower + by, one.upper + by, one.basis)
    assert one.shifted(by).width == one.width
    assert one.shifted(by).shifted(-by) == one.widened(doubt).intersection(one)


@pytest.mark.parametrize(("lower", "upper"), [(1.0, 0.0), (math.nan, 1.0), (0.0, math.nan), (math.nan, math.nan)])
def test_bounds_in_the_wrong_order_are_refused(lower: float, upper: float) -> None:
    """Lower above upper, or no number at all, is a bug and raises."""
    with pytest.raises(ValueError, match="lower <= upper"):
        Interval(lower, upper)


def test_one_sided_bounds_are_possible() -> None:
    """What has no upper (or no lower) bound is an interval too."""
    assert 1e9 in Interval(0.0, math.inf)
    assert -1e9 in Interval(-math.inf, 0.0)
    assert Interval(2.0, math.inf).intersection(Interval(0.0, 3.0)) == Interval(2.0, 3.0)


def _stamped(wall: float, resolution: float) -> float:
    return math.floor(wall / resolution) * resolution


@CALM
@given(EXACT, SHORT, SHORT, SHORT, RESOLUTION)
def test_an_exchange_bounds_the_offset(sent: float, there: float, back: float, ahead: float, resolution: float) -> None:
    """The true offset of the provider's clock lies in the bounds, however the exchange's time was spent."""
    offset = ahead - 300
    stamp = _stamped(sent + there + offset, resolution)
    bounds = offset_from_exchange(sent, sent + there + back, stamp, resolution, "slack")
    assert offset in bounds
    assert bounds.width == there + back + resolution
    assert bounds.basis == "slack"


@CALM
@given(EXACT, SHORT, SHORT, st.tuples(SHORT, SHORT), RESOLUTION)
def test_a_stamp_bounds_the_latency(
    origin: float, latency: float, ahead: float, doubt: tuple[float, float], resolution: float
) -> None:
    """The true latency lies in what the stamp and the bounds on the clock's offset allow."""
    offset = ahead - 300
    stamp = _stamped(origin + latency + offset, resolution)
    below, above = doubt
    bounds = latency_from_stamp(stamp, resolution, origin, Interval(offset - below, offset + above, "slack"))
    assert latency in bounds
    assert bounds.width == below + above + resolution
    assert bounds.basis == "slack"
