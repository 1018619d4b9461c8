"""The ledger's numbers as Prometheus metrics. Names and labels are API: this table is what is documented."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from prober import __version__
from prober.bounds import (
    CONTROL_BOUNDS,
    LATENCY_BOUNDS,
    PUBLISH_BOUNDS,
    START_DELAY_BOUNDS,
    UNCERTAINTY_BOUNDS,
    WAYPOINT_BOUNDS,
    bound_text,
)
from prober.clean_up import CleanUpKind, Removal
from prober.ledger.exposing import Labels, Shown, Snapshot
from prober.model import (
    ChannelKind,
    How,
    Outcome,
    PublishResult,
    Scenario,
    SlotState,
    StrayReason,
    Timeliness,
)
from prober.objectives import Journey

PREFIX = "prober_"


@dataclass(frozen=True, slots=True)
class Configured:
    """What is configured: its series exist at zero from the start.

    ``channels`` are the names of each scenario's channels; ``observers`` and ``prices`` (USD per message, by channel
    kind) as configured.
    """

    location: str
    environment: str
    scenarios: tuple[Scenario, ...] = ()
    channels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    observers: tuple[str, ...] = ()
    prices: Mapping[str, float] = field(default_factory=dict)

    @property
    def all_channels(self) -> tuple[str, ...]:
        return tuple(sorted({name for names in self.channels.values() for name in names}))


@dataclass(frozen=True, slots=True)
class Standing:
    """What an objective has come to: the ratio, and what is left of its error budget, over its window (seconds)."""

    objective: str
    window: float
    ratio: float | None
    remaining: float | None


@dataclass(frozen=True, slots=True)
class Local:
    """What only this process knows. ``errors`` are its internal errors that are not on record yet."""

    reloaded: bool | None = None
    loop_lag: float | None = None
    heartbeat_at: float | None = None
    errors: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shape:
    """One metric from the totals: its labels, what it means, and the label values that exist from the start."""

    name: str
    meaning: str
    labels: tuple[str, ...]
    start: Callable[[Configured], Iterable[tuple[str, ...]]] = lambda _configured: ()
    bounds: Sequence[float] | None = None


def _scenarios(*values: Iterable[str]) -> Callable[[Configured], Iterable[tuple[str, ...]]]:
    return lambda c: [(s.name, *rest) for s in c.scenarios for rest in product(*values)]


def _kinds(*values: Iterable[str]) -> Callable[[Configured], Iterable[tuple[str, ...]]]:
    return lambda c: [(s.name, s.kind.value, *rest) for s in c.scenarios for rest in product(*values)]


def _deliveries(*values: Iterable[str]) -> Callable[[Configured], Iterable[tuple[str, ...]]]:
    return lambda c: [
        (s.name, s.kind.value, channel, *rest)
        for s in c.scenarios
        for channel in c.channels.get(s.name, ())
        for rest in product(*values)
    ]


def _channels(*values: Iterable[str]) -> Callable[[Configured], Iterable[tuple[str, ...]]]:
    return lambda c: [(channel, *rest) for channel in c.all_channels for rest in product(*values)]


def _fixed(*values: tuple[str, ...]) -> Callable[[Configured], Iterable[tuple[str, ...]]]:
    return lambda _configured: values


_DELIVERY = ("scenario", "kind", "channel")

COUNTERS = (
    Shape("slots_total", "Slots by what became of them: planned, started, or why they were not run.",
          ("scenario", "state"), _scenarios(SlotState)),
    Shape("publish_requests_total", "Publish steps by how they ended.", ("scenario", "kind", "result"),
          _kinds(PublishResult)),
    Shape("deliveries_expected_total", "Deliveries that were expected.", _DELIVERY, _deliveries()),
    Shape("deliveries_total", "Deliveries by what became of them.", (*_DELIVERY, "outcome"), _deliveries(Outcome)),
    Shape("timeliness_total", "Deliveries by whether they were visible within the deadline.", (*_DELIVERY, "verdict"),
          _deliveries(Timeliness)),
    Shape("journeys_total", "Probes by whether the promise was kept on all their channels.",
          ("scenario", "kind", "result"), _kinds(Journey)),
    Shape("copies_total", "Further messages of a delivery that had arrived already.", _DELIVERY, _deliveries()),
    Shape("strays_total", "Messages with keys that count for no delivery, by reason.", ("channel", "reason"),
          _channels(StrayReason)),
    Shape("sightings_total", "Messages with keys that were seen, by how.", ("channel", "how"), _channels(How)),
    Shape("messages_sent_total", "Messages that accepted publish steps were to send, by kind of channel.",
          ("provider",), _fixed(*((kind.value,) for kind in ChannelKind))),
    Shape("clean_ups_total", "Clean-ups of what probes left behind, by kind and result.", ("channel", "kind", "result"),
          lambda c: [(channel, kind, result) for channel in ("", *c.all_channels) for kind, result in
                     product(CleanUpKind, Removal) if (kind is CleanUpKind.PUBLICATION) == (not channel)]),
    Shape("internal_errors_total", "Errors of the prober itself.", ("component", "reason"),
          _fixed(("clock", "contradiction"), ("clock", "step"))),
)  # fmt: skip

HISTOGRAMS = (
    Shape("start_delay_seconds", "How long after its slot a probe was started.", ("scenario",), _scenarios(),
          START_DELAY_BOUNDS),
    Shape("publish_duration_seconds", "From a publish request's first byte to its answer; connecting is apart.",
          ("scenario", "kind"), _kinds(), PUBLISH_BOUNDS),
    Shape("delivery_latency_seconds", "Upper bounds of the latency from request to visible; lost ones lie in +Inf and "
          "add their give-up to the sum.", _DELIVERY, _deliveries(), LATENCY_BOUNDS),
    Shape("delivery_uncertainty_seconds", "Widths of the latencies' intervals.", _DELIVERY, _deliveries(),
          UNCERTAINTY_BOUNDS),
    Shape("control_latency_seconds", "From the posting of a control message of ours to its being seen: the provider's "
          "own share.", ("channel",), lambda _configured: (), CONTROL_BOUNDS),
    Shape("waypoint_seconds", "How long after the request a waypoint lies, by the clock of whoever tells it.",
          ("waypoint",), lambda _configured: (), WAYPOINT_BOUNDS),
)  # fmt: skip

GAUGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("in_flight", "Probes of which a delivery is not settled.", ("scenario",)),
    ("oldest_in_flight_seconds", "Age of the oldest of them; 0 without one.", ("scenario",)),
    ("observer_up", "Whether an observer sees (1), or is blind (0).", ("observer",)),
    ("channel_watermark_timestamp_seconds", "Until when a channel is known to have been read completely.",
     ("channel",)),
    ("clock_offset_seconds", "A provider's clock minus ours: the middle of what control messages allow.", ("source",)),
    ("clock_uncertainty_seconds", "Half the width of the same.", ("source",)),
    ("target_dependency_up", "What the target says of its dependencies; those of which nothing is known are left out.",
     ("dependency",)),
    ("objective_ratio", "Share of good events over the objective's window.", ("objective",)),
    ("error_budget_remaining_ratio", "What is left of the error budget: 1 untouched, 0 spent.",
     ("objective", "window")),
    ("sweep_backlog", "Clean-ups that are due and not done.", ()),
    ("last_settled_timestamp_seconds", "When a delivery was last settled; 0: never yet.", ("scenario",)),
    ("config_last_reload_successful", "Whether the last reload of the configuration was accepted.", ()),
    ("loop_lag_seconds", "By how much this process woke up late at its last beat.", ()),
    ("heartbeat_last_success_timestamp_seconds", "When the heartbeat, if configured, last got through; 0: never yet.",
     ()),
    ("build_info", "The version that runs; always 1.", ("version",)),
)  # fmt: skip

COST = Shape(
    "cost_estimate_usd_total",
    "messages_sent_total times the price of a message: an estimate.",
    ("provider",),
    _fixed(*((kind.value,) for kind in ChannelKind)),
)


def families(
    snapshot: Snapshot, configured: Configured, standings: Sequence[Standing] = (), local: Local | None = None
) -> Iterator[Metric]:
    """Every metric of one location, in the order of the tables above. Pure."""
    local = local or Local()
    yield from _counters(snapshot, configured, local)
    yield from (_histogram(shape, snapshot, configured) for shape in HISTOGRAMS)
    values = _gauges(snapshot, configured, standings, local)
    for name, meaning, labels in GAUGES:
        family = GaugeMetricFamily(PREFIX + name, meaning, labels=_names(labels))
        for given, value in sorted(values.get(name, {}).items()):
            family.add_metric(_values(configured, given), value)
        yield family


def _counters(snapshot: Snapshot, configured: Configured, local: Local) -> Iterator[Metric]:
    series: dict[str, dict[tuple[str, ...], float]] = {}
    shapes = {shape.name: shape for shape in COUNTERS}
    for (name, labels), value in snapshot.totals.items():
        if name in shapes:
            series.setdefault(name, {})[_in_order(shapes[name], labels)] = value
    errors = series.setdefault("internal_errors_total", {})
    for pair, count in local.errors.items():
        errors[pair] = errors.get(pair, 0.0) + count
    for shape in COUNTERS:
        yield _counter(shape, series.get(shape.name, {}), configured)
    sent = series.get("messages_sent_total", {})
    costs = {labels: count * configured.prices.get(labels[0], 0.0) for labels, count in sent.items()}
    yield _counter(COST, costs, configured)


def _counter(shape: Shape, found: Mapping[tuple[str, ...], float], configured: Configured) -> Metric:
    family = CounterMetricFamily(PREFIX + shape.name.removesuffix("_total"), shape.meaning, labels=_names(shape.labels))
    start = {tuple(map(str, labels)): 0.0 for labels in shape.start(configured)}
    for labels, value in sorted({**start, **found}.items()):
        family.add_metric(_values(configured, labels), value)
    return family


@dataclass(slots=True)
class _Observed:
    """One histogram's series: counts and exemplars by ``le``, each count apart from the others."""

    counts: dict[str, float] = field(default_factory=dict)
    shown: dict[str, Shown] = field(default_factory=dict)
    total: float = 0.0


