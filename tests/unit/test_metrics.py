"""What a scrape shows: every configured series from the start, exact buckets, nothing from a message."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from prober.clock import Instant
from prober.ledger.exposing import Labels, Shown, Snapshot, snapshot
from prober.ledger.ledger import Ledger
from prober.ledger.totals import Exemplar, Rise, raise_totals
from prober.metrics import (
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    Configured,
    Local,
    Standing,
    documentation,
    families,
    registry_of,
    write_textfile,
)
from prober.model import Content, Outcome, PublicationKind, Scenario

SCENARIO = Scenario(
    "alert-latency", "", PublicationKind.ALERT, ("email", "slack"), 12.0, 120.0, Content("alert", "t", "s", "x")
)
CONFIGURED = Configured(
    "here",
    "test",
    (SCENARIO,),
    {"alert-latency": ("email", "slack")},
    observers=("mailbox", "app"),
    prices={"email": 0.0001},
)
NOW = Instant(1_790_000_000.0, 500.0, "boot")
DELIVERY = {"scenario": "alert-latency", "kind": "alert", "channel": "slack"}


def text(shown: Snapshot, **rest: object) -> str:
    return generate_latest(registry_of(families(shown, CONFIGURED, **rest))).decode()  # type: ignore[arg-type]


def samples(shown: Snapshot, **rest: object) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in text_string_to_metric_families(text(shown, **rest)):
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k not in {"location", "environment"}}
            assert sample.labels["location"] == "here"
            assert sample.labels["environment"] == "test"
            found[sample.name, frozenset(labels.items())] = sample.value
    return found


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"prober_{name}", frozenset(labels.items())


def test_every_configured_series_exists_at_zero() -> None:
    """Before anything has happened each counter and histogram of what is configured is there, at 0."""
    found = samples(Snapshot())
    for outcome in Outcome:
        for channel in ("email", "slack"):
            labels = {**DELIVERY, "channel": channel, "outcome": outcome.value}
            assert found[key("deliveries_total", **labels)] == 0
    assert found[key("delivery_latency_seconds_bucket", **DELIVERY, le="30.0")] == 0
    assert found[key("delivery_latency_seconds_count", **DELIVERY)] == 0
    assert found[key("publish_requests_total", scenario="alert-latency", kind="alert", result="refused")] == 0
    assert found[key("observer_up", observer="mailbox")] == 0
    assert found[key("in_flight", scenario="alert-latency")] == 0


async def test_buckets_are_exact_and_lost_ones_lie_beyond_all(tmp_path: Path) -> None:
    """A lost delivery is in +Inf and the count, adds its give-up to the sum, and is in no finite bucket."""
    rise = Rise()
    rise.observe("delivery_latency_seconds", DELIVERY, 0.4, (0.5, 1.0, 30.0), Exemplar("p", "ab" * 16))
    rise.observe("delivery_latency_seconds", DELIVERY, 29.9, (0.5, 1.0, 30.0))
    rise.observe_in("delivery_latency_seconds", DELIVERY, 120.0, float("inf"))
    async with Ledger(str(tmp_path / "ledger.sqlite")) as ledger:
        await ledger.write(raise_totals, "here", NOW.wall, rise)
        shown = await ledger.read(snapshot, "here", NOW)
    found = samples(shown)
    buckets = {le: found[key("delivery_latency_seconds_bucket", **DELIVERY, le=le)] for le in ("0.5", "25.0", "30.0")}
    assert buckets == {"0.5": 1, "25.0": 1, "30.0": 2}
    assert found[key("delivery_latency_seconds_bucket", **DELIVERY, le="3600.0")] == 2
    assert found[key("delivery_latency_seconds_bucket", **DELIVERY, le="+Inf")] == 3
    assert found[key("delivery_latency_seconds_count", **DELIVERY)] == 3
    assert found[key("delivery_latency_seconds_sum", **DELIVERY)] == pytest.approx(150.3)
    assert key("delivery_latency_seconds_bucket", **DELIVERY, le="12.0") in found, "the scenario's own deadline"
    openmetrics = generate_openmetrics(registry_of(families(shown, CONFIGURED))).decode()  # type: ignore[no-untyped-call]
    (line,) = [line for line in openmetrics.splitlines() if "trace_id" in line]
    assert 'le="0.5"' in line
    assert "ab" * 16 in line


def test_local_values_and_standings_are_shown() -> None:
    """What only this process knows, and what the objectives have come to."""
    standing = Standing("alert-timeliness", 30 * 86400.0, 0.99, 0.8)
    local = Local(reloaded=False, loop_lag=0.25, errors={("observe", "KeyError"): 2.0})
    found = samples(Snapshot(), standings=[standing], local=local)
    assert found[key("objective_ratio", objective="alert-timeliness")] == 0.99
    assert found[key("error_budget_remaining_ratio", objective="alert-timeliness", window="30d")] == 0.8
    assert found[key("config_last_reload_successful")] == 0
    assert found[key("loop_lag_seconds")] == 0.25
    assert found[key("internal_errors_total", component="observe", reason="KeyError")] == 2


def test_cost_follows_the_messages() -> None:
    """Messages by kind of channel times the configured price."""
    totals: dict[tuple[str, Labels], float] = {("messages_sent_total", (("provider", "email"),)): 5000.0}
    assert samples(Snapshot(totals=totals))[key("cost_estimate_usd_total", provider="email")] == pytest.approx(0.5)


def test_promtool_finds_nothing_to_say(tmp_path: Path) -> None:
    """Prometheus' own linter accepts the page, from both an empty and a used ledger."""
    used = Snapshot(
        totals={("copies_total", tuple(sorted(DELIVERY.items()))): 3.0},
        exemplars={
            ("delivery_latency_seconds_bucket", (*sorted(DELIVERY.items()), ("le", "0.5"))): Shown("p", "a", 1, 1)
        },
        in_flight={"alert-latency": 2},
        oldest={"alert-latency": 3.0},
        watermarks={"slack": NOW.wall},
        dependencies={"redis": True, "aws_ses": None},
    )  # fmt: skip
    for shown in (Snapshot(), used):
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=text(shown).encode(), capture_output=True, timeout=200, check=False
        )
        assert (checked.returncode, checked.stderr.decode(), checked.stdout.decode()) == (0, "", "")


