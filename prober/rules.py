"""Objectives, scenarios -> Prometheus recording and alerting rules. Pure: the text's values, without I/O.

Replicas expose the same totals, so ``max without (instance, pod)`` stands before any sum. The sandbox never alerts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prober.burn_windows import BURN_WINDOWS, BurnWindow, Severity
from prober.durations import format_duration
from prober.model import PublicationKind, Scenario, SlotState
from prober.objectives import PER_CHANNEL, CounterUse, Indicator, Objective
from prober.schedule import longest_span

Rule = dict[str, Any]

FEW = 3
"""Bad events below which nothing fires: of few probes one or two are bad by chance."""

SEVERITIES: Mapping[Severity, str] = {Severity.PAGE: "critical", Severity.TICKET: "warning"}
WINDOWS = tuple(sorted({length for window in BURN_WINDOWS for length in (window.long, window.short)}))

_HERE = 'environment!="sandbox"'
_SLOW = Objective("alerts-slow", Indicator.TIMELINESS, 0.90, kinds=frozenset({PublicationKind.ALERT}))
_FAILURES = Objective("channel-failures", Indicator.DELIVERY, 0.95)
_ERRORS = Objective("api-errors", Indicator.PUBLISH, 0.95)
_LATENCY = Objective("api-p95", Indicator.API_LATENCY, 0.95, within=0.3)


def rule_groups(
    objectives: Sequence[Objective], scenarios: Iterable[Scenario], runbooks: str = "deploy/runbooks/README.md"
) -> dict[str, Any]:
    """The whole rule file. Records and the alerts on them stand in one group, which is evaluated in order."""
    scenarios = tuple(scenarios)
    kinds = {scenario.name: scenario.kind.value for scenario in scenarios}
    burning = [
        rule for one in objectives for rule in (*_records(one, kinds), *_burn_alerts(one), _budget_is_spent(one))
    ]
    groups = {
        "prober-objectives": burning,
        "prober-thresholds": [*_thresholds(kinds)],
        "prober-itself": [*_own_alerts(scenarios)],
    }
    for rules in groups.values():
        for rule in rules:
            if "alert" in rule:
                rule["annotations"]["runbook_url"] = f"{runbooks}#{rule['alert'].lower()}"
    return {"groups": [{"name": name, "interval": "30s", "rules": rules} for name, rules in groups.items() if rules]}


def _records(objective: Objective, kinds: Mapping[str, str]) -> Iterator[Rule]:
    for window in WINDOWS:
        for name, expression in (
            ("bad", bad_events(objective, window, kinds)),
            ("valid", valid_events(objective, window, kinds)),
        ):
            yield {
                "record": f"prober:objective_{name}:increase{format_duration(window)}",
                "expr": expression,
                "labels": {"objective": objective.name},
            }


def _burn_alerts(objective: Objective) -> Iterator[Rule]:
    """Both windows must burn, and at least FEW events be bad (Site Reliability Workbook, chapter 5)."""
    for window in BURN_WINDOWS:
        factor = window.factor(objective.window)
        most = factor * (1 - objective.goal)
        if most >= 1:
            continue  # a lenient goal cannot burn so fast: the alert could never fire
        yield _alert(
            "ProberBudgetBurn",
            _burning(objective, window, most),
            SEVERITIES[window.severity],
            category=_category(objective),
            summary=f"{objective.name} burns its error budget more than {factor:g} times too fast",
            description=f"Over {format_duration(window.long)} and {format_duration(window.short)} more than "
            f"{100 * most:.3g} % were bad, {100 * (1 - objective.goal):.3g} % may be.",
            labels={"objective": objective.name, "window": format_duration(window.long)},
        )


def _budget_is_spent(objective: Objective) -> Rule:
    """Nothing is left over the objective's window, and it is no tale of long ago: FEW were bad in the last days.

    The same floor keeps one bad event among the first few from spending a budget that is not there yet.
    """
    chosen = f'objective="{objective.name}"'
    left = f"max without (instance, pod) (prober_error_budget_remaining_ratio{{{_HERE},{chosen}}})"
    bad = f"sum by (location, environment) (prober:objective_bad:increase{format_duration(WINDOWS[-1])}{{{chosen}}})"
    return _alert(
        "ProberBudgetSpent",
        f"({left} <= 0) and on (location, environment) ({bad} >= {FEW})",
        SEVERITIES[Severity.TICKET],
        category=_category(objective),
        summary=f"{objective.name} has spent its error budget",
        description=f"Over {format_duration(objective.window)} more than {100 * (1 - objective.goal):.3g} % were bad.",
        labels={"objective": objective.name},
        lasting="15m",
    )


def _category(objective: Objective) -> str:
    return "delivery" if objective.indicator in PER_CHANNEL else "api"


def _burning(objective: Objective, window: BurnWindow, most: float) -> str:
    chosen = f'{{objective="{objective.name}"}}'

    def series(name: str, length: float) -> str:
        return f"prober:objective_{name}:increase{format_duration(length)}{chosen}"

    parts = [f"{series('bad', w)} / {series('valid', w)} > {most:.6g}" for w in (window.long, window.short)]
    return " and ".join(f"({part})" for part in (*parts, f"{series('bad', window.long)} >= {FEW}"))


def bad_events(objective: Objective, window: float, kinds: Mapping[str, str]) -> str:
    """How many valid events were not good within the last ``window`` seconds."""
    if objective.indicator is Indicator.API_LATENCY:
        good = _sum(objective, [_increase(objective, "publish_duration_seconds_bucket", _le(objective), window, kinds)])
        return f"{valid_events(objective, window, kinds)} - {good}"
    return _sum(objective, _events(objective, window, kinds, lambda use: use.bad | use.unsure))


def valid_events(objective: Objective, window: float, kinds: Mapping[str, str]) -> str:
    """How many events said something about the target within the last ``window`` seconds."""
    if objective.indicator is Indicator.API_LATENCY:
        return _sum(objective, [_increase(objective, "publish_duration_seconds_count", "", window, kinds)])
    return _sum(objective, _events(objective, window, kinds, lambda use: use.good | use.bad | use.unsure))


def _events(
    objective: Objective, window: float, kinds: Mapping[str, str], values: Callable[[CounterUse], frozenset[str]]
) -> list[str]:
    return [
        _increase(objective, use.name, _one_of(use.label, values(use)), window, kinds)
        for use in objective.uses
        if values(use)
    ]


def _sum(objective: Objective, parts: Sequence[str]) -> str:
    by = "location, environment" + (", channel" if objective.indicator in PER_CHANNEL else "")
    return f"sum by ({by}) ({' or '.join(parts)})"


def _increase(objective: Objective, name: str, chosen: str, window: float, kinds: Mapping[str, str]) -> str:
    selectors = [_HERE, chosen]
    if objective.scenarios:
        selectors.append(_one_of("scenario", objective.scenarios))
    if objective.channels:
        selectors.append(_one_of("channel", objective.channels))
    if objective.kinds and name == "slots_total":  # it does not say the kind
        selectors.append(_one_of("scenario", [s for s, kind in kinds.items() if kind in objective.kinds]))
    elif objective.kinds:
        selectors.append(_one_of("kind", objective.kinds))
    inside = ",".join(filter(None, selectors))
    return f"max without (instance, pod) (increase(prober_{name}{{{inside}}}[{format_duration(window)}]))"


def _one_of(label: str, values: Iterable[str]) -> str:
    return f'{label}=~"{"|".join(re.escape(str(value)).replace(chr(92) + "-", "-") for value in sorted(values))}"'


def _le(objective: Objective) -> str:
    """Prometheus 2 keeps the bound as the client writes it, Prometheus 3 writes whole ones as ``1.0``."""
    text = f"{objective.within or 0:g}".replace(".", "\\\\.")
    return f'le=~"{text}"' if "." in text else f'le=~"{text}(\\\\.0)?"'


def _thresholds(kinds: Mapping[str, str]) -> Iterator[Rule]:
    """The publishing system's own thresholds (its monitoring document, "Alerting Rules"), seen from outside."""

    def over(objective: Objective, window: float, share: float, few_over: float) -> str:
        bad, valid = bad_events(objective, window, kinds), valid_events(objective, window, kinds)
        return f"(({bad}) / ({valid}) > {share}) and ({bad_events(objective, few_over, kinds)}) >= {FEW}"

    yield _alert("ProberApiErrors", over(_ERRORS, 300, 0.05, 1800), "critical", category="api", lasting="5m",
                 summary="More than 5 % of the publications fail",
                 description="Publications that the API did not accept, over 5 minutes.")  # fmt: skip
    yield _alert("ProberAlertsSlow", over(_SLOW, 1800, 0.10, 1800), "high", category="delivery",
                 summary="More than 10 % of the alerts are late on {{ $labels.channel }}",
                 description="Alerts that were not visible within their deadline, over 30 minutes.")  # fmt: skip
    yield _alert("ProberApiSlow", over(_LATENCY, 300, 0.05, 1800), "warning", category="api", lasting="5m",
                 summary="The API's p95 is above 300 ms",
                 description="More than 5 % of the answers took longer than 300 ms, over 5 minutes.")  # fmt: skip
    yield _alert("ProberChannelFailures", over(_FAILURES, 3600, 0.05, 3600), "warning", category="delivery",
                 summary="More than 5 % do not arrive whole on {{ $labels.channel }}",
                 description="Lost, damaged or misplaced deliveries, over an hour.")  # fmt: skip