def _histogram(shape: Shape, snapshot: Snapshot, configured: Configured) -> Metric:
    """Buckets are stored apart and shown as sums of all below them, as the format wants it."""
    family = HistogramMetricFamily(PREFIX + shape.name, shape.meaning, labels=_names(shape.labels))
    found: dict[tuple[str, ...], _Observed] = {tuple(start): _Observed() for start in shape.start(configured)}
    for (name, labels), value in snapshot.totals.items():
        if name == f"{shape.name}_bucket":
            found.setdefault(_in_order(shape, labels), _Observed()).counts[dict(labels)["le"]] = value
        elif name == f"{shape.name}_sum":
            found.setdefault(_in_order(shape, labels), _Observed()).total = value
    for (name, labels), exemplar in snapshot.exemplars.items():
        if name == f"{shape.name}_bucket":
            found.setdefault(_in_order(shape, labels), _Observed()).shown[dict(labels)["le"]] = exemplar
    for key, observed in sorted(found.items(), key=lambda item: item[0]):
        family.samples += _samples(family.name, shape, configured, key, observed)
    return family


def _samples(
    name: str, shape: Shape, configured: Configured, key: tuple[str, ...], observed: _Observed
) -> Iterator[Sample]:
    withins = {s.within for s in configured.scenarios if key[0] == s.name} if shape.bounds is LATENCY_BOUNDS else set()
    bounds = {bound_text(bound) for bound in (*(shape.bounds or ()), *withins, math.inf)} | observed.counts.keys()
    labels = dict(zip(_names(shape.labels), _values(configured, key), strict=True))
    count = 0.0
    for le in sorted(bounds, key=float):
        count += observed.counts.get(le, 0.0)
        yield Sample(f"{name}_bucket", {**labels, "le": le}, count, None, _exemplar(observed.shown.get(le)), None)
    yield Sample(f"{name}_count", labels, count, None, None, None)
    yield Sample(f"{name}_sum", labels, observed.total, None, None, None)


