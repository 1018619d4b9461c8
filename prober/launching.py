"""Whether a slot is run, and if not, why: pure decisions over what is known when its time has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prober.model import Schedule, SlotState
from prober.schedule import slots

MOST_ERRORS = 5
"""Consecutive publish errors (5xx) after which launching stops but for trials (the design's limits)."""

TRIAL_PERIOD = 60.0
"""Seconds between two trial probes while launching is stopped."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be published: probes per clock hour and per day (UTC), and probes in flight. None: no bound."""

    per_hour: int | None = None
    per_day: int | None = None
    in_flight: int | None = None

    def allows(self, spent: Spent) -> bool:
        """Whether one more fits."""
        pairs = ((self.per_hour, spent.hour), (self.per_day, spent.day), (self.in_flight, spent.in_flight))
        return all(bound is None or used < bound for bound, used in pairs)

    @property
    def bounded(self) -> bool:
        return self != Budget()


@dataclass(frozen=True, slots=True)
class Spent:
    """What was planned in this hour and on this day, and what is in flight."""

    hour: int = 0
    day: int = 0
    in_flight: int = 0

    def plus(self, other: Spent) -> Spent:
        return Spent(self.hour + other.hour, self.day + other.day, self.in_flight + other.in_flight)


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A window in which nothing is launched: from one wall time to another, or for so long from each cron time.

    ``scenarios`` is empty where it holds for all of them.
    """

    start: float = 0.0
    end: float = 0.0
    recurring: Schedule | None = None
    duration: float = 0.0
    scenarios: frozenset[str] = frozenset()

    def covers(self, scenario: str, at: float) -> bool:
        """Whether wall time ``at`` lies in the window; its end does not."""
        if self.scenarios and scenario not in self.scenarios:
            return False
        if self.recurring is None:
            return self.start <= at < self.end
        return bool(slots(self.recurring, 0.0, at - self.duration, at, limit=1))


@dataclass(frozen=True, slots=True)
class Limits:
    """The configured bounds: in all (``total``), of single scenarios, and when nothing is launched."""

    total: Budget = Budget()
    scenarios: Mapping[str, Budget] = field(default_factory=dict)
    maintenance: tuple[Maintenance, ...] = ()


@dataclass(frozen=True, slots=True)
class Situation:
    """What stands when a slot's time has come.

    ``errors`` counts the publish errors since the last other answer; ``trial_at`` is the wall time of the last
    trial; ``spent`` is by scenario; ``running_since`` the wall time at which this process began.
    """

    running_since: float
    killed: bool = False
    errors: int = 0
    trial_at: float | None = None
    spent: Mapping[str, Spent] = field(default_factory=dict)

    def after_launch(self, scenario: str, at: float) -> Situation:
        """The situation once one more probe is planned."""
        one = self.spent.get(scenario, Spent()).plus(Spent(1, 1, 1))
        trial = at if self.errors >= MOST_ERRORS else self.trial_at
        return Situation(self.running_since, self.killed, self.errors, trial, {**self.spent, scenario: one})


def decide(
    scenario: str, slot: float, now: float, lateness: float, *, situation: Situation, limits: Limits
) -> SlotState:
    """What becomes of a slot whose time has come: ``planned``, or the reason why it is not run.

    ``lateness`` seconds after its slot a probe is not started any more: ``down`` where no prober ran at the time,
    else ``late``. A slot that is not run is counted, never made up for.
    """
    if now - slot > lateness:
        return SlotState.DOWN if slot < situation.running_since else SlotState.LATE
    if situation.killed:
        return SlotState.KILLED
    if any(window.covers(scenario, slot) for window in limits.maintenance):
        return SlotState.MAINTENANCE
    if situation.errors >= MOST_ERRORS and not _trial_due(situation, now):
        return SlotState.UPSTREAM_5XX
    in_all = Spent()
    for spent in situation.spent.values():
        in_all = in_all.plus(spent)
    own = limits.scenarios.get(scenario, Budget())
    if not (limits.total.allows(in_all) and own.allows(situation.spent.get(scenario, Spent()))):
        return SlotState.BUDGET
    return SlotState.PLANNED


def _trial_due(situation: Situation, now: float) -> bool:
    # A wall clock that was set back must not stop the trials.
    return situation.trial_at is None or not 0 <= now - situation.trial_at < TRIAL_PERIOD
