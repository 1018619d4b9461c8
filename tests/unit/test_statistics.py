"""Quantiles, bounds and the sequential test, against scipy, brute force and the published tables."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from prober.statistics import (
    Decision,
    SequentialTest,
    clopper_pearson_lower,
    kaplan_meier,
    poisson_interval,
    quantile,
    quick,
    strict,
    survival_quantile,
    wilson,
)

CALM = settings(deadline=None)  # the machine may be busy with other tests
LATENCIES = st.one_of(st.integers(-3, 40).map(float), st.floats(-10, 1000), st.just(math.inf))
SHARES = st.integers(0, 100).map(lambda percent: percent / 100)
CONFIDENCES = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 0.999])
COUNTS = st.one_of(st.integers(1, 30), st.integers(1, 100_000)).flatmap(
    lambda n: st.tuples(st.one_of(st.integers(0, n), st.integers(max(0, n - 3), n)), st.just(n))
)


# quantiles


@CALM
@given(st.lists(LATENCIES, min_size=1, max_size=60), SHARES)
def test_a_quantile_is_the_smallest_value_that_covers_the_share(values: list[float], q: float) -> None:
    """It is one of the values, at least a share q lies at or below it, and below every smaller value less does."""
    found = quantile(values, q)
    share = Fraction(round(q * 100), 100)
    covers = [value for value in values if Fraction(sum(other <= value for other in values), len(values)) >= share]
    assert found == min(covers)


def test_the_lost_ones_count() -> None:
    """With 6 of 100 lost the p95 is infinite though every arrived one was quick, and rounding makes no rank."""
    values = [8.0] * 94 + [math.inf] * 6
    assert quantile(values, 0.94) == 8.0
    assert quantile(values, 0.95) == math.inf
    assert quantile([float(n) for n in range(1, 101)], 0.07) == 7.0
    assert quantile([5.0], 0.0) == quantile([5.0], 1.0) == 5.0


@pytest.mark.parametrize(
    ("values", "q"), [([], 0.5), ([1.0], -0.1), ([1.0], 1.1), ([1.0], math.nan), ([1.0, math.nan], 0.5)]
)
def test_a_quantile_of_nonsense_is_refused(values: list[float], q: float) -> None:
    """No values, NaN, and shares that are none raise."""
    with pytest.raises(ValueError, match="quantile"):
        quantile(values, q)


# proportions and counts


@CALM
@given(COUNTS, CONFIDENCES)
def test_wilson_agrees_with_scipy(counts: tuple[int, int], confidence: float) -> None:
    """The score interval is scipy's."""
    good, n = counts
    expected = stats.binomtest(good, n).proportion_ci(confidence, method="wilson")
    assert wilson(good, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-9)