def _exemplar(shown: Shown | None) -> Exemplar | None:
    if shown is None:
        return None
    return Exemplar({"trace_id": shown.trace_id, "probe_id": shown.probe}, shown.value, shown.at)


def _gauges(
    snapshot: Snapshot, configured: Configured, standings: Sequence[Standing], local: Local
) -> dict[str, dict[tuple[str, ...], float]]:
    scenarios = {scenario.name for scenario in configured.scenarios} | snapshot.in_flight.keys()
    values: dict[str, dict[tuple[str, ...], float]] = {
        "in_flight": {(name,): float(snapshot.in_flight.get(name, 0)) for name in scenarios},
        "oldest_in_flight_seconds": {(name,): snapshot.oldest.get(name, 0.0) for name in scenarios},
        "observer_up": {(name,): float(snapshot.up.get(name, False)) for name in {*configured.observers, *snapshot.up}},
        "channel_watermark_timestamp_seconds": {(name,): at for name, at in snapshot.watermarks.items()},
        "clock_offset_seconds": {(clock.source,): clock.offset for clock in snapshot.clocks},
        "clock_uncertainty_seconds": {(clock.source,): clock.uncertainty for clock in snapshot.clocks},
        "target_dependency_up": {
            (name,): float(up) for name, up in snapshot.dependencies.items() if up is not None
        },
        "objective_ratio": {(s.objective,): s.ratio for s in standings if s.ratio is not None},
        "error_budget_remaining_ratio": {
            (s.objective, _window(s.window)): s.remaining for s in standings if s.remaining is not None
        },
        "sweep_backlog": {(): float(snapshot.backlog)},
        "last_settled_timestamp_seconds": {(scenario.name,): 0.0 for scenario in configured.scenarios}
        | {
            _in_order(Shape("", "", ("scenario",)), labels): at
            for (name, labels), at in snapshot.moments.items()
            if name == "last_settled"
        },
        "build_info": {(__version__,): 1.0},
    }  # fmt: skip
    for name, value in (
        ("config_last_reload_successful", None if local.reloaded is None else float(local.reloaded)),
        ("loop_lag_seconds", local.loop_lag),
        ("heartbeat_last_success_timestamp_seconds", local.heartbeat_at),
    ):
        if value is not None:
            values[name] = {(): value}
    return values


