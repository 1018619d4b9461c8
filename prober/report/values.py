"""The JSON result as frozen values.

Seconds are numbers; instants are wall seconds since 1970 here and RFC 3339 in UTC in the JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Generic, TypeVar

from prober.clock import rfc3339
from prober.interval import Interval
from prober.model import ChannelKind, Outcome, PublicationKind, PublishResult, Timeliness, Waypoint

VERSION = 1
"""The version of the JSON: raised when a field changes its meaning or goes, not when one is added."""

V = TypeVar("V", Timeliness, Outcome)


class Result(StrEnum):
    """What a run says in one word."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    VOID = "void"


EXIT_CODES: Mapping[Result, int] = {Result.PASS: 0, Result.FAIL: 1, Result.INCONCLUSIVE: 3, Result.VOID: 4}


def exit_code(result: Result) -> int:
    """The exit code of ``run`` by its result: 0 pass, 1 fail, 3 inconclusive, 4 void."""
    return EXIT_CODES[result]


@dataclass(frozen=True, slots=True)
class TargetName:
    """Which target was asked, and whether it was the embedded one."""

    name: str
    sandbox: bool


@dataclass(frozen=True, slots=True)
class VerdictResult(Generic[V]):
    """One settled question; ``settled_at`` is wall seconds."""

    verdict: V
    reason: str
    settled_at: float


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """What the target answered to the step that published; ``status`` is None when no answer came."""

    result: PublishResult
    status: int | None = None
    title: str = ""
    detail: str = ""
    correlation_id: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """One delivery; a question still open is None. ``checks`` are sentences, one per failed content check.

    ``stated`` are sentences of what a provider says of its mail: reasons, never proof.
    """

    channel: str
    channel_kind: ChannelKind
    within: float
    give_up: float
    timeliness: VerdictResult[Timeliness] | None = None
    outcome: VerdictResult[Outcome] | None = None
    latency: Interval | None = None
    copies: int = 0
    waypoints: tuple[Waypoint, ...] = ()
    checks: tuple[str, ...] = ()
    stated: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether both questions are answered."""
        return self.timeliness is not None and self.outcome is not None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One probe with all its deliveries; ``answer`` is None while none is on record."""

    scenario: str
    probe: str
    slot: float | None
    kind: PublicationKind
    requested_at: float | None = None
    answered_at: float | None = None
    answer: AnswerResult | None = None
    trace_id: str = ""
    deliveries: tuple[DeliveryResult, ...] = ()


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """All deliveries of one scenario on one channel.

    Quantiles are of the intervals' upper bounds, ``*_lower`` of their lower bounds; a lost delivery counts as
    infinitely late. None: nothing can be said, math.inf: so many were not delivered that the quantile is not
    reached. ``uncertainty_max`` is the widest interval.
    """

    scenario: str
    channel: str
    expected: int
    open: int
    within: float
    give_up: float
    by_outcome: Mapping[Outcome, int]
    by_timeliness: Mapping[Timeliness, int]
    latency_p50: float | None = None
    latency_p95: float | None = None
    latency_max: float | None = None
    latency_p50_lower: float | None = None
    latency_p95_lower: float | None = None
    latency_max_lower: float | None = None
    uncertainty_max: float | None = None

    @property
    def undelivered(self) -> tuple[str, ...]:
        """The names of the quantiles that were never reached."""
        return tuple(name for name in QUANTILES if getattr(self, name) == math.inf)


QUANTILES: Mapping[str, float] = {
    f"latency_{name}{bound}": q for bound in ("", "_lower") for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
}


@dataclass(frozen=True, slots=True)
class RunResult:
    """The whole answer of ``run``, ``gate``, ``report`` and ``show``."""

    version: ClassVar[int] = VERSION

    target: TargetName
    result: Result
    reason: str
    probes: tuple[ProbeResult, ...] = ()
    summary: tuple[SummaryRow, ...] = ()


def to_json(result: RunResult) -> dict[str, Any]:
    """The result as JSON values, described by ``result_schema``."""
    return {
        "version": result.version,
        "target": {"name": result.target.name, "sandbox": result.target.sandbox},
        "result": result.result.value,
        "reason": result.reason,
        "probes": [probe_to_json(probe) for probe in result.probes],
        "summary": [_summary_to_json(row) for row in result.summary],
    }


def json_text(result: Mapping[str, Any]) -> str:
    """The JSON as text: ASCII only, so that no console and no pipe can spoil it; never NaN or Infinity."""
    return json.dumps(result, indent=2, allow_nan=False)


def instant_to_json(wall: float | None) -> str | None:
    """A wall time as RFC 3339, None where there is none."""
    return None if wall is None else rfc3339(wall)


def probe_to_json(probe: ProbeResult) -> dict[str, Any]:
    """One element of ``probes``."""
    return {
        "scenario": probe.scenario,
        "probe": probe.probe,
        "slot": instant_to_json(probe.slot),
        "kind": probe.kind.value,
        "requested_at": instant_to_json(probe.requested_at),
        "answered_at": instant_to_json(probe.answered_at),
        "answer": None if probe.answer is None else _answer_to_json(probe.answer),
        "trace_id": probe.trace_id,
        "deliveries": [_delivery_to_json(delivery) for delivery in probe.deliveries],
    }


def _answer_to_json(answer: AnswerResult) -> dict[str, Any]:
    return {
        "result": answer.result.value,
        "status": answer.status,
        "title": answer.title,
        "detail": answer.detail,
        "correlation_id": answer.correlation_id,
    }


def _delivery_to_json(delivery: DeliveryResult) -> dict[str, Any]:
    return {
        "channel": delivery.channel,
        "channel_kind": delivery.channel_kind.value,
        "within": delivery.within,
        "give_up": delivery.give_up,
        "timeliness": None if delivery.timeliness is None else _verdict_to_json(delivery.timeliness),
        "outcome": None if delivery.outcome is None else _verdict_to_json(delivery.outcome),
        "latency": None if delivery.latency is None else _interval_to_json(delivery.latency),
        "copies": delivery.copies,
        "waypoints": [_waypoint_to_json(waypoint) for waypoint in delivery.waypoints],
        "checks": list(delivery.checks),
        "stated": list(delivery.stated),
    }


def _verdict_to_json(verdict: VerdictResult[Any]) -> dict[str, Any]:
    return {
        "verdict": verdict.verdict.value,
        "reason": verdict.reason,
        "settled_at": rfc3339(verdict.settled_at),
    }


def _interval_to_json(interval: Interval) -> dict[str, Any]:
    return {"lower": interval.lower, "upper": interval.upper, "basis": interval.basis}


def _waypoint_to_json(waypoint: Waypoint) -> dict[str, Any]:
    return {
        "name": waypoint.name,
        "at": rfc3339(waypoint.at),
        "source": waypoint.source,
        "resolution": waypoint.resolution,
        "detail": waypoint.detail,
    }


def _summary_to_json(row: SummaryRow) -> dict[str, Any]:
    return {
        "scenario": row.scenario,
        "channel": row.channel,
        "expected": row.expected,
        "open": row.open,
        "within": row.within,
        "give_up": row.give_up,
        "by_outcome": {verdict.value: count for verdict, count in row.by_outcome.items()},
        "by_timeliness": {verdict.value: count for verdict, count in row.by_timeliness.items()},
        **{name: _finite(getattr(row, name)) for name in QUANTILES},
        "uncertainty_max": row.uncertainty_max,
        "undelivered": list(row.undelivered),
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value
