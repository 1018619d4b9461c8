"""Every alert of ``prober rules`` on Debian's promtool: it fires when it should, and is silent when it should not."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from prober.model import Schedule
from prober.objectives import DEFAULT_OBJECTIVES
from prober.rules import rule_groups
from tests.real.test_rules import ALERTS, SCENARIOS, counter, timeliness
from tests.servers.programs import program

(LATENCY,) = [scenario for scenario in SCENARIOS if scenario.name == "alert-latency"]
AT_NINE = replace(LATENCY, name="at-nine", schedule=Schedule(cron="0 9 * * mon-fri"))
GROUPS = rule_groups(DEFAULT_OBJECTIVES, (*SCENARIOS, AT_NINE))
ALERT = {"scenario": "alert-latency", "kind": "alert"}
LETTER = {"scenario": "newsletter-delivery", "kind": "newsletter", "channel": "email"}
HOURS = "0+1x120"
"""Two fair hours at one a minute, before anything happens at minute 120."""


class Timeline(NamedTuple):
    """Series at a sample each so many minutes, and how often each alert fires at each minute."""

    name: str
    series: list[dict[str, str]]
    fires: list[tuple[int, str, int]]
    step: int = 1


def gauge(name: str, values: str, **labels: str) -> list[dict[str, str]]:
    return counter(name, values, **labels)


def burn(objective: str, window: str) -> str:
    """The burn alert of one objective over one window."""
    return f'ProberBudgetBurn",objective="{objective}",window="{window}'


def published(accepted: str, error: str) -> list[dict[str, str]]:
    return [
        *counter("publish_requests_total", accepted, result="accepted", **ALERT),
        *counter("publish_requests_total", error, result="error", **ALERT),
    ]


def answered(le: str, quick: str, every: str) -> list[dict[str, str]]:
    return [
        *counter("publish_duration_seconds_bucket", quick, le=le, **ALERT),
        *counter("publish_duration_seconds_count", every, **ALERT),
    ]


def letters(delivered: str, lost: str) -> list[dict[str, str]]:
    return [
        *counter("deliveries_total", delivered, outcome="delivered", **LETTER),
        *counter("deliveries_total", lost, outcome="lost", **LETTER),
    ]


GOOD_DAYS, BAD_HOURS = "0+15x288 4320x20 4335+15x10", "0x288 15+15x19 300x10"
"""Three fair days, five hours in which nothing is good, and a recovery, every quarter of an hour."""
THREE_DAYS = timeliness(GOOD_DAYS, BAD_HOURS)
UP = gauge("build_info", "1x160", version="1")

TIMELINES = [
    Timeline("the slower windows of an outage of five hours", THREE_DAYS, [
        (4320 + 90, burn("alert-timeliness", "6h"), 0), (4320 + 120, burn("alert-timeliness", "6h"), 1),
        (4320 + 360, burn("alert-timeliness", "6h"), 0),
        (4320 + 210, burn("alert-timeliness", "24h"), 0), (4320 + 240, burn("alert-timeliness", "24h"), 1),
        (4320 + 210, burn("alert-timeliness", "72h"), 0), (4320 + 240, burn("alert-timeliness", "72h"), 1),
    ], step=15),
    *(Timeline(f"the slower windows of {objective}", series, [
        (minute, burn(objective, window), fires) for window in ("6h", "24h", "72h")
        for minute, fires in ((4320, 0), (4320 + 285, 1))
    ] + [(4320 + 360, burn(objective, "6h"), 0)], step=15) for objective, series in (
        ("newsletter-delivery", letters(GOOD_DAYS, BAD_HOURS)),
        ("publish-availability", published(GOOD_DAYS, BAD_HOURS)),
        ("api-latency", answered("0.15", GOOD_DAYS, "0+15x318")),
    )),
    Timeline("a budget that is spent, while it is hurt", [
        *THREE_DAYS,
        *gauge("error_budget_remaining_ratio", "1x288 -0.5x330", objective="alert-timeliness", window="30d"),
    ], [
        (4320 + 15, "ProberBudgetSpent", 0), (4320 + 45, "ProberBudgetSpent", 1),
        (4320 + 300 + 4320, "ProberBudgetSpent", 0),
    ], step=15),
    Timeline("one bad event among the first few", [
        *timeliness("0x120 0x30", "0x120 1x30"),
        *gauge("error_budget_remaining_ratio", "1x120 -18x30", objective="alert-timeliness", window="30d"),
    ], [(145, "ProberBudgetSpent", 0)]),
    Timeline("newsletters that are lost", letters(f"{HOURS} 120x30", "0x120 1+1x30"), [
        (122, burn("newsletter-delivery", "1h"), 0), (127, burn("newsletter-delivery", "1h"), 1),
        (122, "ProberChannelFailures", 0), (125, "ProberChannelFailures", 1),
    ]),
    Timeline("an API that fails", published(f"{HOURS} 120x30", "0x120 1+1x30"), [
        (121, burn("publish-availability", "1h"), 0), (125, burn("publish-availability", "1h"), 1),
        (124, "ProberApiErrors", 0), (130, "ProberApiErrors", 1),
    ]),
    Timeline("an API slower than its objective", answered("0.15", f"{HOURS} 120x60", "0+1x180"), [
        (162, burn("api-latency", "1h"), 0), (166, burn("api-latency", "1h"), 1),
    ]),
    Timeline("an API slower than 300 ms", answered("0.3", f"{HOURS} 120x60", "0+1x180"), [
        (123, "ProberApiSlow", 0), (132, "ProberApiSlow", 1),
    ]),
    Timeline("late alerts", timeliness(f"{HOURS} 120x60", "0x120 1+1x60"), [
        (122, "ProberAlertsSlow", 0), (125, "ProberAlertsSlow", 1),
    ]),
    Timeline("a ledger begun anew, its counters at 0 again", [
        *timeliness(f"{HOURS} 0+1x30", "50x120 0x30"), *letters(f"{HOURS} 0+1x30", "50x120 0x30"),
        *published(f"{HOURS} 0+1x30", "50x120 0x30"),
    ], [(125, name, 0) for name in ("ProberBudgetBurn", "ProberAlertsSlow", "ProberChannelFailures",
                                    "ProberApiErrors")]),
    Timeline("a prober that dies", [*gauge("build_info", "1x120 _x30", version="1")], [
        (119, "ProberDown", 0), (121, "ProberDown", 0), (132, "ProberDown", 1), (132, "ProberWatchdog", 1),
    ]),
    Timeline("an observer goes blind and sees again", gauge("observer_up", "1x120 0x10 1x20", observer="mailbox"), [
        (119, "ProberObserverBlind", 0), (124, "ProberObserverBlind", 0), (127, "ProberObserverBlind", 1),
        (132, "ProberObserverBlind", 0),
    ]),
    Timeline("a channel is not read", gauge("channel_watermark_timestamp_seconds", "0+60x120 7200x20",
                                            channel="email"), [
        (124, "ProberChannelUnread", 0), (126, "ProberChannelUnread", 1),
    ]),
    Timeline("nothing is settled any more", gauge("last_settled_timestamp_seconds", "0+60x120 7200x20",
                                                  scenario="alert-latency"), [
        (125, "ProberNothingSettled", 0), (127, "ProberNothingSettled", 1),
    ]),
    Timeline("nothing is ever settled", gauge("last_settled_timestamp_seconds", "0x20", scenario="alert-latency"), [
        (5, "ProberNothingSettled", 0), (8, "ProberNothingSettled", 1),
    ]),
    Timeline("slots beyond the budget", [
        *counter("slots_total", "0x120 1+1x20", scenario="alert-latency", state="budget"),
        *counter("slots_total", "0+1x140", scenario="alert-latency", state="started"),
    ], [(122, "ProberSlotsSkipped", 0), (124, "ProberSlotsSkipped", 1)]),
    Timeline("an error among known ones", [*UP, *counter("internal_errors_total", "2x120 3x40", component="observe",
                                                         reason="KeyError")], [
        (119, "ProberInternalErrors", 0), (122, "ProberInternalErrors", 1), (140, "ProberInternalErrors", 0),
    ]),
    Timeline("the first error of its kind", [*UP, *counter("internal_errors_total", "_x120 1x40", component="observe",
                                                           reason="KeyError")], [
        (119, "ProberInternalErrors", 0), (122, "ProberInternalErrors", 1), (140, "ProberInternalErrors", 0),
    ]),
    Timeline("Prometheus begins, and finds old errors", [
        *gauge("build_info", "_x120 1x40", version="1"),
        *counter("internal_errors_total", "_x120 7x40", component="observe", reason="KeyError"),
    ], [(122, "ProberInternalErrors", 0), (140, "ProberInternalErrors", 0)]),
    Timeline("a clock that is known roughly", gauge("clock_uncertainty_seconds", "1x120 3x30", source="slack"), [
        (119, "ProberClockUncertain", 0), (134, "ProberClockUncertain", 0), (138, "ProberClockUncertain", 1),
    ]),
    Timeline("a configuration that is refused", gauge("config_last_reload_successful", "1x120 0x30")[:1], [
        (124, "ProberConfigReloadFailed", 0), (127, "ProberConfigReloadFailed", 1),
    ]),
    Timeline("no heartbeat gets through", gauge("heartbeat_last_success_timestamp_seconds", "0+60x120 7200x20"), [
        (129, "ProberHeartbeatLost", 0), (132, "ProberHeartbeatLost", 1),
    ]),
    Timeline("no heartbeat has ever got through", gauge("heartbeat_last_success_timestamp_seconds", "0x20"), [
        (9, "ProberHeartbeatLost", 0), (12, "ProberHeartbeatLost", 1),
    ]),
    Timeline("a heartbeat that comes late", gauge("heartbeat_last_success_timestamp_seconds", "0x1 120+60x18"), [
        (12, "ProberHeartbeatLost", 0), (19, "ProberHeartbeatLost", 0),
    ]),
    Timeline("a service without a heartbeat", UP, [(30, "ProberHeartbeatLost", 0)]),
    # Time begins on a Thursday: settled on that day, on Friday and on Monday, each at nine, and then no more.
    Timeline("a weekend, and then nothing", gauge("last_settled_timestamp_seconds",
                                                  "0x17 32400x47 118800x143 378000x250", scenario="at-nine"), [
        (1980, "ProberNothingSettled", 0), (6270, "ProberNothingSettled", 0), (13500, "ProberNothingSettled", 0),
        (13530, "ProberNothingSettled", 1),
    ], step=30),
    Timeline("a process that wakes up late", gauge("loop_lag_seconds", "0.01x120 1x30")[:1], [
        (124, "ProberLoopLag", 0), (127, "ProberLoopLag", 1),
    ]),
]  # fmt: skip


def question(minute: int, selector: str, count: int) -> dict[str, Any]:
    """How often an alert fires at a minute: two replicas that say the same are one."""
    expr = f'count(ALERTS{{alertstate="firing",alertname="{selector}"}}) or vector(0)'
    return {"expr": expr, "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": count}]}


def rules_for(timeline: Timeline) -> list[dict[str, Any]]:
    """The groups with the rules that a timeline asks about alone: to evaluate all for each takes half a minute."""
    asked = [selector for _, selector, _ in timeline.fires]
    groups = [
        {**group, "rules": [rule for rule in group["rules"] if any(_matters(rule, selector) for selector in asked)]}
        for group in GROUPS["groups"]
    ]
    return [group for group in groups if group["rules"]]


def _matters(rule: dict[str, Any], selector: str) -> bool:
    name, *rest = selector.split('"')
    right = not rest or rule["labels"].get("objective") == rest[1]
    return right and (rule["alert"] == name if "alert" in rule else name.startswith("ProberBudget"))


def test_each_outage_fires_its_alerts_in_time_and_only_then(tmp_path: Path) -> None:
    """One run of promtool over all timelines."""
    for number, each in enumerate(TIMELINES):
        groups = rules_for(each)
        (tmp_path / f"rules{number}.yml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
        test = {
            "rule_files": [f"rules{number}.yml"],
            "evaluation_interval": f"{each.step}m",
            "group_eval_order": [group["name"] for group in groups],
            "tests": [
                {
                    "name": each.name,
                    "interval": f"{each.step}m",
                    "input_series": each.series,
                    "promql_expr_test": [question(*asked) for asked in each.fires],
                }
            ],
        }
        (tmp_path / f"test{number}.yml").write_text(yaml.safe_dump(test, sort_keys=False), encoding="utf-8")
    files = [f"test{number}.yml" for number in range(len(TIMELINES))]
    command = [program("promtool", "prometheus"), "test", "rules", *files]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_no_alert_is_left_out() -> None:
    """Each alert fires in a timeline, and each but the one that always does is silent in another."""
    asked = {(selector.split('"')[0], count > 0) for each in TIMELINES for _, selector, count in each.fires}
    names = {rule["alert"] for rule in ALERTS}
    assert names == {name for name, fires in asked if fires}
    assert names - {"ProberWatchdog"} <= {name for name, fires in asked if not fires}
