"""What a report over a window says, as frozen values. Seconds; instants are wall seconds since 1970."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prober.ledger.windows import Window
from prober.model import Outcome, Timeliness
from prober.objectives import Budget, Burn, Counts, Objective
from prober.report.values import ProbeResult, Result, SummaryRow, TargetName

SHOWN_QUANTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Share:
    """How many were on time, of those whose deadline could be judged.

    ``wilson`` is where the true share lies with 95 % confidence; ``band`` where the measured one lies, since intervals
    may straddle the deadline. Deliveries planned after the first one still undecided do not count yet: those of them
    that are decided are the quick ones.
    """

    good: int
    of: int
    wilson: tuple[float, float]
    band: tuple[float, float]

    @property
    def ratio(self) -> float | None:
        """The share, None of none."""
        return self.good / self.of if self.of else None


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of time: how many deliveries were planned in it, the quantiles of their latency, what failed."""

    start: float
    end: float
    count: int
    lost: int
    void: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """One delivery of the sample; ``latency`` is an upper bound, None where it was not seen."""

    planned: float
    latency: float | None
    word: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A waypoint on the way to a channel: quantiles of the seconds since the request, by the clocks that told them."""

    name: str
    count: int
    p50: float
    p95: float


@dataclass(frozen=True, slots=True)
class Lane:
    """All deliveries of one scenario on one channel.

    ``quantiles`` are (of the lower bounds, of the upper bounds), infinite where so many were not delivered; ``curve``
    is (seconds, the share visible by then at the least, and at the most). ``live`` says that some were still awaited,
    so that the quantiles are estimated (Kaplan and Meier).
    """

    scenario: str
    kind: str
    channel: str
    channel_kind: str
    within: float
    give_up: float
    expected: int
    open: int
    live: bool
    by_timeliness: Mapping[Timeliness, int]
    by_outcome: Mapping[Outcome, int]
    share: Share
    quantiles: Mapping[str, tuple[float, float]]
    uncertainty: float | None
    curve: tuple[tuple[float, float, float], ...]
    moments: tuple[Moment, ...]
    points: tuple[Point, ...]
    stages: tuple[Stage, ...]

    @property
    def void(self) -> int:
        """Deliveries about which something could not be seen."""
        return max(self.by_outcome[Outcome.VOID], self.by_timeliness[Timeliness.VOID])


@dataclass(frozen=True, slots=True)
class ProviderShare:
    """What a provider itself took for control messages of ours on a channel.

    Quantiles are of the upper bounds in seconds, infinite where so many were lost; ``slow`` are those that certainly
    took long, ``lost`` ones among them.
    """

    channel: str
    provider: str
    count: int
    slow: int
    lost: int
    p50: float
    p95: float
    max: float


@dataclass(frozen=True, slots=True)
class ObjectiveReport:
    """How an objective stands: in the report's window, and over its own, which ends with the report's."""

    objective: Objective
    counts: Counts
    channels: Mapping[str, Counts]
    period: Counts
    budget: Budget | None
    burns: tuple[Burn, ...]
    burn_down: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """A whole report; ``sampled`` is how many deliveries stand for all in the dots and the stages."""

    window: Window
    now: float
    target: TargetName
    result: Result
    reason: str
    lanes: tuple[Lane, ...]
    objectives: tuple[ObjectiveReport, ...]
    worst: tuple[ProbeResult, ...]
    summary: tuple[SummaryRow, ...]
    sampled: int
    providers: tuple[ProviderShare, ...] = ()

    @property
    def expected(self) -> int:
        """All deliveries of the window."""
        return sum(lane.expected for lane in self.lanes)