@CALM
@given(COUNTS, CONFIDENCES)
def test_clopper_pearson_agrees_with_scipy(counts: tuple[int, int], confidence: float) -> None:
    """The one-sided exact bound is the quantile of the beta distribution that scipy computes."""
    good, n = counts
    expected = stats.beta.ppf(1 - confidence, good, n - good + 1) if good else 0.0
    assert clopper_pearson_lower(good, n, confidence) == pytest.approx(expected, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize(("good", "n"), [(0, 0), (0, 5), (5, 5), (1, 10), (17, 30), (59, 59)])
def test_clopper_pearson_is_where_the_binomial_tail_is_five_percent(good: int, n: int) -> None:
    """At the bound so many good ones or more have exactly the chance that the confidence leaves (summed by hand)."""
    bound = clopper_pearson_lower(good, n)
    if good == 0:
        assert bound == 0.0
        return
    tail = sum(math.comb(n, k) * bound**k * (1 - bound) ** (n - k) for k in range(good, n + 1))
    assert tail == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("n", [10**5, 10**6, 10**7])
def test_exact_bounds_hold_for_a_long_history(n: int) -> None:
    """A million events neither overflow nor lose their digits."""
    for bad in (0, 3, n // 200, n // 2):
        expected = stats.beta.ppf(0.05, n - bad, bad + 1)
        assert clopper_pearson_lower(n - bad, n) == pytest.approx(expected, rel=1e-8)
    lower, upper = poisson_interval(n)
    assert (lower, upper) == pytest.approx(stats.chi2.ppf([0.025, 0.975], [2 * n, 2 * n + 2]) / 2, rel=1e-8)


PROOF = {
    0.90: (29, 46, 61, 76, 89, 103),
    0.95: (59, 93, 124, 153, 181, 208),
    0.99: (299, 473, 628, 773, 913, 1049),
    0.995: (598, 947, 1258, 1549, 1829, 2100),
    0.999: (2995, 4742, 6294, 7752, 9151, 10511),
}


@pytest.mark.parametrize("share", PROOF)
def test_the_published_plans_are_the_smallest_that_prove(share: float) -> None:
    """So many probes with so many bad ones prove the share, and one probe less does not."""
    for bad, n in enumerate(PROOF[share]):
        assert clopper_pearson_lower(n - bad, n) >= share > clopper_pearson_lower(n - 1 - bad, n - 1)


@CALM
@given(COUNTS)
def test_bounds_enclose_the_share_and_grow_with_the_good(counts: tuple[int, int]) -> None:
    """Bounds lie in [0, 1] around the observed share, and one more good one never lowers them."""
    good, n = counts
    lower, upper = wilson(good, n)
    assert 0 <= lower <= good / n <= upper <= 1
    assert 0 <= clopper_pearson_lower(good, n) <= good / n
    if good < n:
        assert wilson(good + 1, n) >= (lower, upper)
        assert clopper_pearson_lower(good + 1, n) >= clopper_pearson_lower(good, n)


@CALM
@given(st.one_of(st.integers(0, 30), st.integers(0, 100_000)), CONFIDENCES)
def test_poisson_bounds_agree_with_scipy(count: int, confidence: float) -> None:
    """Garwood's bounds are half the quantiles of chi-square distributions."""
    tail = (1 - confidence) / 2
    lower, upper = poisson_interval(count, confidence)
    assert upper == pytest.approx(stats.chi2.ppf(1 - tail, 2 * count + 2) / 2, rel=1e-7)
    assert lower == pytest.approx(stats.chi2.ppf(tail, 2 * count) / 2 if count else 0.0, rel=1e-7)


def test_poisson_bounds_by_the_published_examples() -> None:
    """Few events of an error budget leave it wide open."""
    table = {0: (0, 3.7), 1: (0.03, 5.6), 3: (0.6, 8.8), 5: (1.6, 11.7), 10: (4.8, 18.4), 20: (12.2, 30.9)}
    for count, (lower, upper) in table.items():
        assert poisson_interval(count) == pytest.approx((lower, upper), abs=0.05)


@pytest.mark.parametrize("bounds", [wilson, clopper_pearson_lower])
@pytest.mark.parametrize(("good", "n", "confidence"), [(-1, 5, 0.9), (6, 5, 0.9), (3, 5, 0.0), (3, 5, 1.0)])
def test_impossible_counts_are_refused(bounds: object, good: int, n: int, confidence: float) -> None:
    """More good ones than all, negative counts, and confidences that are none raise."""
    assert callable(bounds)
    with pytest.raises(ValueError, match="lies between"):
        bounds(good, n, confidence)
    with pytest.raises(ValueError, match="lies between"):
        poisson_interval(-1)


def test_no_probe_proves_nothing() -> None:
    """Without a probe the share may be anything."""
    assert wilson(0, 0) == (0.0, 1.0)
    assert clopper_pearson_lower(0, 0) == 0.0


# Kaplan-Meier


@CALM
@given(st.lists(LATENCIES, max_size=30), st.lists(st.integers(0, 40).map(float), max_size=30))
def test_kaplan_meier_agrees_with_scipy(observed: list[float], censored: list[float]) -> None:
    """The steps are those of scipy's estimate; what never arrives counts as at risk for ever."""
    late = 5000.0
    finite = [min(time, late) for time in observed]
    assume(finite)
    sample = stats.CensoredData(uncensored=finite, right=censored)
    survival = stats.ecdf(sample).sf
    expected = [
        (float(time), float(share))
        for time, share in zip(survival.quantiles, survival.probabilities, strict=True)
        if time in finite and time < late
    ]
    steps = kaplan_meier(observed, censored)
    assert [time for time, _ in steps] == [time for time, _ in expected]
    assert [share for _, share in steps] == pytest.approx([share for _, share in expected], abs=1e-9)


@CALM
@given(st.lists(LATENCIES, min_size=1, max_size=40), SHARES)
def test_without_censoring_it_is_the_plain_quantile(values: list[float], q: float) -> None:
    """When every fate is known both ways of asking for a quantile agree."""
    assume(q > 0)
    assert survival_quantile(kaplan_meier(values, []), q) == quantile(values, q)


def test_kaplan_meier_by_hand() -> None:
    """Ties: one censored at the time of an arrival was at risk then; a rejected one keeps the curve up."""
    steps = kaplan_meier([1.0, 2.0, 2.0, math.inf], [2.0, 3.0])
    assert [time for time, _ in steps] == [1.0, 2.0]
    assert [share for _, share in steps] == pytest.approx([5 / 6, 5 / 6 * 3 / 5])
    assert survival_quantile(steps, 0.5) == 2.0
    assert survival_quantile(steps, 0.51) == math.inf
    assert kaplan_meier([], [1.0]) == kaplan_meier([], []) == ()
    for wrong in ((lambda: kaplan_meier([math.nan], [])), (lambda: survival_quantile(steps, 2.0))):
        with pytest.raises(ValueError, match=r"numbers|quantile"):
            wrong()


# the sequential test


@pytest.mark.parametrize(
    ("test", "passes", "fails"),
    [
        (quick(3), (32, 57, 82), {1: None, 2: 7, 3: 33, 4: 58}),
        (strict(3), (73, 113, 153), {1: None, 2: None, 3: 22, 4: 62}),
        (strict(1), (72, 112, 152, 192, 232), {1: None, 2: 8, 3: 48, 4: 88, 5: 128}),
        (quick(1), (31, 57, 82, 107), {1: None, 2: 19, 3: 44, 4: 69}),
    ],
)
def test_the_gates_decide_at_the_published_numbers(
    test: SequentialTest, passes: tuple[int, ...], fails: dict[int, int | None]
) -> None:
    """PASS and FAIL fall at exactly the tabled numbers of probes, counted one by one."""
    for bad, n in enumerate(passes):
        assert test.pass_at(bad) == n
        assert test.decide(n - bad, bad) is Decision.PASS
        assert test.decide(n - bad - 1, bad) is Decision.UNDECIDED
    for bad, latest in fails.items():
        assert test.fail_by(bad) == latest
        assert (test.decide(0, bad) is Decision.FAIL) is (latest is not None)
        if latest is not None:
            assert test.decide(latest - bad, bad) is Decision.FAIL
            assert test.decide(latest - bad + 1, bad) is Decision.UNDECIDED


TESTS = st.builds(
    SequentialTest,
    st.floats(0.001, 0.02),
    st.floats(0.03, 0.3),
    st.floats(0.01, 0.2),
    st.floats(0.01, 0.2),
    st.integers(1, 6),
)


@CALM
@given(TESTS, st.lists(st.booleans(), max_size=60), st.integers(0, 400))
def test_a_decision_stands(test: SequentialTest, probes: list[bool], good_first: int) -> None:
    """The first crossing decides, whatever comes after it; before it nothing is decided."""
    course = [True] * good_first + probes
    decision, n = test.run(course)
    likelihoods = [
        sum(
            math.log(test.unacceptable / test.acceptable)
            if not probe
            else math.log((1 - test.unacceptable) / (1 - test.acceptable))
            for probe in course[:k]
        )
        for k in range(len(course) + 1)
    ]
    fail_at = math.log((1 - test.beta) / (test.alpha / test.channels))
    pass_at = math.log(test.beta / (1 - test.alpha / test.channels))
    first = next((k for k, ratio in enumerate(likelihoods) if ratio >= fail_at or ratio <= pass_at), None)
    assert n == (len(course) if first is None else first)
    if first is None:
        assert decision is Decision.UNDECIDED
    else:
        assert decision is (Decision.FAIL if likelihoods[first] >= fail_at else Decision.PASS)
        assert test.run([*course, *[not probe for probe in course]]) == (decision, n)


@CALM
@given(TESTS, st.integers(0, 8))
def test_pass_at_and_fail_by_are_the_edges_of_decide(test: SequentialTest, bad: int) -> None:
    """The tabled numbers are exactly where ``decide`` changes its mind."""
    assume(all(abs(edge - round(edge)) > 1e-6 for edge in _edges(test, bad)))
    n, latest = test.pass_at(bad), test.fail_by(bad)
    assert test.decide(n - bad, bad) is Decision.PASS
    assert test.decide(n - bad - 1, bad) is not Decision.PASS
    if latest is None:
        assert test.decide(0, bad) is not Decision.FAIL
    else:
        assert test.decide(latest - bad, bad) is Decision.FAIL
        assert test.decide(latest - bad + 1, bad) is not Decision.FAIL


def _edges(test: SequentialTest, bad: int) -> tuple[float, float]:
    per_bad = math.log(test.unacceptable / test.acceptable)
    per_good = math.log((1 - test.acceptable) / (1 - test.unacceptable))
    part = test.alpha / test.channels
    return (
        (bad * per_bad - math.log(test.beta / (1 - part))) / per_good,
        (bad * per_bad - math.log((1 - test.beta) / part)) / per_good,
    )


def _error(test: SequentialTest, bad_share: float, wrong: Decision, longest: int) -> float:
    """The exact chance of a decision within so many probes, carried forward over (good, bad) by dynamic programming."""
    open_: dict[int, float] = {0: 1.0}  # bad so far -> probability, all after the same number of probes
    total = 0.0
    for n in range(1, longest + 1):
        following: dict[int, float] = {}
        for bad, chance in open_.items():
            for more, part in ((0, 1 - bad_share), (1, bad_share)):
                decision = test.decide(n - bad - more, bad + more)
                if decision is Decision.UNDECIDED:
                    following[bad + more] = following.get(bad + more, 0.0) + chance * part
                elif decision is wrong:
                    total += chance * part
        open_ = following
    return total


@pytest.mark.parametrize("test", [strict(1), strict(3), quick(1), quick(3)])
def test_both_errors_keep_their_promise(test: SequentialTest) -> None:
    """A system at the edge of H0 fails, and one at the edge of H1 passes, no more often than Wald's bounds allow."""
    part = test.alpha / test.channels
    assert _error(test, test.acceptable, Decision.FAIL, 1500) <= part / (1 - test.beta)
    assert _error(test, test.unacceptable, Decision.PASS, 1500) <= test.beta / (1 - part)


def test_a_gate_says_what_it_proves() -> None:
    """A pass of the quick gate stands for 90 %, of the strict one for 95 %."""
    assert [strict().proves, quick().proves] == pytest.approx([0.95, 0.90])


@pytest.mark.parametrize(
    ("acceptable", "unacceptable", "alpha", "channels"),
    [(0.05, 0.05, 0.05, 1), (0.0, 0.05, 0.05, 1), (0.01, 1.0, 0.05, 1), (0.01, 0.05, 0.5, 1), (0.01, 0.05, 0.05, 0)],
)
def test_an_impossible_test_is_refused(acceptable: float, unacceptable: float, alpha: float, channels: int) -> None:
    """Hypotheses that do not differ, useless error chances and no channel raise, as negative counts do."""
    with pytest.raises(ValueError, match=r"got|needed"):
        SequentialTest(acceptable, unacceptable, alpha=alpha, channels=channels)
    with pytest.raises(ValueError, match="negative"):
        strict().decide(-1, 0)
