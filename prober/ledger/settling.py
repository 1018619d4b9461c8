"""Stage settle: verdicts and totals in one transaction, each question written once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, text, update

from prober.bounds import LATENCY_BOUNDS, UNCERTAINTY_BOUNDS
from prober.clock import Instant
from prober.correlate import CoverageFact, DeliveryFacts, SightingFact, StepFact
from prober.interval import Interval
from prober.judge import OutcomeFinding, TimelinessFinding
from prober.ledger import untraced
from prober.ledger.awaiting import GRACE_IS_OVER
from prober.ledger.clocks import offsets_of
from prober.ledger.journeys import count_journeys
from prober.ledger.prepared import Prepared
from prober.ledger.step_facts import step_facts
from prober.ledger.tables import coverage, deliveries, instant_of, instant_values, observers, probes, sightings
from prober.ledger.totals import Exemplar, Rise, raise_totals
from prober.model import Arrive, How, Outcome, Stamp, Timeliness

MAX_PASS = 1000
"""Deliveries that one pass judges at the most; more are judged by the next."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What can be said about a delivery now, and the instant from which its times count."""

    timeliness: TimelinessFinding | None
    outcome: OutcomeFinding | None
    latency: Interval | None
    origin: Instant
    contradiction: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """A question that is settled: ``question`` is timeliness or outcome."""

    probe: str
    trace: str
    scenario: str
    channel: str
    question: str
    verdict: Timeliness | Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What one pass did: (delivery, probe) pairs with a new verdict, and when time alone may next settle one.

    ``concluded`` are probes of which a delivery's outcome is new: first sightings, and horizons reached. ``waits``
    says that a delivery with a new verdict stays open: what is awaited next is its horizon. ``traces`` are the trace
    ids of the probes.
    """

    settled: tuple[tuple[int, str], ...]
    concluded: frozenset[str]
    waits: bool
    next_due: Instant | None
    more: bool
    verdicts: tuple[Told, ...] = ()
    traces: Mapping[str, str] = field(default_factory=dict)


Decide = Callable[[DeliveryFacts, Instant], Decision | None]


def settle_due(
    conn: Connection, location: str, now: Instant, served: Set[str], decide: Decide, *, traced: bool = False
) -> Settled:
    """Judge every delivery with a new fact or whose time has come, and write what is now certain.

    ``traced`` lets the traces of probes that are settled whole be exported.
    """
    rows = _due(conn, location, now, served)
    facts = _facts(conn, location, rows, served)
    rise = Rise()
    known = _TRACES.all(conn, {"probes": sorted({row.probe_id for row in rows})})
    traces = {row.id: row.trace_id for row in known}
    settled = []
    verdicts: list[Told] = []
    concluded = set()
    closed = set()
    written: list[dict[str, object]] = []
    for row in rows:
        decision = decide(facts[row.id], now)
        if decision is None:
            due = instant_of(row, "due")
            waits = due is not None and now.since(due) >= 0
            _SET_DIRTY.write(conn, {"delivery": row.id, "state": 2 if waits else 0})
            continue
        written.append(_verdicts(row, decision, now, rise, Exemplar(row.probe_id, traces[row.probe_id])))
        if row.open and not written[-1]["new_open"]:
            closed.add(row.probe_id)
        if new := [*_told(row, decision, traces[row.probe_id])]:
            settled.append((row.id, row.probe_id))
            verdicts += new
        if row.outcome is None and decision.outcome is not None:
            concluded.add(row.probe_id)
    _WRITE.write_each(conn, written)
    journeyed = count_journeys(conn, closed, rise)
    if traced:
        untraced.queue(conn, location, journeyed, now.wall)
    raise_totals(conn, location, now.wall, rise)
    waits = any(values["new_open"] and values["new_timeliness"] for values in written)
    next_due = _next_due(conn, location, now)
    return Settled(tuple(settled), frozenset(concluded), waits, next_due, len(rows) == MAX_PASS,
                   tuple(verdicts), traces)  # fmt: skip


def _told(row: Row[Any], decision: Decision, trace: str) -> Iterator[Told]:
    """What is newly certain of a delivery."""
    for question, finding in (("timeliness", decision.timeliness), ("outcome", decision.outcome)):
        if finding is not None and getattr(row, question) is None:
            yield Told(row.probe_id, trace, row.scenario, row.channel, question, finding.verdict, finding.reason)


_TRACES = Prepared(select(probes.c.id, probes.c.trace_id).where(probes.c.id.in_(bindparam("probes", expanding=True))))

# Partial indexes serve only queries that spell their condition out: a bound parameter would not do.
_HERE = deliveries.c.location == bindparam("location")
_NEW_FACT = text("deliveries.dirty = 1")
_WAITS_FOR_TIME = text("deliveries.open = 1 AND deliveries.dirty = 0")
_WAITS_FOR_FACT = text("deliveries.open = 1 AND deliveries.dirty = 2")
_THIS_BOOT = deliveries.c.due_boot_id == bindparam("boot")
_OTHER_BOOT = deliveries.c.due_boot_id != bindparam("boot")

_DIRTY = Prepared(select(deliveries).where(_HERE, _NEW_FACT).limit(bindparam("most")))
_DUE = Prepared(
    select(deliveries)
    .where(_HERE, _WAITS_FOR_TIME, _THIS_BOOT, deliveries.c.due_boottime <= bindparam("boottime"))
    .limit(bindparam("most"))
)
_DUE_BY_WALL = Prepared(
    select(deliveries)
    .where(_HERE, _WAITS_FOR_TIME, _OTHER_BOOT, deliveries.c.due_wall <= bindparam("wall"))
    .limit(bindparam("most"))
)
_GONE = Prepared(
    select(deliveries)
    .where(_HERE, _WAITS_FOR_FACT, deliveries.c.identity.not_in(bindparam("served", expanding=True)), GRACE_IS_OVER)
    .limit(bindparam("most"))
)
_JUDGED = (
    "timeliness", "timeliness_reason", "timeliness_at", "outcome", "outcome_reason", "outcome_at", "latency_lower",
    "latency_upper", "latency_basis", "open", "dirty", "due_wall", "due_boottime", "due_boot_id",
)  # fmt: skip
"""The columns that judging writes."""

_WRITE = Prepared(
    update(deliveries)
    .where(deliveries.c.id == bindparam("delivery"))
    .values({name: bindparam(f"new_{name}") for name in _JUDGED})
)
_SET_DIRTY = Prepared(
    update(deliveries).where(deliveries.c.id == bindparam("delivery")).values(dirty=bindparam("state"))
)


def _due(conn: Connection, location: str, now: Instant, served: Set[str]) -> list[Row[Any]]:
    """What has a new fact, what time alone may settle, and what nobody watches any more; each is then judged once."""
    about = {"location": location, "boot": now.boot_id, "boottime": now.boottime, "wall": now.wall,
             "served": sorted(served), "most": MAX_PASS}  # fmt: skip
    found = [row for query in (_DIRTY, _DUE, _DUE_BY_WALL, _GONE) for row in query.all(conn, about)]
    return list({row.id: row for row in found}.values())[:MAX_PASS]


_AHEAD = select(deliveries.c.due_wall, deliveries.c.due_boottime, deliveries.c.due_boot_id).where(
    _HERE, _WAITS_FOR_TIME
)
_NEXT = Prepared(
    _AHEAD.where(_THIS_BOOT, deliveries.c.due_boottime > bindparam("boottime"))
    .order_by(deliveries.c.due_boottime)
    .limit(1)
)
_NEXT_BY_WALL = Prepared(
    _AHEAD.where(_OTHER_BOOT, deliveries.c.due_wall > bindparam("wall")).order_by(deliveries.c.due_wall).limit(1)
)


def _next_due(conn: Connection, location: str, now: Instant) -> Instant | None:
    """The earliest due time that still lies ahead; what is overdue waits for a fact."""
    about = {"location": location, "boot": now.boot_id, "boottime": now.boottime, "wall": now.wall}
    rows = [query.first(conn, about) for query in (_NEXT, _NEXT_BY_WALL)]
    ahead = [moment for row in rows if row is not None and (moment := instant_of(row, "due")) is not None]
    return max(ahead, key=now.since, default=None)


def _facts(conn: Connection, location: str, rows: Sequence[Row[Any]], served: Set[str]) -> Mapping[int, DeliveryFacts]:
    probe_ids = {row.probe_id for row in rows}
    step_of = step_facts(conn, probe_ids)
    about = {"probes": list(probe_ids)}
    first = {row.delivery_id: row for row in _FIRST_SIGHTINGS.all(conn, about)}
    # A sighting proves the request of its own step alone: what another step asks for may never have left.
    seen: dict[tuple[str, int], set[int]] = {}
    for row in _SEEN.all(conn, about):
        seen.setdefault((row.probe_id, row.step_number), set()).add(row.id)
    cover = {row.identity: row for row in _COVERAGE.all(conn, {"location": location})}
    blind = {row.name: row for row in _OBSERVERS.all(conn, {"location": location})}
    clocks = offsets_of(conn, location)
    return {
        row.id: DeliveryFacts(
            within=row.within,
            give_up=row.give_up,
            arrive=Arrive(row.arrive),
            scheduled_time=row.scheduled_time,
            step=step_of[row.probe_id, row.step_number],
            stop=None if row.stop_step is None else step_of[row.probe_id, row.stop_step],
            sighting=_sighting(first.get(row.id)),
            seen_elsewhere=bool(seen.get((row.probe_id, row.step_number), set()) - {row.id}),
            coverage=_coverage(cover.get(row.identity)),
            failed_read=_failed_read(blind.get(row.observer), cover.get(row.identity)),
            served=row.identity in served,
            offsets=clocks.get(_boot(step_of[row.probe_id, row.step_number]), {}),
        )
        for row in rows
    }


def _failed_read(observer: Row[Any] | None, channel: Row[Any] | None) -> Instant | None:
    """When the latest read that failed to show the channel began: the whole observer's, or this channel's alone."""
    latest: Instant | None = None
    for row in (observer, channel):
        failed = None if row is None else instant_of(row, "failed_read")
        if failed is not None and (latest is None or failed.since(latest) > 0):
            latest = failed
    return latest


_OF_PROBES = deliveries.c.probe_id.in_(bindparam("probes", expanding=True))
_FIRST_SIGHTINGS = Prepared(
    select(sightings).join(deliveries, deliveries.c.sighting_id == sightings.c.id).where(_OF_PROBES)
)
_SEEN = Prepared(
    select(deliveries.c.probe_id, deliveries.c.step_number, deliveries.c.id).where(
        _OF_PROBES, deliveries.c.sighting_id.is_not(None)
    )
)
_COVERAGE = Prepared(select(coverage).where(coverage.c.location == bindparam("location")))
_OBSERVERS = Prepared(select(observers).where(observers.c.location == bindparam("location")))


def _boot(step: StepFact) -> str:
    """The boot in which the step was requested."""
    first = step.requested_at or step.taken_at
    return "" if first is None else first.boot_id


def _sighting(row: Row[Any] | None) -> SightingFact | None:
    if row is None:
        return None
    upper = instant_of(row, "upper")
    assert upper is not None  # noqa: S101 - written with the row
    stamp = None if row.stamp_at is None else Stamp(row.stamp_at, row.stamp_resolution, row.stamp_source)
    return SightingFact(
        lower=instant_of(row, "lower"),
        upper=upper,
        how=How(row.how),
        misplaced=bool(row.misplaced),
        checks_failed=tuple(json.loads(row.checks_failed)),
        stamp=stamp,
    )


def _coverage(row: Row[Any] | None) -> CoverageFact | None:
    if row is None:
        return None
    since, watermark = instant_of(row, "since"), instant_of(row, "watermark")
    return None if since is None or watermark is None else CoverageFact(since, watermark)


def _verdicts(row: Row[Any], decision: Decision, now: Instant, rise: Rise, exemplar: Exemplar) -> dict[str, object]:
    """The row with what is newly certain, and when time alone may say more; the totals are raised for it."""
    values: dict[str, object] = {name: getattr(row, name) for name in _JUDGED} | {"dirty": 0}
    labels = {"scenario": row.scenario, "kind": row.kind, "channel": row.channel}
    timeliness = decision.timeliness if row.timeliness is None else None
    outcome = decision.outcome if row.outcome is None else None
    if timeliness is not None:
        values |= {"timeliness": timeliness.verdict.value, "timeliness_reason": timeliness.reason,
                   "timeliness_at": now.wall}  # fmt: skip
        rise.count("timeliness_total", {**labels, "verdict": timeliness.verdict.value})
    if outcome is not None:
        values |= {"outcome": outcome.verdict.value, "outcome_reason": outcome.reason, "outcome_at": now.wall}
        rise.count("deliveries_total", {**labels, "outcome": outcome.verdict.value})
        _count_latency(row, decision, outcome, labels, rise, exemplar=exemplar)
        rise.happened("last_settled", {"scenario": row.scenario})
    if (timeliness or outcome) and decision.latency is not None and row.latency_upper is None:
        values |= {"latency_lower": decision.latency.lower, "latency_upper": decision.latency.upper,
                   "latency_basis": decision.latency.basis}  # fmt: skip
        if decision.contradiction:
            rise.count("internal_errors_total", {"component": "clock", "reason": "contradiction"})
    timeliness_known = (timeliness or row.timeliness) is not None
    if timeliness_known and (outcome or row.outcome) is not None:
        values["open"] = 0
    else:
        # What stays open after its moment has passed is judged again with every new fact, e.g. coverage.
        due = decision.origin.plus(row.give_up if timeliness_known else row.within)
        values |= instant_values("due", due) | {"dirty": 2 if now.since(due) >= 0 else 0}
    return {f"new_{name}": value for name, value in values.items()} | {"delivery": row.id}


def _count_latency(
    row: Row[Any],
    decision: Decision,
    outcome: OutcomeFinding,
    labels: Mapping[str, str],
    rise: Rise,
    *,
    exemplar: Exemplar,
) -> None:
    bounds = sorted({*LATENCY_BOUNDS, row.within})
    if outcome.verdict is Outcome.LOST:
        rise.observe_in("delivery_latency_seconds", labels, row.give_up, float("inf"), exemplar)
    elif decision.latency is not None and outcome.verdict in {Outcome.DELIVERED, Outcome.DAMAGED, Outcome.MISPLACED}:
        rise.observe("delivery_latency_seconds", labels, max(0.0, decision.latency.upper), bounds, exemplar)
        rise.observe("delivery_uncertainty_seconds", labels, decision.latency.width, UNCERTAINTY_BOUNDS)
