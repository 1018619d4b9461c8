"""Deliveries -> one summary row per scenario and channel."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from prober.model import Outcome, Timeliness
from prober.report.values import QUANTILES, DeliveryResult, ProbeResult, SummaryRow
from prober.statistics import quantile


def summarise(probes: Iterable[ProbeResult]) -> tuple[SummaryRow, ...]:
    """One row per scenario and channel, in order of first appearance."""
    groups: dict[tuple[str, str], list[DeliveryResult]] = {}
    for probe in probes:
        for delivery in probe.deliveries:
            groups.setdefault((probe.scenario, delivery.channel), []).append(delivery)
    return tuple(_summary_row(*name, deliveries) for name, deliveries in groups.items())


def _summary_row(scenario: str, channel: str, deliveries: Sequence[DeliveryResult]) -> SummaryRow:
    outcomes = Counter(delivery.outcome.verdict for delivery in deliveries if delivery.outcome)
    timeliness = Counter(delivery.timeliness.verdict for delivery in deliveries if delivery.timeliness)
    bounds = [bound for bound in map(_bounds, deliveries) if bound is not None]
    widths = [upper - lower for lower, upper in bounds if upper < math.inf]
    values = {"": [upper for _, upper in bounds], "_lower": [lower for lower, _ in bounds]}
    return SummaryRow(
        scenario,
        channel,
        len(deliveries),
        sum(not delivery.settled for delivery in deliveries),
        max(delivery.within for delivery in deliveries),
        max(delivery.give_up for delivery in deliveries),
        {outcome: outcomes[outcome] for outcome in Outcome},
        {verdict: timeliness[verdict] for verdict in Timeliness},
        uncertainty_max=max(widths, default=None),
        **{
            name: quantile(values["_lower" if name.endswith("_lower") else ""], q)
            for name, q in QUANTILES.items()
            if bounds
        },
    )


_ARRIVED = {Outcome.DELIVERED, Outcome.DAMAGED, Outcome.MISPLACED}


def _bounds(delivery: DeliveryResult) -> tuple[float, float] | None:
    """Bounds of a latency that counts in the quantiles.

    What is overdue and still open counts as undelivered: left out, it would make an outage look fast.
    """
    outcome = delivery.outcome.verdict if delivery.outcome else None
    if outcome in _ARRIVED and delivery.latency is not None:
        return delivery.latency.lower, delivery.latency.upper
    overdue = delivery.timeliness is not None and delivery.timeliness.verdict is Timeliness.OVERDUE
    if outcome is Outcome.LOST or (outcome is None and overdue):
        return math.inf, math.inf
    return None
