"""Censored quantiles, bounds on proportions and counts, and the sequential test of a gate. Pure, no dependency."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

_ROUNDING = 1e-9
_TINY = 1e-300
_MAX_TERMS = 100_000
_HALVINGS = 200


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that is at least as large as a share ``q`` of all (rank ``ceil(q * n)``).

    Lost deliveries count as ``math.inf``, so that a quantile never speaks of the arrived ones alone. Raises
    ValueError for no values, NaN, and ``q`` outside [0, 1].
    """
    if not values:
        raise ValueError("a quantile of no values")
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile needs 0 <= q <= 1, got {q}")
    if any(math.isnan(value) for value in values):
        raise ValueError("a quantile of values that are not all numbers")
    rank = math.ceil(q * len(values) - _ROUNDING)  # 0.07 * 100 is a little more than 7
    return sorted(values)[max(rank, 1) - 1]


def wilson(good: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided bounds on the true share of good ones (Wilson 1927, score interval); (0, 1) for ``n`` = 0."""
    _demand_counts(good, n, confidence)
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = good / n, z * z / n
    centre = share + spread / 2
    reach = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    lower = 0.0 if good == 0 else (centre - reach) / (1 + spread)
    upper = 1.0 if good == n else (centre + reach) / (1 + spread)
    return lower, upper


def clopper_pearson_lower(good: int, n: int, confidence: float = 0.95) -> float:
    """One-sided exact lower bound on the true share of good ones (Clopper and Pearson 1934): the proof of a gate.

    The share p at which so many good ones or more still have probability 1 - confidence, which is the quantile
    1 - confidence of Beta(good, n - good + 1).
    """
    _demand_counts(good, n, confidence)
    if good == 0:
        return 0.0
    return _root(lambda p: _beta_below(good, n - good + 1, p) - (1 - confidence), 0.0, 1.0)


def poisson_interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided exact bounds on the mean of a Poisson count (Garwood 1936)."""
    _demand_counts(0, count, confidence)
    tail = (1 - confidence) / 2
    far = count + 10 + 20 * math.sqrt(count + 1) - 4 * math.log(tail)
    lower = 0.0 if count == 0 else _root(lambda mean: _gamma_below(count, mean) - tail, 0.0, far)
    return lower, _root(lambda mean: _gamma_below(count + 1, mean) - (1 - tail), 0.0, far)


def kaplan_meier(
    observed: Iterable[float] | Mapping[float, int], censored: Iterable[float] | Mapping[float, int]
) -> tuple[tuple[float, float], ...]:
    """The share not yet arrived, as steps ``(seconds, share from then on)`` (Kaplan and Meier 1958).

    ``observed`` are latencies (``math.inf``: rejected, will never arrive), ``censored`` the ages at which the others
    were last known not to have arrived: pending ones at their age, lost ones at their give-up. Mappings say how often
    each time occurs. One censored at the very time of an arrival was still at risk then. Raises ValueError for NaN.
    """
    arrivals, leavers = Counter(observed), Counter(censored)
    if any(math.isnan(time) for time in (*arrivals, *leavers)):
        raise ValueError("latencies that are not all numbers")
    at_risk, share = arrivals.total() + leavers.total(), 1.0
    steps = []
    for time in sorted({*arrivals, *leavers} - {math.inf}):
        if arrivals[time]:
            share *= 1 - arrivals[time] / at_risk
            steps.append((time, share))
        at_risk -= arrivals[time] + leavers[time]
    return tuple(steps)


def survival_quantile(steps: Sequence[tuple[float, float]], q: float) -> float:
    """The first time of the steps of :func:`kaplan_meier` by which a share ``q`` has arrived, inf if never."""
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile needs 0 <= q <= 1, got {q}")
    return next((time for time, share in steps if share <= 1 - q + _ROUNDING), math.inf)


class Decision(StrEnum):
    """What a sequential test says so far."""

    PASS = "pass"  # noqa: S105 - the good end of a gate, not a password
    FAIL = "fail"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """Wald's sequential probability ratio test of one channel's share of bad probes (Wald 1945).

    H0 says that at most ``acceptable`` are bad, H1 that at least ``unacceptable`` are. ``alpha`` is the chance to fail
    a system under H0, over all ``channels`` that are tested side by side (Bonferroni: each spends its part);
    ``beta`` the chance to pass one under H1, which needs no correction, since all channels must pass.
    """

    acceptable: float
    unacceptable: float
    alpha: float = 0.05
    beta: float = 0.05
    channels: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.acceptable < self.unacceptable < 1:
            raise ValueError(
                "a sequential test needs 0 < acceptable < unacceptable < 1, "
                f"got {self.acceptable} and {self.unacceptable}"
            )
        if not (0 < self.alpha < 0.5 and 0 < self.beta < 0.5):
            raise ValueError(f"error chances lie between 0 and 0.5, got alpha {self.alpha} and beta {self.beta}")
        if self.channels < 1:
            raise ValueError(f"a sequential test of {self.channels} channels: at least one is needed")

    @property
    def proves(self) -> float:
        """The share of good probes that a pass stands for."""
        return 1 - self.unacceptable

    def decide(self, good: int, bad: int) -> Decision:
        """What so many good and bad probes say, if no smaller number of them said anything before."""
        if good < 0 or bad < 0:
            raise ValueError(f"counts are not negative, got {good} good and {bad} bad")
        evidence = bad * self._per_bad - good * self._per_good
        if evidence >= self._fail_at - _ROUNDING:
            return Decision.FAIL
        return Decision.PASS if evidence <= self._pass_at + _ROUNDING else Decision.UNDECIDED

    def run(self, probes: Iterable[bool]) -> tuple[Decision, int]:
        """The first decision on probes (True: good) in their order, and after how many it fell; it then stands."""
        good = bad = 0
        for probe in probes:
            good, bad = good + probe, bad + (not probe)
            decision = self.decide(good, bad)
            if decision is not Decision.UNDECIDED:
                return decision, good + bad
        return Decision.UNDECIDED, good + bad

    def pass_at(self, bad: int) -> int:
        """How many probes in all it takes to pass with so many bad ones among them."""
        return bad + math.ceil((bad * self._per_bad - self._pass_at) / self._per_good - _ROUNDING)

    def fail_by(self, bad: int) -> int | None:
        """The largest number of probes at which the ``bad``-th bad one fails the test; None if it cannot yet."""
        good = math.floor((bad * self._per_bad - self._fail_at) / self._per_good + _ROUNDING)
        return bad + good if good >= 0 else None

    @property
    def _per_bad(self) -> float:
        return math.log(self.unacceptable / self.acceptable)

    @property
    def _per_good(self) -> float:
        return math.log((1 - self.acceptable) / (1 - self.unacceptable))

    @property
    def _fail_at(self) -> float:
        return math.log((1 - self.beta) / (self.alpha / self.channels))

    @property
    def _pass_at(self) -> float:
        return math.log(self.beta / (1 - self.alpha / self.channels))


def strict(channels: int = 1) -> SequentialTest:
    """The gate that proves 95 % good: 1 % bad is acceptable, 5 % is not."""
    return SequentialTest(0.01, 0.05, channels=channels)


def quick(channels: int = 1) -> SequentialTest:
    """The gate that proves 90 % good only: 1 % bad is acceptable, 10 % is not."""
    return SequentialTest(0.01, 0.10, channels=channels)


def _demand_counts(good: int, n: int, confidence: float) -> None:
    if not 0 <= good <= n:
        raise ValueError(f"{good} good ones of {n}: a count lies between 0 and the number of all")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, got {confidence}")


def _root(rising: Callable[[float], float], lower: float, upper: float) -> float:
    """Where a rising function crosses zero between two bounds, to the last bit."""
    for _ in range(_HALVINGS):
        middle = (lower + upper) / 2
        if middle in (lower, upper):
            break
        if rising(middle) < 0:
            lower = middle
        else:
            upper = middle
    return (lower + upper) / 2


def _beta_below(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by the continued fraction DLMF 8.17.22."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_below(b, a, 1 - x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)

    def coefficient(n: int) -> float:
        m = n // 2
        if n % 2 == 0:
            return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))

    return math.exp(front) / (a * _fraction(coefficient, lambda _: 1.0, 1.0))


def _gamma_below(a: float, x: float) -> float:
    """The regularised lower incomplete gamma function P(a, x), by DLMF 8.11.4 (series) and 8.9.2 (fraction)."""
    if x <= 0:
        return 0.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x >= a + 1:
        return 1 - front / _fraction(lambda n: -n * (n - a), lambda n: x + 2 * n + 1 - a, x + 1 - a)
    term = total = 1 / a
    for n in range(1, _MAX_TERMS):
        term *= x / (a + n)
        total += term
        if term < total * 1e-17:
            break
    return front * total


def _fraction(numerator: Callable[[int], float], denominator: Callable[[int], float], first: float) -> float:
    """A continued fraction first + a1/(b1 + a2/(b2 + ...)) by Lentz's method as Thompson and Barnett (1986) mend it."""
    value = ratio = first or _TINY
    inverse = 0.0
    for n in range(1, _MAX_TERMS):
        inverse = 1 / (denominator(n) + numerator(n) * inverse or _TINY)
        ratio = denominator(n) + numerator(n) / ratio or _TINY
        value *= ratio * inverse
        if abs(ratio * inverse - 1) < 1e-15:
            return value
    raise ArithmeticError("a continued fraction did not settle")
