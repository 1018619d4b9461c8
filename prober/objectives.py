"""Verdicts, counted in totals -> service level indicators, error budget and burn rate. Pure.

Which counters an indicator sums is data (:data:`INDICATORS`), so that reports, metrics and alerting rules count alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from prober.bounds import PUBLISH_BOUNDS, bound_text
from prober.burn_windows import BURN_WINDOWS, DAY, BurnWindow
from prober.model import Outcome, PublicationKind, PublishResult, SlotState, Timeliness
from prober.statistics import poisson_interval

FEW = 10
"""Below so many bad events a budget is told as an interval: their count is little more than chance."""


class Indicator(StrEnum):
    """What an objective is about."""

    PUBLISH = "publish"
    TIMELINESS = "timeliness"
    DELIVERY = "delivery"
    SILENCE = "silence"
    JOURNEY = "journey"
    API_LATENCY = "api_latency"


class Journey(StrEnum):
    """Whether a probe's promise was kept on every channel."""

    KEPT = "kept"
    BROKEN = "broken"
    VOID = "void"


def journey(deliveries: Iterable[tuple[Timeliness, Outcome]]) -> Journey:
    """What a probe whose deliveries are all settled says about the promise as a whole.

    Kept: each was on time and delivered, or withheld where it must not arrive. Void: else, if all that is missing could
    not be seen.
    """
    settled = frozenset(deliveries)
    kept = {(Timeliness.ON_TIME, Outcome.DELIVERED), (Timeliness.MOOT, Outcome.WITHHELD)}
    if settled <= kept:
        return Journey.KEPT
    void = {
        (timeliness, outcome)
        for timeliness in (Timeliness.VOID, Timeliness.ON_TIME, Timeliness.MOOT)
        for outcome in (Outcome.VOID, Outcome.DELIVERED)
        if Timeliness.VOID is timeliness or Outcome.VOID is outcome
    }
    return Journey.VOID if settled <= kept | void else Journey.BROKEN


class Standing(StrEnum):
    """How one event counts; ``unsure`` is valid and not good: it spends budget, and opens a band."""

    GOOD = "good"
    BAD = "bad"
    UNSURE = "unsure"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class CounterUse:
    """How an indicator counts one counter: which values of its ``label`` stand for what. Others count nothing."""

    name: str
    label: str
    good: frozenset[str] = frozenset()
    bad: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()
    void: frozenset[str] = frozenset()

    def standing(self, value: str) -> Standing | None:
        """How an event with this value counts."""
        for standing in Standing:
            if value in getattr(self, standing.value):
                return standing
        return None


_HELD_BACK = CounterUse("slots_total", "state", bad=frozenset({SlotState.UPSTREAM_5XX}))

INDICATORS: Mapping[Indicator, tuple[CounterUse, ...]] = {
    Indicator.PUBLISH: (
        CounterUse(
            "publish_requests_total",
            "result",
            good=frozenset({PublishResult.ACCEPTED}),
            bad=frozenset(
                {PublishResult.REFUSED, PublishResult.ERROR, PublishResult.TIMEOUT, PublishResult.UNREACHABLE}
            ),
            void=frozenset({PublishResult.INTERRUPTED, PublishResult.OWN_FAULT}),
        ),
        _HELD_BACK,
    ),
    Indicator.TIMELINESS: (
        CounterUse(
            "timeliness_total",
            "verdict",
            good=frozenset({Timeliness.ON_TIME}),
            bad=frozenset({Timeliness.OVERDUE, Timeliness.EARLY}),
            unsure=frozenset({Timeliness.AMBIGUOUS}),
            void=frozenset({Timeliness.VOID}),
        ),
    ),
    Indicator.DELIVERY: (
        CounterUse(
            "deliveries_total",
            "outcome",
            good=frozenset({Outcome.DELIVERED}),
            bad=frozenset({Outcome.DAMAGED, Outcome.MISPLACED, Outcome.LOST}),
            void=frozenset({Outcome.VOID}),
        ),
    ),
    Indicator.SILENCE: (
        CounterUse(
            "deliveries_total",
            "outcome",
            good=frozenset({Outcome.WITHHELD}),
            bad=frozenset({Outcome.UNWANTED}),
            void=frozenset({Outcome.VOID}),
        ),
    ),
    Indicator.JOURNEY: (
        CounterUse(
            "journeys_total",
            "result",
            good=frozenset({Journey.KEPT}),
            bad=frozenset({Journey.BROKEN}),
            void=frozenset({Journey.VOID}),
        ),
        _HELD_BACK,
    ),
    Indicator.API_LATENCY: (CounterUse("publish_duration_seconds_bucket", "le"),),
}
"""The formulas. The buckets that are good for the API's latency depend on the objective: :meth:`Objective.uses`."""

