"""The ledger against the truth: what each verdict claims, and whether the sandbox's record contradicts it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from prober.clock import Instant
from prober.ledger.tables import instant_of
from prober.sandbox.remote import Arrival

CLOCK_STEP = 0.005
"""Seconds by which two readings of the wall clock on one machine may disagree."""

ON_THE_WAY = 0.05
"""Seconds that a request may take from its first byte to the API's record."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What the sandbox knows: requests by probe, arrivals by (publication, channel) with the first one first."""

    requests: Mapping[str, Sequence[Mapping[str, Any]]]
    arrivals: Mapping[tuple[str, str], Sequence[Arrival]]
    double_takes: int

    @classmethod
    def of(cls, requests: Sequence[Mapping[str, Any]], arrivals: Sequence[Arrival]) -> Truth:
        """Sort what the control API told."""
        by_probe: dict[str, list[Mapping[str, Any]]] = {}
        for request in requests:
            by_probe.setdefault(request["probe"], []).append(request)
        seen: dict[tuple[str, str], list[Arrival]] = {}
        for arrival in arrivals:
            seen.setdefault((arrival.publication_id, arrival.channel), []).append(arrival)
        for found in seen.values():
            found.sort(key=lambda arrival: arrival.visible.after.boottime)
        asked = Counter(request["idempotency_key"] for request in requests if request["idempotency_key"])
        return cls(by_probe, seen, sum(count - 1 for count in asked.values()))


@dataclass(frozen=True, slots=True)
class Claim:
    """One delivery as the ledger has it, its step, its sisters, and what is true of it."""

    delivery: Row[Any]
    step: Row[Any]
    sisters: Sequence[Row[Any]]
    requests: Sequence[Mapping[str, Any]]
    arrivals: Sequence[Arrival]

    @property
    def origin(self) -> Instant | None:
        """From which instant the ledger counts."""
        return instant_of(self.step, "requested") or instant_of(self.step, "taken")

    @property
    def request(self) -> Instant | None:
        """When the request left: as on record, and where we died before that was on record, as the API has it."""
        origin = self.origin
        if origin is None or self.step.result != "interrupted" or not self.requests:
            return origin
        return origin.at_wall(min(float(request["at"]) for request in self.requests))

    @property
    def effect(self) -> bool:
        """Whether something was published."""
        return any(request["effect"] for request in self.requests)

    def visible_by(self, seconds: float) -> bool:
        """Whether the first message was certainly visible so many seconds after the request."""
        return bool(self.arrivals) and self.request is not None and self._first(self.request)[1] <= seconds - self.doubt

    def visible_after(self, seconds: float) -> bool:
        """Whether the first message became visible only later than that after the request, or never."""
        return not self.arrivals or self.request is None or self._first(self.request)[0] > seconds

    @property
    def doubt(self) -> float:
        """Seconds by which the request may have left earlier than the API noted it."""
        return ON_THE_WAY if self.step.result == "interrupted" else 0.0

    def meets(self, lower: float, upper: float) -> bool:
        """Whether an interval since the request meets that in which the first message became visible."""
        if self.request is None or not self.arrivals:
            return False
        before, after = self._first(self.request)
        return lower <= after + self.doubt and before <= upper

    def _first(self, since: Instant) -> tuple[float, float]:
        visible = self.arrivals[0].visible
        return visible.before.since(since), visible.after.since(since)


@dataclass(slots=True)
class Comparison:
    """What came of it: how often each verdict was given, and everything that is wrong, with its evidence."""

    deliveries: int = 0
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    results: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    noted: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)

    def share(self, *verdicts: str) -> float:
        """The share of the deliveries whose timeliness is one of these."""
        some = sum(count for (timeliness, _), count in self.verdicts.items() if timeliness in verdicts)
        return some / self.deliveries if self.deliveries else 0.0


