"""What a report computes from deliveries, against lifelines, scipy and counting by hand."""

from __future__ import annotations

import math
import warnings
from array import array
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from prober.ledger.windows import Course, Group, Pending, Times, Window
from prober.report.lanes import MOMENTS, lane, worst
from prober.report.overview import SHOWN_QUANTILES, Lane
from prober.statistics import kaplan_meier, survival_quantile

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what pandas says of itself as it is loaded is not ours
    from lifelines import KaplanMeierFitter

CALM = settings(deadline=None, max_examples=60)
WINDOW = Window(0.0, 960.0)
LATENCIES = st.integers(1, 60).map(lambda tenths: tenths / 2)


def times(first: int, latencies: list[tuple[float, float] | None], planned: list[float] | None = None) -> Times:
    """A group's times; latencies are (lower, upper)."""
    count = len(latencies)
    return Times(
        array("q", range(first, first + count)),
        array("d", planned or map(float, range(count))),
        array("d", (math.nan if each is None else each[0] for each in latencies)),
        array("d", (math.nan if each is None else each[1] for each in latencies)),
    )


def course(planned: float = 0.0, upper: float | None = 1.0, **stages: float) -> Course:
    return Course("s", "alert", "slack", "slack", 30.0, 120.0, planned, "on_time", "delivered", 0.5, upper, stages)


Verdicts = dict[tuple[str | None, str | None], Times]


def made(groups: Verdicts, pending: tuple[float, ...] = ()) -> Lane:
    named = {Group("s", "slack", *verdicts): found for verdicts, found in groups.items()}
    awaited = [Pending("s", "slack", absent) for absent in pending]
    return lane(("s", "slack"), named, awaited, [course()], WINDOW)


def fitted(observed: list[float], lost: int, absent: list[float]) -> Any:
    """The survival curve as lifelines fits it: a lost one is never observed, however long one waits."""
    far = 1e9
    durations = [*observed, *absent, *[far] * lost]
    fitter = KaplanMeierFitter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitter.fit(durations, [True] * len(observed) + [False] * (len(absent) + lost))
    return fitter


@CALM
@given(st.lists(LATENCIES, min_size=1, max_size=40), st.integers(0, 8), st.lists(LATENCIES, min_size=1, max_size=12))
def test_a_live_window_is_estimated_as_lifelines_does(observed: list[float], lost: int, absent: list[float]) -> None:
    """With some still awaited the quantiles are Kaplan and Meier's, lost ones never observed."""
    groups: Verdicts = {("on_time", "delivered"): times(0, [(value, value) for value in observed])}
    groups[None, None] = times(100, [None] * len(absent))
    if lost:
        groups["overdue", "lost"] = times(200, [None] * lost)
    found = made(groups, tuple(absent))
    assert found.live
    fitter = fitted(observed, lost, absent)
    steps = dict(kaplan_meier([*observed, *[math.inf] * lost], absent))
    for time, share in steps.items():
        assert share == pytest.approx(float(fitter.predict(time)), abs=1e-9)
    for name, q in SHOWN_QUANTILES.items():
        table = fitter.survival_function_.iloc[:, 0]
        reached = [time for time, share in table.items() if share <= 1 - q + 1e-9 and time < 1e9]
        expected = reached[0] if reached else math.inf
        assert found.quantiles[name][1] == pytest.approx(expected)


@CALM
@given(st.lists(LATENCIES, min_size=1, max_size=60), st.integers(0, 12))
def test_a_settled_window_ranks_all_that_was_expected(observed: list[float], lost: int) -> None:
    """Lost ones lie at infinity, as numpy's inverted distribution ranks them; and the estimate says the same."""
    groups: Verdicts = {("on_time", "delivered"): times(0, [(value - 0.5, value) for value in observed])}
    if lost:
        groups["overdue", "lost"] = times(100, [None] * lost)
    found = made(groups)
    assert not found.live
    everything = sorted([*observed, *[math.inf] * lost])
    for name, q in SHOWN_QUANTILES.items():
        rank = max(math.ceil(round(q * len(everything), 9)), 1)
        assert found.quantiles[name] == (everything[rank - 1] - 0.5, everything[rank - 1])
        steps = kaplan_meier(everything, [])
        assert survival_quantile(steps, q) == everything[rank - 1]
    for time, least, most in found.curve:
        assert least == pytest.approx(sum(value <= time for value in observed) / len(everything))
        assert most == pytest.approx(sum(value - 0.5 <= time for value in observed) / len(everything))