PER_CHANNEL = frozenset({Indicator.TIMELINESS, Indicator.DELIVERY, Indicator.SILENCE})
"""Indicators whose counters say the channel."""


@dataclass(frozen=True, slots=True)
class Objective:
    """Which share of the valid events must be good, over how many seconds.

    ``kinds``, ``scenarios`` and ``channels`` choose what counts; empty means all. ``within`` (seconds) is for the API's
    latency alone: a delivery's deadline is its scenario's.
    """

    name: str
    indicator: Indicator
    goal: float
    window: float = 30 * DAY
    kinds: frozenset[PublicationKind] = frozenset()
    scenarios: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()
    within: float | None = None

    @property
    def uses(self) -> tuple[CounterUse, ...]:
        """The counters that it sums."""
        if self.indicator is not Indicator.API_LATENCY:
            return INDICATORS[self.indicator]
        limit = 0.0 if self.within is None else self.within
        bounds = (*PUBLISH_BOUNDS, float("inf"))
        good = frozenset(bound_text(bound) for bound in bounds if bound <= limit)
        return tuple(
            CounterUse(use.name, use.label, good=good, bad=frozenset(map(bound_text, bounds)) - good)
            for use in INDICATORS[self.indicator]
        )

    def standing(self, name: str, labels: Mapping[str, str], kinds: Mapping[str, str]) -> Standing | None:
        """How an event of a series counts, None when it does not. ``kinds`` says the kind of each scenario."""
        scenario = labels.get("scenario", "")
        chosen = (
            (not self.scenarios or scenario in self.scenarios)
            and (not self.channels or labels.get("channel") in self.channels)
            and (not self.kinds or labels.get("kind", kinds.get(scenario)) in self.kinds)
        )
        use = next((use for use in self.uses if use.name == name), None)
        return use.standing(labels[use.label]) if chosen and use is not None else None


DEFAULT_OBJECTIVES = (
    Objective("alert-timeliness", Indicator.TIMELINESS, 0.95, kinds=frozenset({PublicationKind.ALERT})),
    Objective("newsletter-delivery", Indicator.DELIVERY, 0.995, kinds=frozenset({PublicationKind.NEWSLETTER})),
    Objective("publish-availability", Indicator.PUBLISH, 0.999),
    Objective("api-latency", Indicator.API_LATENCY, 0.95, within=0.15),
)
"""What holds where none is configured: the publishing system's own objectives (its monitoring document, "SLA
Monitoring"): alerts 95 % within 30 s (the shipped alert scenarios' deadline), newsletters 99.5 % delivered, API 99.9 %
available and 95 % of its answers within 150 ms."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Events by how they count."""

    good: float = 0
    bad: float = 0
    unsure: float = 0
    void: float = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.good + other.good, self.bad + other.bad, self.unsure + other.unsure, self.void + other.void)

    @property
    def valid(self) -> float:
        """Events that say something about the target."""
        return self.good + self.bad + self.unsure

    @property
    def spent(self) -> float:
        """Valid events that were not good: what the error budget pays for."""
        return self.bad + self.unsure

    @property
    def ratio(self) -> float | None:
        """The service level indicator: the good share of the valid events, None without any."""
        return self.good / self.valid if self.valid else None

    @property
    def band(self) -> tuple[float, float] | None:
        """The indicator if everything unsure and void had been bad, and if it had been good."""
        total = self.valid + self.void
        return (self.good / total, (total - self.bad) / total) if total else None

    @property
    def coverage(self) -> float | None:
        """The share of the events that we could judge."""
        total = self.valid + self.void
        return self.valid / total if total else None


