"""The commands that only look: --version, --help, list, schema, show; and what is typed wrongly."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from prober import __version__
from prober.resources import contents_directory, scenarios_directory
from prober.sandbox.launch import SandboxProcess
from tests.cli.console import PROBER, Console, changed, python

pytestmark = pytest.mark.asyncio(loop_scope="session")

HEAVY = {"discord", "boto3", "slack_sdk", "sqlalchemy", "aiohttp", "httpx", "imapclient", "pydantic"}
PROBE_IMPORTS = f"""
import runpy, sys
sys.argv = ["prober", *sys.argv[1].split()]
try:
    runpy.run_path({PROBER!r}, run_name="__main__")
except SystemExit as end:
    print(*sorted({HEAVY!r} & set(sys.modules)), "|", end.code, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("typed", "told"),
    [("--version", f"prober {__version__}"), ("--help", "Usage: prober"), ("run -h", "Usage: prober run"),
     ("check --help", "Usage: prober check"), ("report --help", "Usage: prober report")],
)  # fmt: skip
async def test_a_short_answer_loads_nothing_heavy(console: Console, typed: str, told: str) -> None:
    """The version and each help are told without any adapter, ledger or validation being loaded."""
    async with console.start(typed, command=python("-c", PROBE_IMPORTS)) as running:
        ended = await running.ended()
    of_typer = {"pydantic"} if " " in typed else set()  # typer itself loads it for any command
    assert set(ended.err.split("|")[0].split()) <= of_typer
    assert ended.err.split("|")[1].strip() == "0"
    assert told in ended.out


async def test_list_shows_each_scenario(world: SandboxProcess, console: Console) -> None:
    """Every shipped scenario is listed, in text and as JSON, with the configured channels where there are any."""
    text, plain = await console.run("list"), await console.run("list", "--output", "json")
    console.write("prober.yaml", changed(world))
    configured = await console.run("list", "-o", "json")
    assert (text.code, plain.code, configured.code) == (0, 0, 0)
    names = sorted(path.stem for path in scenarios_directory().glob("*.yaml"))
    assert [one["name"] for one in json.loads(plain.out)["scenarios"]] == names
    assert all(name in text.out for name in names)
    (alert,) = [one for one in json.loads(configured.out)["scenarios"] if one["name"] == "alert-latency"]
    assert alert["channels"] == ["email", "slack", "discord"]


async def schema(console: Console, what: str) -> Any:
    ended = await console.run("schema", what)
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    jsonschema.Draft202012Validator.check_schema(found)
    return found


async def test_schemas_describe_what_is_shipped(world: SandboxProcess, console: Console) -> None:
    """Each form's schema is a valid JSON Schema and describes the shipped files and a working configuration."""
    documents = {
        "scenario": [yaml.safe_load(path.read_text()) for path in scenarios_directory().glob("*.yaml")],
        "content": [yaml.safe_load(path.read_text()) for path in contents_directory().glob("*.yaml")],
        "configuration": [yaml.safe_load(changed(world))],
    }
    for what, files in documents.items():
        described = await schema(console, what)
        assert files
        for document in files:
            jsonschema.validate(document, described)
    assert "probes" in (await schema(console, "result"))["properties"]


async def test_show_tells_the_whole_story(world: SandboxProcess, console: Console) -> None:
    """A probe's timeline has its plan, step, waypoints, sightings with how and when, and verdicts; the JSON fits."""
    run = (
        "run",
        "alert-latency",
        "--config",
        console.write("prober.yaml", changed(world)),
        "--ledger",
        "ledger.sqlite",
    )
    ended = await console.run(*run, "--count", "2", "--every", "100ms", "-o", "json")
    probe = ended.json["probes"][0]["probe"]
    look = ("--ledger", "ledger.sqlite")
    text, short = await console.run("show", probe, *look), await console.run("show", probe[:8], *look)
    assert (text.code, short.code) == (0, 0), text.err
    assert text.out == short.out
    steps = ("planned", "create taken", "create requested", "create ended", "accepted", "HTTP 201", "created")
    for part in (*steps, "by target", "timeliness", "on_time", "outcome", "delivered", "PASS"):
        assert part in text.out
    for channel in ("email", "slack", "discord"):
        assert channel in text.out
    events = (await console.run("show", probe, "--output", "json", *look)).json["events"]
    seen = [event for event in events if event["what"] == "sighting"]
    assert {event["channel"] for event in seen} == {"email", "slack", "discord"}
    assert all(event["detail"].startswith(("by push", "by poll", "by history")) for event in seen)
    assert all(event["upper"] > 0 and (event["lower"] is None or event["lower"] <= event["upper"]) for event in seen)
    unknown, vague = await console.run("show", "zzzz", *look), await console.run("show", "", *look)
    assert (unknown.code, vague.code) == (2, 2)
    assert "no probe on record begins with 'zzzz'" in unknown.err
    assert all(one["probe"] in vague.err for one in ended.json["probes"])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("run", "alert-latncy"), "did you mean 'alert-latency'?"),
        (("run", "alert-latency", "--every", "soon"), "--every: 'soon' is no duration"),
        (("run", "alert-latency", "--within", "10s", "--give-up", "3s"), "--give-up: the horizon lies before"),
        (("run", "alert-latency", "--count", "0"), "'--count'"),
        (("run", "alert-latency", "--cuont", "1"), "--cuont"),
        (("run",), "Missing argument"),
        (("run", "alert-latency", "--output", "jsn"), "did you mean 'json'?"),
        (("run", "alert-latency", "--weather", "lossi"), "did you mean 'lossy'?"),
        (("run", "alert-latency", "--config", "none.yaml"), "none.yaml: --config: there is no such file"),
        (("run", "alert-latency", "--scenarios", "nowhere"), "nowhere: the folder of scenarios cannot be read"),
        (("shwo", "x"), "shwo"),
        (("show", "x", "--ledger", "none.sqlite"), "none.sqlite: no such file"),
        (("schema", "reslut"), "did you mean 'result'?"),
        (("sandbox", "--dialect", "sen"), "did you mean 'seen'?"),
    ],
)
async def test_what_is_typed_wrongly(console: Console, typed: tuple[str, ...], said: str) -> None:
    """Wrong usage ends with 2 and a line that names what is wrong, and nothing is started."""
    ended = await console.run(*typed)
    assert ended.code == 2, ended.out
    assert said in ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.err


async def test_a_wrong_configuration_is_named_by_place(world: SandboxProcess, console: Console) -> None:
    """A misspelt field is named by file, line and field, with the right name."""
    text = changed(world).replace("  app_token:", "  app_tokn:").replace("environment:", "enviroment:")
    config = console.write("wrong.yaml", text)
    ended = await console.run("run", "alert-latency", "--config", config)
    assert ended.code == 2
    assert f"{config}:1: enviroment: unknown field (did you mean 'environment'?" in ended.err
    text = changed(world).replace("  app_token:", "  app_tokn:")
    line = text.splitlines().index(next(row for row in text.splitlines() if "app_tokn" in row)) + 1
    ended = await console.run("run", "alert-latency", "--config", console.write("late.yaml", text))
    assert ended.code == 2
    assert f"late.yaml:{line}: observers.slack.app_tokn: unknown field (did you mean 'app_token'?" in ended.err
