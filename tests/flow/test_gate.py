"""Whole gates on the in-process world and a manual clock: minutes in milliseconds."""

from __future__ import annotations

import asyncio
import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from prober.ad_hoc import Asked
from prober.cli.gate import conclude
from prober.cli.gating import Gating
from prober.cli.live import PlainView
from prober.draft import Drafting
from prober.gate import PROFILES
from prober.ledger.ledger import Ledger
from prober.report.gate_values import GateResult, Limit
from prober.report.values import Result, TargetName
from prober.sandbox.inprocess import InProcessWorld, WorldObserver, WorldTarget
from prober.sandbox.manual_clock import ManualClock
from prober.sandbox.weather import parse_weather
from prober.stages import Flow, Watch
from tests.flow.rig import ALERT, KEYRING, LOCATION, SCENARIO


class GateRig:
    """A world in some weather, and a gate on it; ``shown`` is what its user has read."""

    def __init__(self, folder: Path, weather: str) -> None:
        self.clock = ManualClock()
        self.world = InProcessWorld(self.clock, parse_weather(weather), contents=[ALERT])
        self.place = str(folder / "ledger.sqlite")
        self.screen = io.StringIO()

    @property
    def shown(self) -> str:
        return self.screen.getvalue()

    async def run(
        self,
        profile: str = "quick",
        *,
        max_probes: int = 120,
        max_time: float = 600.0,
        interrupt_at: float | None = None,
    ) -> GateResult:
        """Run a gate to its end, and let the time pass that it takes."""
        channels = {name: replace(one, observer=name) for name, one in self.world.channels().items()}
        chosen = tuple(channels[name] for name in SCENARIO.channels)
        async with self.world, Ledger(self.place) as ledger:
            self.clock.watch(ledger.busy)
            observers = [WorldObserver(one.name, self.world, (one,)) for one in chosen]
            watches = tuple(Watch(each, {each.name: channels[each.name]}) for each in observers)
            flow = Flow(ledger, WorldTarget(self.world), watches, self.clock, KEYRING, LOCATION, "gate/0/0")
            drafting = Drafting("test", LOCATION, KEYRING, self.world.world.templates)
            for each in observers:
                await each.__aenter__()
            gating = Gating(flow, drafting, PROFILES[profile], [Asked(SCENARIO, chosen)], PlainView(self.screen, 100),
                            max_probes=max_probes, max_time=max_time)  # fmt: skip
            running = asyncio.ensure_future(gating.run(TargetName("world", sandbox=True)))
            try:
                while not running.done():
                    await self.clock.advance(0.5)
                    if interrupt_at is not None and gating.seconds >= interrupt_at:
                        gating.interrupt()
                return await running
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                for each in observers:
                    await each.__aexit__(None, None, None)


class Ending(NamedTuple):
    """A weather, the second at which the gate is interrupted if it is, the exit code and the word of its end."""

    weather: str
    stop: float | None
    code: int
    word: str


def by_channel(result: GateResult) -> dict[str, Result]:
    """Channel -> its result."""
    return {each.channel: each.result for each in result.finding.channels}


@pytest.mark.parametrize(("profile", "probes", "least"), [("quick", 32, 90.0), ("strict", 73, 180.0)])
async def test_fair_weather_passes_at_the_earliest_and_spread_in_time(
    tmp_path: Path, profile: str, probes: int, least: float
) -> None:
    """Every channel passes with the fewest probes, and not before the promised time has passed."""
    result = await GateRig(tmp_path, "seed: 1").run(profile)
    assert set(by_channel(result).values()) == {Result.PASS}
    assert (result.finding.result, result.launched) == (Result.PASS, probes)
    assert least <= result.seconds < least + 5
    launches = sorted(probe.requested_at for probe in result.run.probes if probe.requested_at is not None)
    assert launches[-1] - launches[0] >= least - 0.01


