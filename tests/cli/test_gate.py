"""``prober gate`` as a pipeline types it."""

from __future__ import annotations

import signal
import xml.etree.ElementTree as ET

import pytest

from prober.sandbox.launch import SandboxProcess
from tests.cli.console import Console, changed

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOST = "channels: {slack: {loss: 1.0}}\n"


async def test_a_bad_target_fails_early_in_every_form(console: Console) -> None:
    """Exit 1 naming Slack after the second bad probe; JSON, JUnit, Markdown and GitHub's forms say the same."""
    weather = console.write("weather.yaml", LOST)
    summary = console.write("summary.md", "what stood there before\n")
    ended = await console.run(
        "gate", "--weather", weather, "--within", "2s", "--give-up", "4s", "--output", "json",
        "--junit", "gate.xml", "--markdown", "gate.md",
        environ={"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": summary},
    )  # fmt: skip
    assert ended.code == 1, ended.err
    found = ended.json
    assert found["result"] == "fail"
    assert found["reason"].startswith("slack: 2 of ")
    assert [each["channel"] for each in found["gate"]["channels"] if each["result"] == "fail"] == ["slack"]
    assert "::error title=slack fails the gate::FAIL" in ended.err
    assert ET.parse(console.folder / "gate.xml").getroot()[0].get("failures") == "1"  # noqa: S314 - our own
    written = console.read("summary.md")
    assert written == "what stood there before\n" + console.read("gate.md")
    assert "prober gate quick: FAIL" in written


async def test_a_lost_configuration_is_no_green_gate(console: Console) -> None:
    """Without a target it refuses with 2 and names the paths that it searched."""
    ended = await console.run("gate")
    assert (ended.code, ended.out) == (2, "")
    assert "prober.yaml" in ended.err
    assert str(console.folder) in ended.err
    assert "--sandbox" in ended.err


async def test_a_limit_is_inconclusive(world: SandboxProcess, console: Console) -> None:
    """Two good probes are no pass: exit 3, and it says beforehand that so few cannot be one."""
    config = console.write("prober.yaml", changed(world))
    ended = await console.run("gate", "-c", config, "--ledger", "ledger.sqlite", "--max-probes", "2")
    assert ended.code == 3, ended.err
    assert "--max-probes 2 is too few to pass: that takes at least 32" in ended.out
    assert "INCONCLUSIVE" in ended.out


async def test_ctrl_c_tells_what_is_known(world: SandboxProcess, console: Console) -> None:
    """Interrupted, it ends at once with 130 and its result so far."""
    config = console.write("prober.yaml", changed(world))
    async with console.start("gate", "-c", config, "--ledger", "ledger.sqlite") as running:
        await running.until("Gate quick")
        running.send(signal.SIGINT)
        ended = await running.ended()
    assert ended.code == 130, ended.err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("--profile", "quik"), "--profile: 'quik' is not known (did you mean 'quick'?)"),
        (("--tag", "smok", "--sandbox"), "--tag: no scenario has the tag 'smok'"),
        (("--junit", "missing/gate.xml", "--sandbox"), "--junit: cannot be written"),
        (("--within", "5s", "--give-up", "2s"), "--give-up: the horizon lies before the deadline"),
    ],
    ids=lambda value: "",
)
async def test_wrong_use_is_said_before_anything_starts(console: Console, typed: tuple[str, ...], said: str) -> None:
    """Exit 2 with the option and the mend."""
    ended = await console.run("gate", *typed)
    assert ended.code == 2
    assert said in ended.err
