"""Indicators, error budget and burn, against scipy and the published tables."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from prober.bounds import PUBLISH_BOUNDS, bound_text
from prober.burn_windows import BURN_WINDOWS, DAY, HOUR, BurnWindow, Severity
from prober.model import Outcome, PublicationKind, PublishResult, SlotState, Timeliness
from prober.objectives import (
    DEFAULT_OBJECTIVES,
    FEW,
    Counts,
    Indicator,
    Objective,
    add_up,
    budget,
    burn_rate,
    burns,
    journey,
)

CALM = settings(deadline=None)
KINDS = {"outage": "alert", "letter": "newsletter"}
Series = list[tuple[str, dict[str, str], float]]


def verdicts(name: str, label: str, amounts: dict[str, float], **labels: str) -> Series:
    """One series for each verdict."""
    return [(name, {"scenario": "outage", "kind": "alert", **labels, label: str(v)}, n) for v, n in amounts.items()]


def in_all(objective: Objective, series: Series) -> Counts:
    return sum(add_up(objective, series, KINDS).values(), Counts())


TIMELINESS: Series = verdicts(
    "timeliness_total",
    "verdict",
    {verdict: 2.0**n for n, verdict in enumerate(Timeliness)},
    channel="slack",
)
OUTCOMES: Series = verdicts(
    "deliveries_total", "outcome", {outcome: 2.0**n for n, outcome in enumerate(Outcome)}, channel="slack"
)
PUBLISHED: Series = verdicts(
    "publish_requests_total", "result", {result: 2.0**n for n, result in enumerate(PublishResult)}
)
SLOTS: Series = [
    ("slots_total", {"scenario": "outage", "state": str(state)}, 1000.0 + n) for n, state in enumerate(SlotState)
]
JOURNEYS: Series = verdicts("journeys_total", "result", {"kept": 90, "broken": 7, "void": 3})
ANSWERS: Series = verdicts(
    "publish_duration_seconds_bucket", "le", {bound_text(b): n for n, b in enumerate((*PUBLISH_BOUNDS, float("inf")))}
)


def of(series: Series, *values: str) -> float:
    """The amounts of the series with these values, added up by the test's own hand."""
    return sum(amount for _, labels, amount in series if {*labels.values()} & {str(value) for value in values})


def test_each_indicator_is_the_design_s_formula() -> None:
    """Good and valid events of all six, from series in which each verdict has an amount of its own."""
    everything = [*TIMELINESS, *OUTCOMES, *PUBLISHED, *SLOTS, *JOURNEYS, *ANSWERS]
    held_back = of(SLOTS, "upstream_5xx")
    attempted = of(PUBLISHED, *PublishResult)
    expected = {
        Indicator.PUBLISH: (
            of(PUBLISHED, "accepted"),
            attempted + held_back - of(PUBLISHED, "interrupted") - of(PUBLISHED, "own_fault"),
        ),
        Indicator.TIMELINESS: (
            of(TIMELINESS, "on_time"),
            of(TIMELINESS, "on_time", "overdue", "early", "ambiguous"),
        ),
        Indicator.DELIVERY: (
            of(OUTCOMES, "delivered"),
            of(OUTCOMES, "delivered", "damaged", "misplaced", "lost"),
        ),
        Indicator.SILENCE: (of(OUTCOMES, "withheld"), of(OUTCOMES, "withheld", "unwanted")),
        Indicator.JOURNEY: (90, 97 + held_back),
        Indicator.API_LATENCY: (of(ANSWERS, "0.01", "0.025", "0.05", "0.1", "0.15"), of(ANSWERS, "alert")),
    }
    for indicator, (good, valid) in expected.items():
        counts = in_all(Objective("x", indicator, 0.95, within=0.15), everything)
        assert (counts.good, counts.valid) == (good, valid), indicator
        assert counts.ratio == good / valid


@pytest.mark.parametrize(
    ("deliveries", "result"),
    [
        ("on_time delivered, on_time delivered", "kept"),
        ("moot withheld", "kept"),
        ("on_time delivered, overdue delivered", "broken"),
        ("on_time delivered, overdue lost", "broken"),
        ("on_time delivered, ambiguous delivered", "broken"),
        ("on_time damaged", "broken"),
        ("early delivered", "broken"),
        ("moot refused", "broken"),
        ("moot unanswered, moot unanswered", "broken"),
        ("moot delivered", "broken"),
        ("moot unwanted", "broken"),
        ("void void, on_time delivered", "void"),
        ("void delivered", "void"),
        ("moot void", "void"),
        ("void void, overdue lost", "broken"),
        ("void damaged", "broken"),
    ],
)
def test_a_journey_is_the_whole_promise(deliveries: str, result: str) -> None:
    """Kept on every channel, broken on any, void where all that is missing could not be seen."""
    pairs = [pair.split() for pair in deliveries.split(", ")]
    assert journey((Timeliness(one), Outcome(other)) for one, other in pairs) == result


def test_void_is_coverage_and_a_band() -> None:
    """Void never enters the ratio; the band says what it would be if all void and ambiguous were bad, or good."""
    counts = in_all(Objective("x", Indicator.TIMELINESS, 0.95), TIMELINESS)
    good, bad = of(TIMELINESS, "on_time"), of(TIMELINESS, "overdue", "early")
    unsure, void = of(TIMELINESS, "ambiguous"), of(TIMELINESS, "void")
    total = good + bad + unsure + void
    assert counts == Counts(good, bad, unsure, void)
    assert counts.coverage == (total - void) / total
    assert counts.band == (good / total, (good + unsure + void) / total)
    assert Counts(void=5).ratio is None
    assert Counts(void=5).coverage == 0
    assert Counts(void=5).band == (0, 1)
    assert (Counts().ratio, Counts().band, Counts().coverage) == (None, None, None)


