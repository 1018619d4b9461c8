"""Which slots are run, and why the others are not."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from prober.launching import MOST_ERRORS, TRIAL_PERIOD, Budget, Limits, Maintenance, Situation, Spent, decide
from prober.model import Schedule, SlotState

NOW = 1_790_000_000.0
CALM = Situation(running_since=NOW - 3600)


def state(slot: float = NOW, situation: Situation = CALM, limits: Limits | None = None) -> SlotState:
    return decide("alert", slot, NOW, 30.0, situation=situation, limits=limits or Limits())


def test_slot_in_time_is_run() -> None:
    """Nothing speaks against it."""
    assert state() is SlotState.PLANNED
    assert state(NOW - 30) is SlotState.PLANNED


def test_late_slot_is_ours_or_nobodys() -> None:
    """What passed while no prober ran is ``down``; what this one was too slow for is ``late``."""
    assert state(NOW - 31) is SlotState.LATE
    assert state(NOW - 31, replace(CALM, running_since=NOW - 5)) is SlotState.DOWN


def test_kill_switch_stops_launching() -> None:
    """The kill switch stands above budgets and maintenance."""
    assert state(situation=replace(CALM, killed=True)) is SlotState.KILLED


def test_maintenance_window_has_a_beginning_and_an_end() -> None:
    """A window covers its first instant and not its last, for the named scenarios."""
    window = Maintenance(start=NOW, end=NOW + 60)
    assert state(limits=Limits(maintenance=(window,))) is SlotState.MAINTENANCE
    assert state(limits=Limits(maintenance=(replace(window, start=NOW - 60, end=NOW),))) is SlotState.PLANNED
    other = replace(window, scenarios=frozenset({"newsletter"}))
    assert state(limits=Limits(maintenance=(other,))) is SlotState.PLANNED


def test_recurring_maintenance_lasts_its_duration_from_each_time() -> None:
    """From each time that the cron expression names, for so long."""
    window = Maintenance(recurring=Schedule(cron="0 2 * * *", time_zone="UTC"), duration=3600.0)
    two = NOW - NOW % 86400 + 7200
    assert window.covers("alert", two)
    assert window.covers("alert", two + 3599)
    assert not window.covers("alert", two + 3600)
    assert not window.covers("alert", two - 1)


def test_five_errors_leave_one_trial_a_minute() -> None:
    """After five consecutive 5xx one trial goes out per minute; each slot held back says why."""
    down = replace(CALM, errors=MOST_ERRORS)
    assert state(situation=replace(CALM, errors=MOST_ERRORS - 1)) is SlotState.PLANNED
    assert state(situation=down) is SlotState.PLANNED
    launched = down.after_launch("alert", NOW)
    assert state(situation=launched) is SlotState.UPSTREAM_5XX
    assert state(situation=replace(launched, trial_at=NOW - TRIAL_PERIOD)) is SlotState.PLANNED
    assert state(situation=replace(launched, trial_at=NOW + 3600)) is SlotState.PLANNED, "the wall clock was set back"


def test_budget_holds_in_all_and_for_each_scenario() -> None:
    """What another scenario spent counts in all, not for this one."""
    spent = replace(CALM, spent={"alert": Spent(1, 1, 1), "other": Spent(9, 9, 9)})
    assert state(situation=spent, limits=Limits(Budget(per_hour=10))) is SlotState.BUDGET
    assert state(situation=spent, limits=Limits(Budget(per_hour=11))) is SlotState.PLANNED
    assert state(situation=spent, limits=Limits(scenarios={"alert": Budget(in_flight=1)})) is SlotState.BUDGET
    assert state(situation=spent, limits=Limits(scenarios={"alert": Budget(in_flight=2)})) is SlotState.PLANNED
    assert state(situation=spent, limits=Limits(scenarios={"other": Budget(per_day=1)})) is SlotState.PLANNED


@given(st.integers(0, 40), st.integers(1, 20))
def test_no_more_is_launched_than_the_budget_allows(slots: int, bound: int) -> None:
    """However many slots fall due at once, no more probes go out than the bound."""
    situation, launched = CALM, 0
    for _ in range(slots):
        if state(situation=situation, limits=Limits(Budget(per_hour=bound))) is SlotState.PLANNED:
            situation = situation.after_launch("alert", NOW)
            launched += 1
    assert launched == min(slots, bound)
