"""Invariants that any ledger holds at any moment, recounted from its rows."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from typing import Any

import psycopg

from prober.bounds import LATENCY_BOUNDS, UNCERTAINTY_BOUNDS

Series = tuple[str, tuple[tuple[str, str], ...]]
Beside = sqlite3.Connection | psycopg.Connection[Any]
"""A connection that looks at what is committed, past the ledger's own."""

ARRIVED = {"delivered", "damaged", "misplaced"}
RECOUNTED = {
    "deliveries_expected_total", "deliveries_total", "timeliness_total", "journeys_total", "copies_total",
    "strays_total", "sightings_total", "publish_requests_total", "slots_total", "delivery_latency_seconds_bucket",
    "delivery_latency_seconds_sum", "delivery_latency_seconds_count", "delivery_uncertainty_seconds_bucket",
    "delivery_uncertainty_seconds_sum", "delivery_uncertainty_seconds_count",
}  # fmt: skip


def series(name: str, **labels: str) -> Series:
    return name, tuple(sorted(labels.items()))


def beside(place: str) -> Beside:
    """Such a connection to the ledger at ``place``."""
    return psycopg.connect(place, autocommit=True) if "://" in place else sqlite3.connect(place)


def rows(conn: Beside, table: str) -> list[dict[str, Any]]:
    """All rows of a table by column."""
    query = f"SELECT * FROM {table}"  # noqa: S608 - our own names
    cursor = conn.execute(query) if isinstance(conn, sqlite3.Connection) else conn.execute(query.encode())
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def on_record(conn: Beside) -> dict[Series, float]:
    """The totals that can be recounted; of sightings the channel only (an earlier receipt may change the how)."""
    found: dict[Series, float] = defaultdict(float)
    for row in rows(conn, "totals"):
        if row["name"] in RECOUNTED:
            labels = json.loads(row["labels"])
            if row["name"] == "sightings_total":
                labels.pop("how")
            found[series(row["name"], **labels)] += row["value"]
    return dict(found)


def recount(conn: Beside) -> dict[Series, float]:
    """The same from the rows."""
    found: dict[Series, float] = defaultdict(float)
    of_probe: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows(conn, "deliveries"):
        _count_delivery(row, found)
        of_probe[row["probe_id"]].append(row)
    for mine in of_probe.values():
        _count_journey(mine, found)
    seen = rows(conn, "sightings")
    for channel, _ in {(row["channel"], row["message_id"]) for row in seen}:
        found[series("sightings_total", channel=channel)] += 1
    for row in seen:
        if row["role"] == "stray":
            found[series("strays_total", channel=row["channel"], reason=row["stray"])] += 1
    probes = {row["id"]: row for row in rows(conn, "probes")}
    for row in rows(conn, "steps"):
        _count_step(row, probes[row["probe_id"]], found)
    return dict(found)


def _count_step(row: dict[str, Any], probe: dict[str, Any], found: dict[Series, float]) -> None:
    first = row["after_step"] is None
    if row["result"] is not None and (row["taken_wall"] is not None or first):
        labels = {"scenario": probe["scenario"], "kind": probe["kind"], "result": row["result"]}
        found[series("publish_requests_total", **labels)] += 1
    if first:
        found[series("slots_total", scenario=probe["scenario"], state="planned")] += 1
        if row["taken_wall"] is not None:
            found[series("slots_total", scenario=probe["scenario"], state="started")] += 1
        elif row["result"] is not None:
            found[series("slots_total", scenario=probe["scenario"], state="late")] += 1


def _count_delivery(row: dict[str, Any], found: dict[Series, float]) -> None:
    labels = {"scenario": row["scenario"], "kind": row["kind"], "channel": row["channel"]}
    found[series("deliveries_expected_total", **labels)] += 1
    if row["timeliness"] is not None:
        found[series("timeliness_total", **labels, verdict=row["timeliness"])] += 1
    if row["outcome"] is not None:
        found[series("deliveries_total", **labels, outcome=row["outcome"])] += 1
    if row["copies"]:
        found[series("copies_total", **labels)] += row["copies"]
    if row["outcome"] == "lost":
        _observe(found, "delivery_latency_seconds", labels, row["give_up"], ())
    elif row["outcome"] in ARRIVED:
        bounds = sorted({*LATENCY_BOUNDS, row["within"]})
        _observe(found, "delivery_latency_seconds", labels, max(0.0, row["latency_upper"]), bounds)
        width = row["latency_upper"] - row["latency_lower"]
        _observe(found, "delivery_uncertainty_seconds", labels, width, UNCERTAINTY_BOUNDS)


def _count_journey(mine: list[dict[str, Any]], found: dict[Series, float]) -> None:
    """Void if a delivery is void and no other broke the promise."""
    if any(row["timeliness"] is None or row["outcome"] is None for row in mine):
        return
    words = {word for row in mine for word in (row["timeliness"], row["outcome"])}
    moot = any(row["timeliness"] == "moot" and row["outcome"] not in {"void", "withheld"} for row in mine)
    broken = moot or words - {"on_time", "moot", "void", "delivered", "withheld"}
    result = "broken" if broken else "void" if "void" in words else "kept"
    labels = {"scenario": mine[0]["scenario"], "kind": mine[0]["kind"], "result": result}
    found[series("journeys_total", **labels)] += 1


def _observe(
    found: dict[Series, float], name: str, labels: dict[str, str], value: float, bounds: tuple[float, ...] | list[float]
) -> None:
    le = next((repr(float(bound)) for bound in bounds if value <= bound), "+Inf")
    found[series(f"{name}_bucket", **labels, le=le)] += 1
    found[series(f"{name}_sum", **labels)] += value
    found[series(f"{name}_count", **labels)] += 1


def assert_whole(conn: Beside) -> None:
    """Expected = settled + open, totals = rows, and the hours add up to the totals."""
    for row in rows(conn, "deliveries"):
        assert bool(row["open"]) == (row["timeliness"] is None or row["outcome"] is None)
        assert (row["timeliness"] is None) == (row["timeliness_at"] is None)
        assert (row["outcome"] is None) == (row["outcome_at"] is None)
    assert_same(on_record(conn), recount(conn))
    hours: dict[tuple[str, str], float] = defaultdict(float)
    for row in rows(conn, "totals_hourly"):
        hours[row["name"], row["labels"]] += row["value"]
    assert_same({(row["name"], row["labels"]): row["value"] for row in rows(conn, "totals")}, dict(hours))


def assert_same(found: dict[Any, float], expected: dict[Any, float]) -> None:
    """Equal but for the rounding of sums."""
    wrong = {
        name: (found.get(name, 0.0), expected.get(name, 0.0))
        for name in found.keys() | expected.keys()
        if not abs(found.get(name, 0.0) - expected.get(name, 0.0)) <= 1e-6
    }
    assert not wrong, f"on record and recounted differ: {wrong}"
