"""Synthetic ledgers: weeks of history with an outage, losses, blindness and bad answers, made in seconds.

The rows are those that the stages would have written, and the totals are raised by the ledger's own code; everything
is a pure function of the seed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection

from prober.bounds import LATENCY_BOUNDS, PUBLISH_BOUNDS
from prober.clock import Instant
from prober.ledger.opening import open_for_writing
from prober.ledger.tables import deliveries, instant_values, probes, sightings, steps, waypoints
from prober.ledger.totals import Rise, raise_totals
from prober.model import Outcome, PublicationKind, PublishResult, Timeliness
from prober.objectives import journey

BATCH = 2000
BOOT = "syntheticbt0"


@dataclass(frozen=True)
class Place:
    """A channel, its median latency in seconds, and the share of messages that it loses in fair weather."""

    name: str
    kind: str
    median: float
    loss: float = 0.002


@dataclass(frozen=True)
class Plan:
    """A scenario as it ran: every ``every`` seconds, over these channels."""

    name: str
    kind: PublicationKind
    every: float
    places: tuple[Place, ...]
    within: float = 30.0
    give_up: float = 120.0


@dataclass(frozen=True)
class Trouble:
    """A span (seconds since the start) in which a channel, or the API (no name), is not itself."""

    start: float
    end: float
    channel: str = ""
    loss: float = 0.0
    slower: float = 1.0
    blind: float = 0.0
    errors: float = 0.0


EMAIL, EMAIL_2 = Place("email", "email", 4.5), Place("email-2", "email", 5.5)
SLACK, DISCORD = Place("slack", "slack", 0.9), Place("discord", "discord", 0.6, 0.0005)
PLANS = (
    Plan("alert-latency", PublicationKind.ALERT, 60.0, (EMAIL, SLACK, DISCORD)),
    Plan("newsletter-delivery", PublicationKind.NEWSLETTER, 300.0, (EMAIL, EMAIL_2), 120.0, 600.0),
    Plan("publication-fanout", PublicationKind.MANUAL, 900.0, (EMAIL, SLACK, DISCORD), 120.0, 600.0),
)


def troubles(length: float) -> tuple[Trouble, ...]:
    """A bad month: a Slack outage, slow mail for half a day, a blind evening, an API that fails for a while."""
    return (
        Trouble(0.30 * length, 0.30 * length + min(5400, 0.02 * length), "slack", loss=1.0),
        Trouble(0.55 * length, 0.57 * length, "email", slower=4.0, loss=0.03),
        Trouble(0.70 * length, 0.71 * length, "discord", blind=1.0),
        Trouble(0.85 * length, 0.853 * length, errors=0.6),
    )


@dataclass
class Maker:
    """Writes one history. ``pending`` leaves the deliveries open that were planned in the last so many seconds."""

    conn: Connection
    start: float
    length: float
    plans: tuple[Plan, ...] = PLANS
    trouble: tuple[Trouble, ...] = ()
    location: str = "local"
    seed: int = 7
    pending: float = 20.0
    rows: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    delivery: int = 0

    def write(self) -> int:
        """Write it all; returns the number of deliveries."""
        self.chance = random.Random(self.seed)
        self.rise = Rise()
        hour = int(self.start // 3600)
        for planned, plan in self._slots():
            if int(planned // 3600) != hour:
                self._raise(hour)
                hour = int(planned // 3600)
            self._probe(plan, planned)
            if len(self.rows["probes"]) >= BATCH:
                self._flush()
        self._raise(hour)
        self._flush()
        return self.delivery

    def _raise(self, hour: int) -> None:
        raise_totals(self.conn, self.location, hour * 3600.0, self.rise)
        self.rise = Rise()

    def _slots(self) -> Iterator[tuple[float, Plan]]:
        counts = dict.fromkeys(range(len(self.plans)), 0)
        while True:
            number = min(counts, key=lambda n: (counts[n] + 0.5) * self.plans[n].every)
            planned = (counts[number] + 0.5) * self.plans[number].every
            if planned >= self.length:
                return
            counts[number] += 1
            yield self.start + planned, self.plans[number]

    def _probe(self, plan: Plan, planned: float) -> None:
        probe = f"{self.chance.getrandbits(50):010x}"[:10] + f"{self.delivery:x}"
        requested = planned + self.chance.uniform(0.01, 0.05)
        result, status, took = self._answer(planned)
        self._add(
            "probes", id=probe, location=self.location, scenario=plan.name, kind=plan.kind.value, slot=planned,
            run="", number=0, trace_id=f"{self.chance.getrandbits(128):032x}", publication="{}",
            **instant_values("planned", self._instant(planned)),
        )  # fmt: skip
        self._add(
            "steps", probe_id=probe, number=0, location=self.location, action="create", recipient="",
            publication_id=probe, late_after=30.0, state="answered", taken_by="bench/0/0", result=result.value,
            status=status, title="" if status == 201 else "Service Unavailable", detail="", correlation_id="",
            **instant_values("due", self._instant(planned)), **instant_values("taken", self._instant(planned)),
            **instant_values("requested", self._instant(requested)),
            **instant_values("ended", self._instant(requested + took)),
        )  # fmt: skip
        self._waypoint(probe, None, "created", requested + 0.7 * took)
        self._waypoint(probe, None, "claimed_processing", requested + took + self.chance.uniform(0.01, 0.3))
        labels = {"scenario": plan.name, "kind": plan.kind.value}
        self.rise.count("slots_total", {"scenario": plan.name, "state": "planned"})
        self.rise.count("slots_total", {"scenario": plan.name, "state": "started"})
        self.rise.count("publish_requests_total", {**labels, "result": result.value})
        self.rise.observe("publish_duration_seconds", labels, took, PUBLISH_BOUNDS)
        verdicts = [
            self._delivery(plan, place, probe, planned=planned, requested=requested, result=result)
            for place in plan.places
        ]
        if all(verdict is not None for verdict in verdicts):
            told = journey(verdict for verdict in verdicts if verdict is not None)
            self.rise.count("journeys_total", {**labels, "result": told.value})

    def _answer(self, planned: float) -> tuple[PublishResult, int, float]:
        if self.chance.random() < max((t.errors for t in self._now("", planned)), default=0.0003):
            return PublishResult.ERROR, 503, self.chance.uniform(0.5, 3.0)
        return PublishResult.ACCEPTED, 201, min(self.chance.lognormvariate(-3.2, 0.5), 5.0)

    def _delivery(
        self, plan: Plan, place: Place, probe: str, *, planned: float, requested: float, result: PublishResult
    ) -> tuple[Timeliness, Outcome] | None:
        now = self._now(place.name, planned)
        self.delivery += 1
        verdict, lower, upper = self._fate(plan, place, now, result)
        is_open = planned > self.start + self.length - self.pending and upper is None
        if upper is not None:
            self._seen(place, probe, requested, lower or 0.0, upper)
        timeliness, outcome = verdict
        self._add(
            "deliveries", id=self.delivery, probe_id=probe, location=self.location, scenario=plan.name,
            kind=plan.kind.value, channel=place.name, channel_kind=place.kind,
            identity=f"{place.kind}:{place.name}@probes.example", observer=place.kind, senders="[]",
            within=plan.within, give_up=plan.give_up, arrive="always", scheduled_time=None, planned_wall=planned,
            checks=json.dumps(["Nothing to do."]), step_number=0, stop_step=None, open=int(is_open), dirty=0,
            timeliness=None if is_open else timeliness.value, timeliness_reason="",
            timeliness_at=None if is_open else requested + min(upper or plan.within, plan.within) + 0.02,
            outcome=None if is_open else outcome.value, outcome_reason="",
            outcome_at=None if is_open else requested + (upper or plan.give_up) + 0.02,
            latency_lower=lower, latency_upper=upper, latency_basis="push" if upper is not None else "", copies=0,
            sighting_id=self.delivery if upper is not None else None,
            **instant_values("due", self._instant(requested + plan.within)),
        )  # fmt: skip
        labels = {"scenario": plan.name, "kind": plan.kind.value, "channel": place.name}
        self.rise.count("deliveries_expected_total", labels)
        if is_open:
            return None
        self.rise.count("timeliness_total", {**labels, "verdict": timeliness.value})
        self.rise.count("deliveries_total", {**labels, "outcome": outcome.value})
        if upper is not None:
            self.rise.observe("delivery_latency_seconds", labels, upper, sorted({*LATENCY_BOUNDS, plan.within}))
        elif outcome is Outcome.LOST:
            self.rise.observe_in("delivery_latency_seconds", labels, plan.give_up, float("inf"))
        return verdict

    def _fate(
        self, plan: Plan, place: Place, now: list[Trouble], result: PublishResult
    ) -> tuple[tuple[Timeliness, Outcome], float | None, float | None]:
        if self.chance.random() < max((t.blind for t in now), default=0.0005):
            return (Timeliness.VOID, Outcome.VOID), None, None
        if result is not PublishResult.ACCEPTED:
            return (Timeliness.MOOT, Outcome.UNANSWERED), None, None
        if self.chance.random() < max((t.loss for t in now), default=place.loss):
            return (Timeliness.OVERDUE, Outcome.LOST), None, None
        slower = max((t.slower for t in now), default=1.0)
        truth = place.median * slower * self.chance.lognormvariate(0, 0.55)
        if truth >= plan.give_up:
            return (Timeliness.OVERDUE, Outcome.LOST), None, None
        lower, upper = max(0.0, truth - self.chance.uniform(0, 0.4)), truth + self.chance.uniform(0.002, 0.02)
        outcome = Outcome.DAMAGED if self.chance.random() < 0.0004 else Outcome.DELIVERED
        if upper <= plan.within:
            return (Timeliness.ON_TIME, outcome), lower, upper
        return (Timeliness.OVERDUE if lower >= plan.within else Timeliness.AMBIGUOUS, outcome), lower, upper

    def _seen(self, place: Place, probe: str, requested: float, lower: float, upper: float) -> None:
        self._add(
            "sightings", id=self.delivery, location=self.location, identity=f"{place.kind}:{place.name}",
            channel=place.name, message_id=str(self.delivery), fingerprint=str(self.delivery),
            delivery_id=self.delivery, how="push", role="first", stray=None, misplaced=0, checks_failed="[]",
            sender="", stamp_at=None, stamp_resolution=None, stamp_source=None,
            **instant_values("lower", self._instant(requested + lower)),
            **instant_values("upper", self._instant(requested + upper)),
        )  # fmt: skip
        self._waypoint(probe, self.delivery, "mailbox" if place.kind == "email" else "posted", requested + 0.8 * upper)

    def _now(self, channel: str, planned: float) -> list[Trouble]:
        offset = planned - self.start
        return [each for each in self.trouble if each.channel == channel and each.start <= offset < each.end]

    def _instant(self, wall: float) -> Instant:
        return Instant(wall, wall - self.start + 1000.0, BOOT)

    def _waypoint(self, probe: str, delivery: int | None, name: str, at: float) -> None:
        self._add("waypoints", probe_id=probe, delivery_id=delivery, name=name, at=at, resolution=0.001, source="x")

    def _add(self, table: str, **values: object) -> None:
        self.rows.setdefault(table, []).append(values)

    def _flush(self) -> None:
        for table in (probes, steps, deliveries, sightings, waypoints):
            if rows := self.rows.pop(table.name, None):
                mark = "%({})s" if self.conn.dialect.name == "postgresql" else ":{}"
                names, marks = ", ".join(rows[0]), ", ".join(map(mark.format, rows[0]))
                # Past SQLAlchemy's own executemany, which would take most of the time.
                self.conn.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)  # noqa: S608


def make_ledger(
    place: str, end: float, *, days: float = 30.0, rate: float = 1.0, location: str = "local", seed: int = 7
) -> int:
    """A ledger of ``days`` that end at ``end`` (wall seconds); ``rate`` scales how often. Returns its deliveries."""
    length = days * 86400.0
    plans = tuple(
        Plan(plan.name, plan.kind, plan.every / rate, plan.places, plan.within, plan.give_up) for plan in PLANS
    )
    engine = open_for_writing(place)
    try:
        with engine.begin() as conn:
            return Maker(conn, end - length, length, plans, troubles(length), location, seed).write()
    finally:
        engine.dispose()