def test_textfile_is_replaced_whole(tmp_path: Path) -> None:
    """The file for node_exporter is written beside and renamed, readable by another user, and nothing else is left."""
    place = tmp_path / "prober.prom"
    place.write_text("old")
    write_textfile(place, text(Snapshot()).encode())
    assert "prober_slots_total" in place.read_text()
    assert place.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["prober.prom"]


def test_documentation_names_every_metric() -> None:
    """The generated table has a row for each."""
    table = documentation()
    for name in [*(shape.name for shape in (*COUNTERS, *HISTOGRAMS)), *(name for name, _, _ in GAUGES)]:
        assert f"`prober_{name}`" in table


def test_the_documented_table_is_the_generated_one() -> None:
    """deploy/metrics.md holds the table as the code has it (`python -m prober.metrics` prints it)."""
    page = Path(__file__).parents[2] / "deploy" / "metrics.md"
    assert documentation() in page.read_text(encoding="utf-8")


def test_one_scenario_more_adds_its_series() -> None:
    """A scenario added by a reload is there at zero at once."""
    other = replace(SCENARIO, name="other", within=7.0)
    both = replace(CONFIGURED, scenarios=(SCENARIO, other), channels={**CONFIGURED.channels, "other": ("slack",)})
    page = generate_latest(registry_of(families(Snapshot(), both))).decode()
    assert 'le="7.0",location="here",scenario="other"' in page