def add_up(
    objective: Objective,
    series: Iterable[tuple[str, Mapping[str, str], float]],
    kinds: Mapping[str, str],
) -> dict[str, Counts]:
    """Counts by channel (an empty name where the counters have none) from ``(name, labels, amount)``."""
    found: dict[str, dict[Standing, float]] = {}
    for name, labels, amount in series:
        standing = objective.standing(name, labels, kinds)
        if standing is not None:
            sums = found.setdefault(labels.get("channel", ""), dict.fromkeys(Standing, 0.0))
            sums[standing] += amount
    return {
        channel: Counts(**{standing.value: amount for standing, amount in sums.items()})
        for channel, sums in sorted(found.items())
    }


@dataclass(frozen=True, slots=True)
class Budget:
    """What is left of an error budget: 1 untouched, 0 spent, below 0 overspent.

    ``interval`` is where the rest truly lies with 95 % confidence, given only when few events were bad; ``band`` what
    the rest would be if all that is unsure or void had been bad, and if it had been good.
    """

    remaining: float
    interval: tuple[float, float] | None
    band: tuple[float, float]


def budget(counts: Counts, goal: float) -> Budget | None:
    """The error budget after these events, None when none was valid.

    remaining = 1 - bad / (valid * (1 - goal)) (Site Reliability Workbook, chapter 2); bad events are rare and taken as
    Poisson, hence the exact interval of Garwood (1936) below :data:`FEW` of them.
    """
    if not counts.valid:
        return None

    def rest(spent: float, events: float) -> float:
        return 1 - spent / (events * (1 - goal))

    interval = None
    if counts.spent < FEW:
        low, high = poisson_interval(round(counts.spent))
        interval = rest(high, counts.valid), rest(low, counts.valid)
    total = counts.valid + counts.void
    band = rest(counts.spent + counts.void, total), rest(counts.bad, total)
    return Budget(rest(counts.spent, counts.valid), interval, band)


def burn_rate(counts: Counts, goal: float) -> float | None:
    """How many times faster than it may the budget is spent: 1 spends it exactly by the end of its window.

    The bad share over the share that may be bad (Site Reliability Workbook, chapter 5); None without a valid event.
    """
    return counts.spent / counts.valid / (1 - goal) if counts.valid else None


@dataclass(frozen=True, slots=True)
class Burn:
    """The burn over a pair of windows (None: no valid event), the factor that calls for somebody, and the most it
    could ever be: a lenient goal bounds the burn, so that some factors cannot be reached (workbook, chapter 5)."""

    window: BurnWindow
    factor: float
    most: float
    long: float | None
    short: float | None

    @property
    def burning(self) -> bool:
        """Whether both windows burn faster than the factor."""
        return all(rate is not None and rate > self.factor for rate in (self.long, self.short))


def burns(objective: Objective, over: Mapping[float, Counts]) -> tuple[Burn, ...]:
    """The burn over each pair of :data:`BURN_WINDOWS`, from the counts over each window's length."""
    return tuple(
        Burn(
            window,
            window.factor(objective.window),
            1 / (1 - objective.goal),
            burn_rate(over[window.long], objective.goal),
            burn_rate(over[window.short], objective.goal),
        )
        for window in BURN_WINDOWS
    )
