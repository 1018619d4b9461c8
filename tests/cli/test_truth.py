"""``prober run`` against the sandbox's truth."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from prober.interval import Interval
from prober.sandbox.launch import SandboxProcess, start_sandbox
from tests.cli.console import Console, Ended, changed

pytestmark = pytest.mark.asyncio(loop_scope="session")

WRITTEN = 2e-3
"""Seconds by which wall clock readings may disagree: they are written to the microsecond, and the clock is slewed."""


def wall(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def true_times(sandbox: SandboxProcess) -> dict[tuple[str, str], list[Interval]]:
    """When the messages of each probe became visible on each channel, by the wall clock."""
    async with sandbox.control() as control:
        requests = await control.publications()
        arrivals = await control.truth()
    probes = {one["publication_id"]: one["idempotency_key"].rpartition("-")[0] for one in requests}
    times: dict[tuple[str, str], list[Interval]] = {}
    for one in arrivals:
        if one.publication_id in probes:
            span = Interval(one.visible.before.wall, one.visible.after.wall)
            times.setdefault((probes[one.publication_id], one.channel), []).append(span)
    return times


def honest(probe: dict[str, Any], delivery: dict[str, Any], truth: list[Interval]) -> bool:
    """Whether the delivery's interval intersects the truth of its first arrival."""
    latency, requested = delivery["latency"], wall(probe["requested_at"])
    said = Interval(requested + latency["lower"], requested + latency["upper"]).widened(WRITTEN)
    return said.intersects(min(truth, key=lambda span: span.lower))


async def test_twenty_probes_are_measured_truthfully(world: SandboxProcess, console: Console) -> None:
    """Sixty deliveries are on time and delivered, each interval holds the truth, and the JSON is as its schema says."""
    config = console.write("prober.yaml", changed(world))
    ended = await console.run(
        "run", "alert-latency", "--count", "20", "--every", "200ms", "--output", "json",
        "--config", config, "--ledger", "ledger.sqlite",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert [one[1:] for one in ended.deliveries] == [("on_time", "delivered")] * 60
    assert ended.json["result"] == "pass"
    truth = await true_times(world)
    for probe in ended.json["probes"]:
        for delivery in probe["deliveries"]:
            assert honest(probe, delivery, truth[probe["probe"], delivery["channel"]]), (probe, delivery)


async def run_in(
    weather: str, console: Console, *arguments: str
) -> tuple[Ended, dict[tuple[str, str], list[Interval]]]:
    """Three probes on a sandbox in this weather, and its truth."""
    async with start_sandbox(console.write("weather.yaml", weather)) as sandbox:
        config = console.write("prober.yaml", changed(sandbox))
        ended = await console.run(
            "run", "alert-latency", "--count", "3", "--every", "200ms", "--output", "json", *arguments,
            "--config", config, "--ledger", "ledger.sqlite",
        )  # fmt: skip
        return ended, await true_times(sandbox)


async def test_what_slack_loses_is_overdue_and_lost(console: Console) -> None:
    """In total loss each Slack delivery is overdue and then lost, the others are on time, and the run fails."""
    ended, truth = await run_in(
        "seed: 7\nchannels: {slack: {loss: 1.0}}\n", console, "--within", "3s", "--give-up", "8s"
    )
    assert ended.code == 1, ended.err
    assert {one for one in ended.deliveries if one[0] == "slack"} == {("slack", "overdue", "lost")}
    assert {one[1:] for one in ended.deliveries if one[0] != "slack"} == {("on_time", "delivered")}
    assert len(ended.deliveries) == 9
    assert all(
        one["latency"] is None for p in ended.json["probes"] for one in p["deliveries"] if one["channel"] == "slack"
    )
    assert not any(channel == "slack" for _, channel in truth)


async def test_what_comes_after_the_deadline_is_overdue_and_delivered(console: Console) -> None:
    """An arrival between deadline and horizon is overdue and delivered, with its true latency, and the run fails."""
    weather = "channels: {email: {latency: 3s}, slack: {latency: 3s}, discord: {latency: 3s}}\n"
    ended, truth = await run_in(weather, console, "--within", "2s", "--give-up", "6s")
    assert ended.code == 1, ended.err
    assert [one[1:] for one in ended.deliveries] == [("overdue", "delivered")] * 9
    for probe in ended.json["probes"]:
        for delivery in probe["deliveries"]:
            assert delivery["latency"]["lower"] > 1.9
            assert honest(probe, delivery, truth[probe["probe"], delivery["channel"]]), (probe, delivery)