_SKIPPED = frozenset({SlotState.LATE, SlotState.DOWN, SlotState.BUDGET, SlotState.KILLED})


def _own_alerts(scenarios: Sequence[Scenario]) -> Iterator[Rule]:
    """The prober's own: a fault of ours is never the target's, and is said by itself."""

    def latest(name: str, chosen: str = "") -> str:
        inside = ",".join(filter(None, (_HERE, chosen)))
        return f"max without (instance, pod) (prober_{name}{{{inside}}})"

    def own(name: str, expression: str, summary: str, severity: str = "warning", lasting: str = "") -> Rule:
        return _alert(name, expression, severity, category="prober", summary=summary, lasting=lasting,
                      description="Nothing is said about the target until this is mended.")  # fmt: skip

    yield own("ProberDown", f"absent(prober_build_info{{{_HERE}}})", "No prober is scraped", "critical", "5m")
    yield own("ProberObserverBlind", f"{latest('observer_up')} == 0", "{{ $labels.observer }} is blind", lasting="5m")
    yield own("ProberChannelUnread", f"time() - {latest('channel_watermark_timestamp_seconds')} > 300",
              "{{ $labels.channel }} has not been read completely for 5 minutes")  # fmt: skip
    for one in scenarios:
        if one.schedule.every is not None or one.schedule.cron is not None:
            bound = math.ceil(longest_span(one.schedule, 3) + one.give_up + max(60.0, 0.1 * one.give_up))
            settled = latest("last_settled_timestamp_seconds", f'scenario="{one.name}"')
            rule = own("ProberNothingSettled", _longer_ago(settled, bound),
                       f"Nothing of {one.name} settled for {format_duration(bound)}")  # fmt: skip
            rule["labels"]["scenario"] = one.name
            yield rule
    skipped = f"increase(prober_slots_total{{{_HERE},{_one_of('state', _SKIPPED)}}}[30m])"
    yield own("ProberSlotsSkipped", f"sum by (location, environment, scenario, state) "
              f"(max without (instance, pod) ({skipped})) >= {FEW}",
              "{{ $labels.scenario }} skips its slots: {{ $labels.state }}")  # fmt: skip
    errors = f"max without (instance, pod) (increase(prober_internal_errors_total{{{_HERE}}}[15m]))"
    # The first error of its kind makes its series, which thus never rises: what was not there while we were counts.
    first = (
        f"{latest('internal_errors_total')} unless max without (instance, pod) "
        f"(prober_internal_errors_total{{{_HERE}}} offset 15m) "
        f"and on (location, environment) prober_build_info{{{_HERE}}} offset 15m"
    )
    yield own(
        "ProberInternalErrors",
        f"{errors} >= 1 or ({first})",
        "An error of the prober itself in {{ $labels.component }}",
    )
    yield own("ProberClockUncertain", f"{latest('clock_uncertainty_seconds')} > 2",
              "The clock of {{ $labels.source }} is only known to {{ $value }} s", lasting="15m")  # fmt: skip
    yield own("ProberConfigReloadFailed", f"prober_config_last_reload_successful{{{_HERE}}} == 0",
              "The last change of the configuration was refused", lasting="5m")  # fmt: skip
    yield own("ProberHeartbeatLost", _longer_ago(latest("heartbeat_last_success_timestamp_seconds"), 600),
              "The heartbeat has not got through for 10 minutes")  # fmt: skip
    yield own("ProberLoopLag", f"prober_loop_lag_seconds{{{_HERE}}} > 0.5",
              "The prober wakes up late, and its intervals are wide", lasting="5m")  # fmt: skip
    yield own("ProberWatchdog", "vector(1)", "Always fires: whoever misses it knows that alerting is dead", "none")


def _longer_ago(stamp: str, seconds: float) -> str:
    """Something was last done so long ago, or has never been (0) for so long."""
    before = stamp.replace("})", f"}} offset {format_duration(seconds)})")
    return f"(time() - ({stamp} > 0) > {seconds}) or ({stamp} == 0 and {before} == 0)"


def _alert(
    name: str,
    expression: str,
    severity: str,
    *,
    category: str,
    summary: str,
    description: str,
    lasting: str = "",
    labels: Mapping[str, str] | None = None,
) -> Rule:
    return {
        "alert": name,
        "expr": expression,
        **({"for": lasting} if lasting else {}),
        "labels": {"severity": severity, "category": category, **(labels or {})},
        "annotations": {"summary": summary, "description": description},
    }