def compare(
    deliveries: Sequence[Row[Any]], steps: Sequence[Row[Any]], blind: Mapping[str, str], truth: Truth
) -> Comparison:
    """Hold every delivery against the truth. ``blind`` are the observers that cannot see, and why."""
    found = Comparison(deliveries=len(deliveries))
    by_step = {(step.probe_id, step.number): step for step in steps}
    sisters: dict[str, list[Row[Any]]] = {}
    for delivery in deliveries:
        sisters.setdefault(delivery.probe_id, []).append(delivery)
    for step in steps:
        found.results[str(step.result)] += 1
        found.wrong += [f"{step.probe_id} step {step.number}: {why}" for why in _step(step, truth)]
    for delivery in deliveries:
        requests = truth.requests.get(delivery.probe_id, ())
        ids = {request["publication_id"] for request in requests if request["effect"]}
        arrivals = [one for name in ids for one in truth.arrivals.get((name, delivery.channel), ())]
        step = by_step[delivery.probe_id, delivery.step_number]
        _delivery(Claim(delivery, step, sisters[delivery.probe_id], requests, arrivals), blind, found)
    return found


def _step(step: Row[Any], truth: Truth) -> list[str]:
    """What the ledger says of a request against the API's record."""
    requests = truth.requests.get(step.probe_id, ())
    statuses = [request["status"] for request in requests]
    effect = any(request["effect"] for request in requests)
    wrong = []
    if step.result == "accepted" and not (effect and all(200 <= status < 300 for status in statuses)):
        wrong.append(f"accepted, but the API answered {statuses or 'nothing'}")
    if step.result == "refused" and not (requests and all(400 <= status < 500 for status in statuses)):
        wrong.append(f"refused, but the API answered {statuses or 'nothing'}")
    if step.result in {"unreachable", "own_fault"} and requests:
        wrong.append(f"{step.result}, but the API was asked and answered {statuses}")
    requested, ended = instant_of(step, "requested"), instant_of(step, "ended")
    for request in requests:
        at = float(request["at"])
        if requested is not None and requested.wall > at + CLOCK_STEP:
            wrong.append(f"requested {requested.wall - at:.3f} s after the API had the request")
        if step.result == "accepted" and ended is not None and ended.wall < at - CLOCK_STEP:
            wrong.append(f"answered {at - ended.wall:.3f} s before the API had the request")
    return wrong


def _delivery(claim: Claim, blind: Mapping[str, str], found: Comparison) -> None:
    row = claim.delivery
    found.verdicts[str(row.timeliness), str(row.outcome)] += 1
    if row.timeliness == "void" or row.outcome == "void":
        reason = row.timeliness_reason if row.timeliness == "void" else row.outcome_reason
        found.reasons[f"void {reason}"] += 1
        if reason != "own_fault":
            found.noted.append(evidence(claim))
    if row.timeliness is None or row.outcome is None:
        if blind.get(row.observer):
            found.reasons[f"open: {row.observer} is blind, {blind[row.observer]}"] += 1
        else:
            found.unexplained.append(f"open without a reason: {evidence(claim)}")
        return
    whys = [*_TIMELINESS.get(row.timeliness, _unheard_of)(claim), *_OUTCOME.get(row.outcome, _unheard_of)(claim)]
    found.wrong += [f"{why}: {evidence(claim)}" for why in whys]
    if row.latency_upper is not None and not claim.meets(row.latency_lower, row.latency_upper):
        found.missed.append(evidence(claim))


def _unheard_of(claim: Claim) -> list[str]:
    return [f"a verdict that no delivery here can have ({claim.delivery.timeliness}, {claim.delivery.outcome})"]


def _on_time(claim: Claim) -> list[str]:
    late = not claim.arrivals or claim.visible_after(claim.delivery.within)
    return ["on_time, but not visible by the deadline"] if late else []


def _overdue(claim: Claim) -> list[str]:
    if not claim.effect:
        return ["overdue, but nothing was published"]
    return ["overdue, but visible by the deadline"] if claim.visible_by(claim.delivery.within) else []