def _window(seconds: float) -> str:
    """A window as Prometheus writes it: whole days, else hours."""
    return f"{seconds / 86400:g}d" if seconds % 86400 == 0 else f"{seconds / 3600:g}h"


def _names(labels: Sequence[str]) -> list[str]:
    return ["location", "environment", *labels]


def _values(configured: Configured, labels: Sequence[str]) -> list[str]:
    return [configured.location, configured.environment, *map(str, labels)]


def _in_order(shape: Shape, labels: Labels) -> tuple[str, ...]:
    given = dict(labels)
    return tuple(given.get(name, "") for name in shape.labels)


class LedgerCollector(Collector):
    """Hands prometheus_client what ``collect`` computes at each scrape."""

    def __init__(self, compute: Callable[[], Iterable[Metric]]) -> None:
        self._compute = compute

    def collect(self) -> Iterable[Metric]:
        return self._compute()


def registry_of(metrics: Iterable[Metric]) -> CollectorRegistry:
    """A registry that holds exactly these."""
    found = list(metrics)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LedgerCollector(lambda: found))
    return registry


def write_textfile(path: Path, text: bytes) -> None:
    """Replace a file for node_exporter's textfile collector in one step: a scrape never sees half of it.

    Raises OSError.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def documentation() -> str:
    """The table of every metric, as Markdown."""
    rows = [("metric", "type", "labels", "meaning"), ("---", "---", "---", "---")]
    for kind, shapes in (("counter", (*COUNTERS, COST)), ("histogram", HISTOGRAMS)):
        rows += [(f"`{PREFIX}{s.name}`", kind, _ticked(s.labels), s.meaning) for s in shapes]
    rows += [(f"`{PREFIX}{name}`", "gauge", _ticked(labels), meaning) for name, meaning, labels in GAUGES]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _ticked(labels: Sequence[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


if __name__ == "__main__":
    sys.stdout.write(documentation())
