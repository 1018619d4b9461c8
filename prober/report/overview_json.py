"""An overview as JSON: the result with its ``report``. API, versioned, described by ``prober schema result``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from prober.objectives import Burn, Counts
from prober.report.overview import SHOWN_QUANTILES, Lane, ObjectiveReport, Overview, ProviderShare
from prober.report.provider_share import share_sentence
from prober.report.values import RunResult, instant_to_json, to_json


def overview_to_json(overview: Overview) -> dict[str, Any]:
    """``probes`` are the worst ones; everything else that a report says stands in ``report``."""
    result = RunResult(overview.target, overview.result, overview.reason, overview.worst, overview.summary)
    window = overview.window
    return {
        **to_json(result),
        "report": {
            "since": instant_to_json(window.since),
            "until": instant_to_json(window.until),
            "scenario": window.scenario or None,
            "channel": window.channel or None,
            "location": window.location or None,
            "deliveries": overview.expected,
            "sampled": overview.sampled,
            "channels": [_lane(lane) for lane in overview.lanes],
            "objectives": [_objective(each) for each in overview.objectives],
            "providers": [_provider(share) for share in overview.providers],
        },
    }


def _lane(lane: Lane) -> dict[str, Any]:
    quantiles = {
        name: None if not lane.quantiles else {"lower": _finite(low), "upper": _finite(high)}
        for name in SHOWN_QUANTILES
        for low, high in [lane.quantiles.get(name, (0.0, 0.0))]
    }
    return {
        "scenario": lane.scenario,
        "kind": lane.kind,
        "channel": lane.channel,
        "channel_kind": lane.channel_kind,
        "expected": lane.expected,
        "open": lane.open,
        "void": lane.void,
        "on_time": {
            "good": lane.share.good,
            "of": lane.share.of,
            "ratio": lane.share.ratio,
            "wilson": list(lane.share.wilson),
            "band": list(lane.share.band),
        },
        "estimated": lane.live,
        "quantiles": quantiles,
        "undelivered": [name for name, (_, high) in lane.quantiles.items() if high == math.inf],
        "curve": [list(point) for point in lane.curve],
        "stages": [
            {"name": stage.name, "count": stage.count, "p50": stage.p50, "p95": stage.p95} for stage in lane.stages
        ],
    }


def _provider(share: ProviderShare) -> dict[str, Any]:
    return {
        "channel": share.channel,
        "provider": share.provider,
        "control_messages": share.count,
        "slow": share.slow,
        "lost": share.lost,
        "p50": _finite(share.p50),
        "p95": _finite(share.p95),
        "max": _finite(share.max),
        "sentence": share_sentence(share),
    }


def _objective(report: ObjectiveReport) -> dict[str, Any]:
    objective, left = report.objective, report.budget
    return {
        "name": objective.name,
        "indicator": objective.indicator.value,
        "goal": objective.goal,
        "window": objective.window,
        "within": objective.within,
        "counts": _counts(report.counts),
        "channels": {channel: _counts(counts) for channel, counts in report.channels.items()},
        "period": _counts(report.period),
        "budget": None
        if left is None
        else {
            "remaining": left.remaining,
            "interval": None if left.interval is None else list(left.interval),
            "band": list(left.band),
        },
        "burns": [_burn(burn) for burn in report.burns],
    }


def _counts(counts: Counts) -> dict[str, Any]:
    return {
        "good": round(counts.good),
        "bad": round(counts.bad),
        "unsure": round(counts.unsure),
        "void": round(counts.void),
        "ratio": counts.ratio,
        "band": None if counts.band is None else list(counts.band),
        "coverage": counts.coverage,
    }


def _burn(burn: Burn) -> Mapping[str, Any]:
    return {
        "severity": burn.window.severity.value,
        "long_window": burn.window.long,
        "short_window": burn.window.short,
        "factor": burn.factor,
        "long": burn.long,
        "short": burn.short,
        "burning": burn.burning,
    }


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