@pytest.mark.parametrize(
    "ending",
    [
        Ending("seed: 1", None, 0, "PASS"),
        Ending("channels: {email: {logins: refused}}", None, 4, "VOID"),
        Ending("channels: {slack: {loss: 1.0}}", 15.0, 130, "INCONCLUSIVE"),
    ],
    ids=lambda ending: ending.word,
)
async def test_what_the_command_leaves_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ending: Ending
) -> None:
    """The exit code, JSON, JUnit, the summary of a step and its annotations say the same. (A failure, and a limit:
    tests/cli/test_gate.py, which need no minutes.)"""
    result = await GateRig(tmp_path, ending.weather).run(interrupt_at=ending.stop)
    summary, junit = tmp_path / "summary.md", tmp_path / "gate.xml"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    capsys.readouterr()  # what the gate itself logged
    assert conclude(result, "json", [("junit", junit)]) == ending.code
    told = capsys.readouterr()
    assert json.loads(told.out)["result"] == ending.word.lower()
    assert f"prober gate quick: {ending.word}" in summary.read_text(encoding="utf-8")
    assert ("::error" in told.err) == (ending.word != "PASS")
    suite = ET.parse(junit).getroot()[0]  # noqa: S314 - our own
    assert suite.get("failures") == "0"
    assert (int(suite.get("errors", 0)) + int(suite.get("skipped", 0)) > 0) == (ending.word != "PASS")


async def test_losing_slack_fails_early_and_names_it(tmp_path: Path) -> None:
    """40 % lost on Slack fails the gate by Slack, long before a pass, and the other channels are not blamed."""
    rig = GateRig(tmp_path, "{seed: 7, channels: {slack: {loss: 0.4}}}")
    result = await rig.run()
    assert result.finding.result is Result.FAIL
    assert by_channel(result)["slack"] is Result.FAIL
    assert result.finding.reason.startswith("slack: ")
    assert "email" not in result.finding.reason
    assert "discord" not in result.finding.reason
    assert "slack: FAIL after" in rig.shown


async def test_a_total_outage_ends_as_soon_as_two_deadlines_have_passed(tmp_path: Path) -> None:
    """With nothing arriving the gate ends at the second deadline, not at the horizon and not at its limit."""
    result = await GateRig(tmp_path, "channels: {email: {loss: 1.0}, slack: {loss: 1.0}, discord: {loss: 1.0}}").run()
    assert result.finding.result is Result.FAIL
    assert 32.0 < result.seconds < 36.0


async def test_a_publication_that_fails_is_bad_at_once(tmp_path: Path) -> None:
    """An API that answers 5xx fails every channel at the second answer, without waiting for a deadline."""
    result = await GateRig(tmp_path, "api: {error_rate: 1.0}").run()
    assert set(by_channel(result).values()) == {Result.FAIL}
    assert result.seconds < 10
    assert "publish error" in result.finding.reason


async def test_a_blind_channel_is_void_and_not_a_failure(tmp_path: Path) -> None:
    """An inbox that refuses our logins says nothing about the target: VOID once its grace is over, naming it."""
    rig = GateRig(tmp_path, "channels: {email: {logins: refused}}")
    result = await rig.run(max_probes=20)
    assert result.finding.result is Result.VOID
    assert by_channel(result)["email"] is Result.VOID
    assert "email: 1 of 1 void (1 blind)" in result.finding.reason
    assert "Observer email is blind" in rig.shown


async def test_sight_that_comes_back_costs_only_time(tmp_path: Path) -> None:
    """Twenty blind seconds are resolved from the history afterwards: every probe counts, and the gate passes."""
    result = await GateRig(tmp_path, "windows: [{from: 10s, to: 30s, channels: {email: {logins: refused}}}]").run()
    assert result.finding.result is Result.PASS, result.finding.reason


@pytest.mark.parametrize(
    ("max_probes", "max_time", "limit"), [(5, 600.0, Limit.PROBES), (120, 20.0, Limit.TIME)], ids=["probes", "time"]
)
async def test_a_limit_that_is_reached_undecided_is_inconclusive(
    tmp_path: Path, max_probes: int, max_time: float, limit: Limit
) -> None:
    """Too few probes are no pass, however good they were."""
    result = await GateRig(tmp_path, "seed: 1").run(max_probes=max_probes, max_time=max_time)
    assert (result.finding.result, result.finding.limit) == (Result.INCONCLUSIVE, limit)
    assert "needs" in result.finding.reason


async def test_an_interruption_tells_what_is_known(tmp_path: Path) -> None:
    """Ended by hand, the gate is inconclusive with its counts so far, and waits for nothing more."""
    result = await GateRig(tmp_path, "channels: {slack: {loss: 1.0}}").run(interrupt_at=15.0)
    assert (result.finding.result, result.finding.limit) == (Result.INCONCLUSIVE, Limit.INTERRUPTED)
    assert result.seconds < 16
    email = result.finding.channels[0]
    assert (email.good, email.needed) == (result.launched, 32 - result.launched)
    assert result.finding.channels[1].pending == result.launched