@CALM
@given(st.integers(0, 300), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_the_share_on_time_has_wilson_s_bounds_and_a_band(good: int, overdue: int, unsure: int, void: int) -> None:
    """Of those that could be judged; ambiguous ones open a band, void ones do not count."""
    amounts = {"on_time": good, "overdue": overdue, "ambiguous": unsure, "void": void}
    groups: Verdicts = {
        (verdict, "void" if verdict == "void" else "delivered"): times(1000 * n, [(1.0, 2.0)] * amount)
        for n, (verdict, amount) in enumerate(amounts.items())
        if amount
    }
    share = made(groups or {("moot", "refused"): times(0, [None])}).share
    of = good + overdue + unsure
    assert (share.good, share.of) == (good, of)
    if of:
        bounds = stats.binomtest(good, of).proportion_ci(0.95, method="wilson")
        assert share.wilson == pytest.approx((bounds.low, bounds.high))
        assert share.band == (good / of, (good + unsure) / of)
    else:
        assert share.ratio is None


def test_what_is_decided_early_does_not_flatter_a_live_window() -> None:
    """Of the deliveries planned after the first undecided one only the quick are decided: none of them counts yet."""
    groups: Verdicts = {
        ("on_time", "delivered"): times(0, [(1.0, 2.0)] * 6, [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]),
        ("overdue", "lost"): times(10, [None], [5.0]),
        (None, None): times(20, [None, None], [25.0, 45.0]),
    }
    share = made(groups, (3.0, 1.0)).share
    assert (share.good, share.of) == (3, 4)


def test_the_course_over_time_keeps_each_delivery_in_its_moment() -> None:
    """Counts, losses and quantiles of each stretch, lost ones infinitely late."""
    groups: Verdicts = {
        ("on_time", "delivered"): times(0, [(1.0, 2.0), (1.0, 4.0)], [0.0, 9.9]),
        ("overdue", "lost"): times(10, [None, None], [0.0, 955.0]),
        ("void", "void"): times(20, [None], [955.0]),
    }
    moments = made(groups).moments
    assert len(moments) == MOMENTS
    first, last = moments[0], moments[-1]
    assert (first.count, first.lost, first.void, first.p50, first.p95) == (3, 1, 0, 4.0, math.inf)
    assert (last.count, last.lost, last.void, last.p50) == (2, 1, 1, math.inf)
    assert sum(moment.count for moment in moments) == 5


def test_stages_are_in_the_order_of_their_medians_and_end_where_people_see() -> None:
    """Waypoints of the sample, visible last even where a stranger's clock says otherwise."""
    courses = [course(n, 2.0 + n, answered=0.1, mailbox=1.0, late_clock=9.0) for n in range(3)]
    groups = {Group("s", "slack", "on_time", "delivered"): times(0, [(1.0, 2.0)] * 3)}
    found = lane(("s", "slack"), groups, [], courses, WINDOW)
    assert [(stage.name, stage.p50) for stage in found.stages] == [
        ("answered", 0.1), ("mailbox", 1.0), ("late_clock", 9.0), ("visible", 3.0),
    ]  # fmt: skip


def test_the_worst_come_first() -> None:
    """Lost before damaged before merely late, the slower first, and none that went well."""
    groups = {
        Group("s", "slack", "on_time", "delivered"): times(0, [(1.0, 2.0)]),
        Group("s", "slack", "overdue", "delivered"): times(10, [(31.0, 32.0), (40.0, 41.0)]),
        Group("s", "slack", "on_time", "damaged"): times(20, [(1.0, 2.0)]),
        Group("s", "slack", "overdue", "lost"): times(30, [None, None]),
    }
    assert worst(groups, 9) == [31, 30, 20, 11, 10]
    assert worst(groups, 2) == [31, 30]
