"""Where and how ``prober`` is started: without a target, as a module, for Nagios, in poor surroundings."""

from __future__ import annotations

import json
import re
import signal

import pytest
import yaml

from prober.config import settings_from_mapping
from prober.sandbox.launch import SandboxProcess
from tests.cli.console import Console, changed, python

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAGIOS = re.compile(
    r"PROBER (OK|CRITICAL|UNKNOWN) - [^|\n]+ \| ([a-z0-9_]+_latency=(U|[0-9.]+s);[0-9.]+;[0-9.]+;0 ?)+\n"
)


async def test_without_a_target_it_is_the_sandbox(console: Console) -> None:
    """Without a configured target the run uses the sandbox and says so in one line that names the paths."""
    text = await console.run("run", "alert-latency")
    first = text.out.splitlines()[0]
    assert text.code == 0, text.err
    assert "./prober.yaml" in first
    assert "~/.config/prober/prober.yaml" in first
    assert "sandbox" in first
    assert not (console.home / ".local").exists()
    ended = await console.run("run", "alert-latency", "--output", "json")
    assert ended.json["target"] == {"name": "sandbox", "sandbox": True}
    assert [line for line in ended.err.splitlines() if "./prober.yaml" in line and "sandbox" in line]


async def nagios(console: Console, *arguments: str) -> tuple[int, str]:
    ended = await console.run("run", "alert-latency", "--output", "nagios", "--ledger", "ledger.sqlite", *arguments)
    assert NAGIOS.fullmatch(ended.out), ended.out
    return ended.code, ended.out.split()[1]


async def test_nagios(world: SandboxProcess, console: Console) -> None:
    """One line with performance data: 0 for pass, 2 for fail, 3 for everything else."""
    config = console.write("prober.yaml", changed(world))
    refused = console.write("refused.yaml", changed(world, ("target.token", "no-such-token")))
    nameless = console.write("nameless.yaml", changed(world, ("target.url", "http://target.invalid")))
    assert await nagios(console, "--config", config) == (0, "OK")
    assert await nagios(console, "--config", refused) == (2, "CRITICAL")
    assert await nagios(console, "--config", nameless) == (3, "UNKNOWN")


async def test_as_a_module(console: Console) -> None:
    """``python -m prober`` is the same command."""
    async with console.start("list", command=python("-m", "prober")) as running:
        ended = await running.ended()
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (await console.run("list")).out
    async with console.start("run", "nonsense", command=python("-m", "prober")) as running:
        assert (await running.ended()).code == 2


async def test_poor_surroundings(world: SandboxProcess, console: Console) -> None:
    """In ASCII and 40 columns, and without a HOME, the output is plain and fits."""
    config = console.write("prober.yaml", changed(world))
    run = ("run", "alert-latency", "--config", config, "--ledger", "ledger.sqlite")
    poor = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "40"}
    ended = await console.run(*run, environ={**poor, "PYTHONIOENCODING": "ascii"})
    assert ended.code == 0, ended.err
    assert ended.out.isascii()
    assert "+ alert-latency" in ended.out
    async with console.start("-i", f"PATH={console.environment()['PATH']}", *python("-m", "prober"), *run,
                             command=("/usr/bin/env",)) as running:  # fmt: skip
        ended = await running.ended()
    assert ended.code == 0, ended.err
    assert ended.out.rstrip().endswith("PASS  3 of 3 deliveries on time")


async def curl(console: Console, command: str) -> str:
    """Run one of the guide's commands as it stands, but silently and failing on an error."""
    assert command.strip().startswith("curl ")
    async with console.start("-c", command.strip().replace("curl ", "curl -sSf ", 1), command=("/bin/sh",)) as running:
        ended = await running.ended()
    assert (ended.code, ended.err) == (0, ""), command
    return ended.out


async def test_the_sandbox_explains_itself(console: Console) -> None:
    """``prober sandbox`` prints a prober.yaml that works, and commands to look at everything, which work."""
    with console.file("prober.yaml") as number:
        async with console.start("sandbox", stdout=number) as running:
            await running.until_told("-X POST")
            settings = settings_from_mapping(yaml.safe_load(console.read("prober.yaml")), "prober.yaml")
            assert list(settings.channels) == ["email", "email-2", "slack", "discord"]
            ended = await console.run("run", "alert-latency", "--ledger", "ledger.sqlite", "--no-sweep", "-o", "json")
            assert ended.code == 0, ended.err
            commands = [line for line in running.seen if line.strip().startswith("curl ")]
            publications, slack, discord, mail, truth, weather = [await curl(console, one) for one in commands]
            assert "any mail client: IMAP on 127.0.0.1 port" in "".join(running.seen)
            running.send(signal.SIGTERM)
            assert (await running.ended()).code == 0
    assert len(json.loads(publications)["data"]["publications"]) == 1
    assert json.loads(slack)["ok"] is True
    assert any("probe" in message["content"] for message in json.loads(discord))
    assert "Subject: " in mail
    assert len([one for one in json.loads(truth)["visible"] if one["publication_id"]]) == 3
    assert json.loads(weather) == {"weather": {"channels": {"slack": {"loss": 0.5}}}}