def test_an_objective_counts_what_it_chooses() -> None:
    """Kinds, scenarios and channels choose; slots, which have no kind, go by their scenario's."""
    letters = [(name, {**labels, "scenario": "letter", "kind": "newsletter"}, n) for name, labels, n in PUBLISHED]
    held = [("slots_total", {"scenario": "letter", "state": "upstream_5xx"}, 5.0)]
    alerts = Objective("x", Indicator.PUBLISH, 0.999, kinds=frozenset({PublicationKind.ALERT}))
    both = [*PUBLISHED, *letters, *SLOTS, *held]
    assert in_all(alerts, both) == in_all(alerts, [*PUBLISHED, *SLOTS])
    named = Objective("x", Indicator.PUBLISH, 0.999, scenarios=frozenset({"letter"}))
    assert in_all(named, both).bad == in_all(named, letters).bad + 5
    email = [(name, {**labels, "channel": "email"}, 1.0) for name, labels, _ in TIMELINESS]
    by_channel = add_up(Objective("x", Indicator.TIMELINESS, 0.95), [*TIMELINESS, *email], KINDS)
    assert list(by_channel) == ["email", "slack"]
    assert by_channel["email"] == Counts(1, 2, 1, 1)
    only = Objective("x", Indicator.TIMELINESS, 0.95, channels=frozenset({"slack"}))
    assert list(add_up(only, [*TIMELINESS, *email], KINDS)) == ["slack"]


@CALM
@given(st.integers(0, 40), st.integers(1, 100_000), st.sampled_from([0.9, 0.95, 0.995, 0.999]))
def test_a_budget_of_few_events_is_an_exact_interval(bad: int, good: int, goal: float) -> None:
    """remaining = 1 - bad / (N (1 - goal)); below ten bad ones the exact Poisson interval, as scipy computes it."""
    left = budget(Counts(good=good, bad=bad), goal)
    assert left is not None
    allowed = (good + bad) * (1 - goal)
    assert left.remaining == pytest.approx(float(1 - Fraction(bad) / Fraction(allowed)))
    if bad >= FEW:
        assert left.interval is None
        return
    assert left.interval is not None
    low = stats.chi2.ppf(0.025, 2 * bad) / 2 if bad else 0.0
    high = stats.chi2.ppf(0.975, 2 * bad + 2) / 2
    assert left.interval == pytest.approx((1 - high / allowed, 1 - low / allowed))


def test_the_budget_s_band_is_of_void_and_unsure() -> None:
    """If all void and ambiguous had been bad, and if it had been good."""
    left = budget(Counts(good=960, bad=20, unsure=10, void=10), 0.95)
    assert left is not None
    assert left.remaining == pytest.approx(1 - 30 / (990 * 0.05))
    assert left.band == pytest.approx((1 - 40 / 50, 1 - 20 / 50))
    assert budget(Counts(void=10), 0.95) is None


def test_the_windows_are_the_workbook_s() -> None:
    """Table 5-8 of the workbook and the fourth pair of its code, over 30 days; another period scales them."""
    assert [(w.severity, w.long / HOUR, w.short / HOUR, round(w.factor(30 * DAY), 6)) for w in BURN_WINDOWS] == [
        (Severity.PAGE, 1, 1 / 12, 14.4),
        (Severity.PAGE, 6, 0.5, 6),
        (Severity.TICKET, 24, 2, 3),
        (Severity.TICKET, 72, 6, 1),
    ]
    assert all(w.short == pytest.approx(w.long / 12) for w in BURN_WINDOWS)
    assert BurnWindow(Severity.PAGE, HOUR, HOUR / 12, 0.02).factor(7 * DAY) == pytest.approx(14.4 * 7 / 30)


def test_a_burn_needs_both_windows() -> None:
    """One bad in twenty burns a 95 % budget at exactly 1; an alarm needs the long and the short window."""
    assert burn_rate(Counts(good=19, bad=1), 0.95) == pytest.approx(1)
    assert burn_rate(Counts(good=90, unsure=10), 0.95) == pytest.approx(2)
    assert burn_rate(Counts(void=3), 0.95) is None
    objective = Objective("x", Indicator.TIMELINESS, 0.95)
    over = {length: Counts(good=1, bad=9) for w in BURN_WINDOWS for length in (w.long, w.short)}
    assert [burn.burning for burn in burns(objective, over)] == [True] * 4
    over[BURN_WINDOWS[0].short] = Counts(good=10)
    over[BURN_WINDOWS[1].short] = Counts()
    assert [burn.burning for burn in burns(objective, over)] == [False, False, True, True]
    assert burns(objective, over)[0].most == pytest.approx(20)
    assert burns(objective, over)[0].long == pytest.approx(18)


def test_the_defaults_are_the_monitoring_document_s() -> None:
    """95 % of alerts in time, 99.5 % of newsletters delivered, 99.9 % published, 95 % answered within 150 ms."""
    assert [(o.name, o.indicator, o.goal, o.window / DAY, o.within) for o in DEFAULT_OBJECTIVES] == [
        ("alert-timeliness", Indicator.TIMELINESS, 0.95, 30, None),
        ("newsletter-delivery", Indicator.DELIVERY, 0.995, 30, None),
        ("publish-availability", Indicator.PUBLISH, 0.999, 30, None),
        ("api-latency", Indicator.API_LATENCY, 0.95, 30, 0.15),
    ]
