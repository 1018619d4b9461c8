"""Upper bounds, in seconds, of the histograms' buckets: API, since rules and dashboards name them."""

from __future__ import annotations

LATENCY_BOUNDS = (
    0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 25.0, 30.0, 45.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
)  # fmt: skip
"""Of the delivery latency; each configured ``within`` is added."""

PUBLISH_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Of the API's answer; 0.15 and 0.3 are the objective's and the warning's."""

UNCERTAINTY_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Of the width of a latency's interval."""

START_DELAY_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Of how late a probe was started."""

CONTROL_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
"""Of a control message of ours, from its posting to its being seen: the provider's own share."""

WAYPOINT_BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Of how long after its request a probe's waypoints lie."""


def bound_text(bound: float) -> str:
    """A bucket's upper bound as its label ``le`` says it."""
    return "+Inf" if bound == float("inf") else repr(float(bound))
