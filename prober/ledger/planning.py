"""Stage plan: probes with their deliveries, steps and keys, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

from sqlalchemy import Connection

from prober.clock import Instant
from prober.ledger.prepared import Prepared, insert_new
from prober.ledger.tables import deliveries, instant_values, keys, probes, steps
from prober.ledger.totals import Rise, raise_totals
from prober.model import Arrive, Channel, Key, Publication, SlotState, StepAction, StepState


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step to be taken at ``due``; with ``after_step`` only once that one was accepted."""

    number: int
    action: StepAction
    due: Instant
    late_after: float
    recipient: str = ""
    after_step: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedDelivery:
    """One expectation; what it is judged by is copied in, so that later configuration changes nothing."""

    channel: Channel
    within: float
    give_up: float
    checks: tuple[str, ...]
    step_number: int
    arrive: Arrive = Arrive.ALWAYS
    stop_step: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedProbe:
    """One run of one scenario: everything that must be on record before the request leaves."""

    id: str
    location: str
    scenario: str
    slot: float
    run: str
    number: int
    publication: Publication
    planned: Instant
    steps: tuple[PlannedStep, ...]
    deliveries: tuple[PlannedDelivery, ...]
    keys: tuple[Key, ...]


_INSERT_STEPS, _INSERT_DELIVERIES = Prepared(steps.insert()), Prepared(deliveries.insert())


def plan_probes(conn: Connection, plans: Sequence[PlannedProbe]) -> tuple[str, ...]:
    """Put the probes on record; one that is already there stays as it is. Returns the ids that are new."""
    new = tuple(plan.id for plan in plans if _plan(conn, plan))
    for location in sorted({plan.location for plan in plans}):
        rise = Rise()
        planned = [plan for plan in plans if plan.location == location and plan.id in new]
        for plan in planned:
            _count(plan, rise)
        if planned:
            raise_totals(conn, location, planned[0].planned.wall, rise)
    return new


def _count(plan: PlannedProbe, rise: Rise) -> None:
    rise.count("slots_total", {"scenario": plan.scenario, "state": SlotState.PLANNED.value})
    kind = plan.publication.kind.value
    for delivery in plan.deliveries:
        labels = {"scenario": plan.scenario, "kind": kind, "channel": delivery.channel.name}
        rise.count("deliveries_expected_total", labels)


def _plan(conn: Connection, plan: PlannedProbe) -> bool:
    publication = plan.publication
    row = {
        "id": plan.id,
        "location": plan.location,
        "scenario": plan.scenario,
        "kind": publication.kind.value,
        "slot": plan.slot,
        "run": plan.run,
        "number": plan.number,
        "trace_id": publication.trace_id,
        "publication": json.dumps({field.name: getattr(publication, field.name) for field in fields(publication)}),
        **instant_values("planned", plan.planned),
    }
    if not insert_new(conn.dialect.name, probes).write(conn, row):
        return False
    _INSERT_STEPS.write_each(conn, [_step(plan, step) for step in plan.steps])
    _INSERT_DELIVERIES.write_each(conn, [_delivery(plan, delivery) for delivery in plan.deliveries])
    insert_new(conn.dialect.name, keys).write_each(
        conn, [{"value": k.value, "probe_id": plan.id, "kind": k.kind.value, "channel": k.channel} for k in plan.keys]
    )
    return True


def _step(plan: PlannedProbe, step: PlannedStep) -> dict[str, object]:
    return {
        "probe_id": plan.id,
        "number": step.number,
        "location": plan.location,
        "action": step.action.value,
        "recipient": step.recipient,
        "after_step": step.after_step,
        "publication_id": "",
        "late_after": step.late_after,
        "state": StepState.PLANNED.value,
        "taken_by": "",
        "title": "",
        "detail": "",
        "correlation_id": "",
        **instant_values("due", step.due),
    }


def _delivery(plan: PlannedProbe, delivery: PlannedDelivery) -> dict[str, object]:
    channel = delivery.channel
    return {
        "probe_id": plan.id,
        "location": plan.location,
        "scenario": plan.scenario,
        "kind": plan.publication.kind.value,
        "channel": channel.name,
        "channel_kind": channel.kind.value,
        "identity": channel.identity,
        "observer": channel.observer,
        "senders": json.dumps(channel.senders),
        "within": delivery.within,
        "give_up": delivery.give_up,
        "arrive": delivery.arrive.value,
        "scheduled_time": plan.publication.scheduled_time,
        "planned_wall": plan.planned.wall,
        "checks": json.dumps(delivery.checks),
        "step_number": delivery.step_number,
        "stop_step": delivery.stop_step,
        "open": 1,
        "dirty": 0,
        "timeliness_reason": "",
        "outcome_reason": "",
        "latency_basis": "",
        "copies": 0,
    }
