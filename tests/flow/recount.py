"""Invariants that any ledger holds at any moment, recounted from its rows."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from sqlalchemy import Connection, Row, select

from prober.ledger.tables import deliveries, probes, sightings, steps, totals, totals_hourly
from prober.ledger.totals import LATENCY_BOUNDS, UNCERTAINTY_BOUNDS

Series = tuple[str, tuple[tuple[str, str], ...]]
ARRIVED = {"delivered", "damaged", "misplaced"}
RECOUNTED = {
    "deliveries_expected_total", "deliveries_total", "timeliness_total", "copies_total", "strays_total",
    "sightings_total", "publish_requests_total", "slots_total", "delivery_latency_seconds_bucket",
    "delivery_latency_seconds_sum", "delivery_latency_seconds_count", "delivery_uncertainty_seconds_bucket",
    "delivery_uncertainty_seconds_sum", "delivery_uncertainty_seconds_count",
}  # fmt: skip


def series(name: str, **labels: str) -> Series:
    return name, tuple(sorted(labels.items()))


def on_record(conn: Connection) -> dict[Series, float]:
    """The totals that can be recounted; of sightings the channel only (an earlier receipt may change the how)."""
    found: Counter[Series] = Counter()
    for row in conn.execute(select(totals)).all():
        if row.name in RECOUNTED:
            labels = json.loads(row.labels)
            if row.name == "sightings_total":
                labels.pop("how")
            found[series(row.name, **labels)] += row.value
    return dict(found)


def recount(conn: Connection) -> dict[Series, float]:
    """The same from the rows."""
    found: Counter[Series] = Counter()
    for row in conn.execute(select(deliveries)).all():
        _count_delivery(row, found)
    rows = conn.execute(select(sightings)).all()
    for channel, _ in {(row.channel, row.message_id) for row in rows}:
        found[series("sightings_total", channel=channel)] += 1
    for row in rows:
        if row.role == "stray":
            found[series("strays_total", channel=row.channel, reason=row.stray)] += 1
    scenario_of = {row.id: row.scenario for row in conn.execute(select(probes)).all()}
    for row in conn.execute(select(steps, probes.c.kind).join(probes, probes.c.id == steps.c.probe_id)).all():
        scenario = scenario_of[row.probe_id]
        if row.result is not None and (row.taken_wall is not None or row.after_step is None):
            found[series("publish_requests_total", scenario=scenario, kind=row.kind, result=row.result)] += 1
        if row.after_step is None:
            found[series("slots_total", scenario=scenario, state="planned")] += 1
            if row.taken_wall is not None:
                found[series("slots_total", scenario=scenario, state="started")] += 1
            elif row.result is not None:
                found[series("slots_total", scenario=scenario, state="late")] += 1
    return dict(found)


def _count_delivery(row: Row[Any], found: Counter[Series]) -> None:
    labels = {"scenario": row.scenario, "kind": row.kind, "channel": row.channel}
    found[series("deliveries_expected_total", **labels)] += 1
    if row.timeliness is not None:
        found[series("timeliness_total", **labels, verdict=row.timeliness)] += 1
    if row.outcome is not None:
        found[series("deliveries_total", **labels, outcome=row.outcome)] += 1
    if row.copies:
        found[series("copies_total", **labels)] += row.copies
    if row.outcome == "lost":
        _observe(found, "delivery_latency_seconds", labels, row.give_up, ())
    elif row.outcome in ARRIVED:
        bounds = sorted({*LATENCY_BOUNDS, row.within})
        _observe(found, "delivery_latency_seconds", labels, max(0.0, row.latency_upper), bounds)
        width = row.latency_upper - row.latency_lower
        _observe(found, "delivery_uncertainty_seconds", labels, width, UNCERTAINTY_BOUNDS)


def _observe(
    found: Counter[Series], name: str, labels: dict[str, str], value: float, bounds: tuple[float, ...] | list[float]
) -> None:
    le = next((repr(float(bound)) for bound in bounds if value <= bound), "+Inf")
    found[series(f"{name}_bucket", **labels, le=le)] += 1
    found[series(f"{name}_sum", **labels)] += value
    found[series(f"{name}_count", **labels)] += 1


def assert_whole(conn: Connection) -> None:
    """Expected = settled + open, totals = rows, and the hours add up to the totals."""
    for row in conn.execute(select(deliveries)).all():
        assert bool(row.open) == (row.timeliness is None or row.outcome is None)
        assert (row.timeliness is None) == (row.timeliness_at is None)
        assert (row.outcome is None) == (row.outcome_at is None)
    assert_same(on_record(conn), recount(conn))
    hours: Counter[tuple[str, str]] = Counter()
    for row in conn.execute(select(totals_hourly)).all():
        hours[row.name, row.labels] += row.value
    assert_same({(row.name, row.labels): row.value for row in conn.execute(select(totals)).all()}, dict(hours))


def assert_same(found: dict[Any, float], expected: dict[Any, float]) -> None:
    """Equal but for the rounding of sums."""
    wrong = {
        name: (found.get(name, 0.0), expected.get(name, 0.0))
        for name in found.keys() | expected.keys()
        if not abs(found.get(name, 0.0) - expected.get(name, 0.0)) <= 1e-6
    }
    assert not wrong, f"on record and recounted differ: {wrong}"