def _ambiguous(claim: Claim) -> list[str]:
    row = claim.delivery
    straddles = row.latency_lower is not None and row.latency_lower <= row.within < row.latency_upper
    return [] if straddles else ["ambiguous, but the interval does not straddle the deadline"]


def _moot(claim: Claim) -> list[str]:
    if claim.step.result not in {"refused", "unreachable", "error", "timeout"}:
        return [f"moot, but the publish was {claim.step.result}"]
    if claim.step.result in {"error", "timeout"} and claim.visible_by(claim.delivery.within):
        return ["moot, but visible by the deadline"]
    return []


def _void_timeliness(claim: Claim) -> list[str]:
    if claim.delivery.timeliness_reason == "own_fault" and claim.visible_by(claim.delivery.within):
        return ["void for our own fault, but visible by the deadline"]
    return []


def _arrived(claim: Claim) -> list[str]:
    row = claim.delivery
    if not claim.arrivals or claim.arrivals[0].visible.before.wall > row.outcome_at + CLOCK_STEP:
        return [f"{row.outcome}, but not visible when it was settled"]
    first = claim.arrivals[0]
    truly = "damaged" if first.damaged else "misplaced" if first.junk else "delivered"
    return [] if truly == row.outcome else [f"{row.outcome}, but truly {truly}"]


def _lost(claim: Claim) -> list[str]:
    if not claim.effect:
        return ["lost, but nothing was published"]
    return ["lost, but visible by the horizon"] if claim.visible_by(claim.delivery.give_up) else []


def _refused(claim: Claim) -> list[str]:
    return [] if claim.step.result == "refused" else [f"refused, but the publish was {claim.step.result}"]


def _unanswered(claim: Claim) -> list[str]:
    row = claim.delivery
    if claim.step.result not in {"unreachable", "error", "timeout"}:
        return [f"unanswered, but the publish was {claim.step.result}"]
    wrong = ["unanswered, but visible by the horizon"] if claim.visible_by(row.give_up) else []
    seen = {"delivered", "damaged", "misplaced"}
    if any(other.outcome in seen and other.outcome_at < row.outcome_at for other in claim.sisters):
        wrong.append("unanswered, but another channel had shown the publication before")
    return wrong


def _void_outcome(claim: Claim) -> list[str]:
    if claim.delivery.outcome_reason == "own_fault" and claim.visible_by(claim.delivery.give_up):
        return ["void for our own fault, but visible by the horizon"]
    return []


_TIMELINESS = {
    "on_time": _on_time,
    "overdue": _overdue,
    "ambiguous": _ambiguous,
    "moot": _moot,
    "void": _void_timeliness,
}

_OUTCOME = {
    "delivered": _arrived,
    "damaged": _arrived,
    "misplaced": _arrived,
    "lost": _lost,
    "refused": _refused,
    "unanswered": _unanswered,
    "void": _void_outcome,
}


def evidence(claim: Claim) -> str:
    """One line: what the ledger says and what is true, in seconds since the origin."""
    row, origin = claim.delivery, claim.origin
    interval = "none" if row.latency_upper is None else f"[{row.latency_lower:.4f}, {row.latency_upper:.4f}]"
    truth = "never"
    if claim.arrivals and origin is not None:
        spans = [one.visible for one in claim.arrivals]
        truth = ", ".join(f"[{s.before.since(origin):.4f}, {s.after.since(origin):.4f}]" for s in spans)
    statuses = [request["status"] for request in claim.requests]
    left = 0.0 if claim.request is None or origin is None else claim.request.since(origin)
    return (
        f"{row.probe_id} {row.channel}: {row.timeliness} ({row.timeliness_reason}), {row.outcome} "
        f"({row.outcome_reason}), interval {interval} by {row.latency_basis or 'nothing'}; publish "
        f"{claim.step.result}, left {left:.4f} later; truly visible {truth}; the API answered {statuses or 'nothing'}"
    )
