"""Stage plan for scheduled scenarios: each slot becomes a probe, or is counted with the reason why it does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, and_, bindparam, func, or_, select, text, update

from prober.clock import Instant
from prober.launching import Limits, Situation, Spent, decide
from prober.ledger.dialect import insert
from prober.ledger.planning import PlannedProbe, plan_probes
from prober.ledger.prepared import Prepared
from prober.ledger.tables import deliveries, launching, schedules, totals_hourly
from prober.ledger.totals import Rise, labels_text, raise_totals
from prober.model import PublishResult, Scenario, SlotState
from prober.schedule import lateness_bound, slots
from prober.schedule import period as period_at

MOST_SLOTS = 1000
"""Slots of one scenario that one pass looks at: after a long stop there are many to count."""

Draft = Callable[[Scenario, float, float], PlannedProbe]
"""A probe of a scenario for a slot (wall time), and so many seconds after which it is not started any more."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """What recurs in this process. ``offsets`` are seconds by which each scenario's slots are staggered.

    While a file named ``kill_switch`` exists, nothing is launched. ``newest_only``: of a pass's slots only the
    newest is run, up to a whole period late (for short-lived processes).
    """

    scenarios: tuple[Scenario, ...]
    offsets: Mapping[str, float]
    limits: Limits
    draft: Draft
    newest_only: bool = False
    kill_switch: str = ""


@dataclass(frozen=True, slots=True)
class Passed:
    """What one pass came to: new probes, how many slots of each state, the wall time of the next slot."""

    planned: tuple[str, ...]
    states: Mapping[SlotState, int]
    next_slot: float | None
    more: bool


NOTHING = Passed((), {}, None, False)


def plan_slots(
    conn: Connection, location: str, table: Timetable, now: Instant, *, running_since: Instant, killed: bool = False
) -> Passed:
    """Look at every slot since the last pass, once however many processes share the ledger."""
    situation = _situation(conn, location, table.limits, now)
    situation = replace(situation, running_since=running_since.wall, killed=killed)
    probes: list[PlannedProbe] = []
    states: dict[SlotState, int] = {}
    upcoming: list[float] = []
    more = False
    for scenario in table.scenarios:
        offset = table.offsets.get(scenario.name, 0.0)
        last = _last_slot(conn, location, table, scenario, now)
        due = slots(scenario.schedule, offset, last, now.wall, MOST_SLOTS)
        more = more or len(due) == MOST_SLOTS
        if due and _advance(conn, location, scenario.name, last, due[-1]):
            for slot in due:
                lateness = _lateness(table, scenario, slot, due[-1])
                state = decide(scenario.name, slot, now.wall, lateness, situation=situation, limits=table.limits)
                states[state] = states.get(state, 0) + 1
                if state is SlotState.PLANNED:
                    probes.append(table.draft(scenario, slot, lateness))
                    situation = situation.after_launch(scenario.name, now.wall)
                else:
                    _count(conn, location, scenario.name, slot, state)
        upcoming += _next(scenario, offset, now)
    planned = plan_probes(conn, probes)
    _remember_trial(conn, location, situation)
    return Passed(planned, states, min(upcoming, default=None), more)


def note_answer(conn: Connection, location: str, result: PublishResult) -> None:
    """Keep count of consecutive publish errors: an answer of another kind ends them, silence says nothing."""
    if result is PublishResult.ERROR:
        values = {"errors": launching.c.errors + 1}
        fresh = insert(conn, launching).values(location=location, errors=1)
        conn.execute(fresh.on_conflict_do_update(index_elements=["location"], set_=values))
    elif result in {PublishResult.ACCEPTED, PublishResult.REFUSED}:
        _END_ERRORS.write(conn, {"here": location})


_END_ERRORS = Prepared(
    update(launching)
    .where(launching.c.location == bindparam("here"), launching.c.errors > 0)
    .values(errors=0, trial_at=None)
)


def held_back(conn: Connection, location: str) -> int:
    """How many publish errors came one after another until now."""
    return conn.execute(select(launching.c.errors).where(launching.c.location == location)).scalar_one_or_none() or 0


def _lateness(table: Timetable, scenario: Scenario, slot: float, newest: float) -> float:
    period = period_at(scenario.schedule, slot)
    if table.newest_only:
        return period if slot == newest else 0.0
    return lateness_bound(period)


def _next(scenario: Scenario, offset: float, now: Instant) -> Sequence[float]:
    """The next slot, where it comes within a day; longer nobody sleeps."""
    return slots(scenario.schedule, offset, now.wall, now.wall + 86400.0, 1)


def _last_slot(conn: Connection, location: str, table: Timetable, scenario: Scenario, now: Instant) -> float:
    """Up to where the slots are run or counted. A scenario that is new here has missed nothing."""
    query = select(schedules.c.last_slot).where(schedules.c.location == location, schedules.c.scenario == scenario.name)
    last: float | None = conn.execute(query).scalar_one_or_none()
    if last is None:
        begin = now.wall - (period_at(scenario.schedule, now.wall) if table.newest_only else 0.0)
        fresh = insert(conn, schedules).values(location=location, scenario=scenario.name, last_slot=begin)
        conn.execute(fresh.on_conflict_do_nothing())
        last = float(conn.execute(query).scalar_one())
    return last


def _advance(conn: Connection, location: str, scenario: str, last: float, to: float) -> bool:
    """Move on by compare-and-set: False when another process has looked at these slots."""
    here = and_(schedules.c.location == location, schedules.c.scenario == scenario, schedules.c.last_slot == last)
    return conn.execute(update(schedules).where(here).values(last_slot=to)).rowcount > 0


def _count(conn: Connection, location: str, scenario: str, slot: float, state: SlotState) -> None:
    rise = Rise()
    rise.count("slots_total", {"scenario": scenario, "state": state.value})
    raise_totals(conn, location, slot, rise)


def _situation(conn: Connection, location: str, limits: Limits, now: Instant) -> Situation:
    row = conn.execute(select(launching).where(launching.c.location == location)).first()
    bounded = limits.total.bounded or any(budget.bounded for budget in limits.scenarios.values())
    return Situation(
        running_since=now.wall,
        errors=row.errors if row else 0,
        trial_at=row.trial_at if row else None,
        spent=_spent(conn, location, now) if bounded else {},
    )


def _spent(conn: Connection, location: str, now: Instant) -> dict[str, Spent]:
    """By scenario: what was planned in this clock hour and on this day (UTC), and what is in flight."""
    hour = int(now.wall // 3600)
    day = hour - hour % 24
    rows = conn.execute(
        select(totals_hourly.c.hour, totals_hourly.c.labels, totals_hourly.c.value).where(
            totals_hourly.c.location == location,
            totals_hourly.c.hour >= day,
            totals_hourly.c.hour <= hour,
            totals_hourly.c.name == "slots_total",
        )
    ).all()
    spent: dict[str, Spent] = {}
    for row in rows:
        name, state = labels_text(row.labels, "scenario"), labels_text(row.labels, "state")
        if state == SlotState.PLANNED.value:
            used = Spent(hour=int(row.value) if row.hour == hour else 0, day=int(row.value))
            spent[name] = spent.get(name, Spent()).plus(used)
    open_now = (
        select(deliveries.c.scenario, func.count(deliveries.c.probe_id.distinct()).label("probes"))
        .where(deliveries.c.location == location, text("deliveries.open = 1"))
        .group_by(deliveries.c.scenario)
    )
    for row in conn.execute(open_now):
        spent[row.scenario] = replace(spent.get(row.scenario, Spent()), in_flight=row.probes)
    return spent


def _remember_trial(conn: Connection, location: str, situation: Situation) -> None:
    if situation.trial_at is not None:
        here = and_(
            launching.c.location == location,
            or_(launching.c.trial_at.is_(None), launching.c.trial_at != situation.trial_at),
        )
        conn.execute(update(launching).where(here).values(trial_at=situation.trial_at))
