"""``/probe?module=…``: the latest settled result of a scenario, in the names that blackbox_exporter uses."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from prober.ledger.latest import latest_settled
from prober.ledger.reading import ProbeRecord
from prober.model import Outcome, Scenario, Timeliness
from prober.objectives import Journey, journey
from prober.serving import Serving


async def module_page(serving: Serving, scenario: Scenario) -> bytes:
    """Prometheus' text. Without a settled probe: no success, and what is not known is not a number.

    Raises LedgerError.
    """
    record = await serving.ledger.read(latest_settled, serving.loaded.settings.location, scenario.name)
    return generate_latest(_registry(record, scenario, serving.clock.now().wall))


def _registry(record: ProbeRecord | None, scenario: Scenario, now: float) -> CollectorRegistry:
    registry = CollectorRegistry()
    success = Gauge("probe_success", "Whether the latest settled probe's promise was kept.", registry=registry)
    duration = Gauge("probe_duration_seconds", "The longest of its latencies.", registry=registry)
    horizon = Gauge("probe_timeout_seconds", "When the scenario gives up.", registry=registry)
    age = Gauge("probe_result_age_seconds", "How long ago it was settled.", registry=registry)
    latency = Gauge("probe_delivery_latency_seconds", "Its latencies' upper bounds.", ["channel"], registry=registry)
    horizon.set(scenario.give_up)
    success.set(0.0 if record is None else float(_kept(record)))
    duration.set(math.nan)
    age.set(math.nan)
    if record is not None:
        bounds = [row.give_up if row.latency_upper is None else row.latency_upper for row in record.deliveries]
        duration.set(max(bounds, default=math.nan))
        age.set(max(0.0, now - max(row.outcome_at for row in record.deliveries)))
        for row in record.deliveries:
            latency.labels(row.channel).set(math.inf if row.latency_upper is None else row.latency_upper)
    return registry


def _kept(record: ProbeRecord) -> bool:
    verdicts = [(Timeliness(row.timeliness), Outcome(row.outcome)) for row in record.deliveries]
    return journey(verdicts) is Journey.KEPT
