"""``prober check`` and ``provision``: each fault by itself gives its line, its mend and the exit code."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml

from prober.clock import SystemClock
from prober.config import load_settings
from prober.examination import Scope, examine_all
from prober.findings import State, verdict
from prober.report.checklist import EXIT_CODES, checklist_lines, checklist_to_json
from prober.report.lines import plain
from prober.report.values import TargetName, json_text
from prober.sandbox.launch import SandboxProcess, start_sandbox
from tests.cli.console import Console, changed
from tests.conformance.discord_world import ALERTS, running
from tests.conformance.discord_world import TOKEN as DISCORD_TOKEN
from tests.conformance.scripted_api import free_port
from tests.conformance.slack_world import APP, BOT, PUBLIC, Weather, slack_server
from tests.conformance.slack_world import history as history_of_slack

CONTROL = "delivery-prober control"

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def own_world() -> AsyncIterator[SandboxProcess]:
    """A sandbox that a test may change."""
    async with start_sandbox() as sandbox:
        yield sandbox


@dataclass(frozen=True)
class Checked:
    """What the command would have ended with and written, in both forms."""

    code: int
    out: str


async def check(config: str, *, post: bool = False, ledger: str = "") -> tuple[Checked, list[dict[str, str]]]:
    """What is found, and what of it is not fine; without a process of its own, which is most of the command's time."""
    examined = await examine_all(Scope(load_settings(Path(config)), ledger, post=post), SystemClock())
    told = checklist_to_json(examined, TargetName("tests", sandbox=True))
    text = "\n".join([*map(plain, checklist_lines(examined)), json_text(told)])
    return Checked(EXIT_CODES[verdict(examined)], text), troubles(told)


def troubles(told: dict[str, Any]) -> list[dict[str, str]]:
    """The findings that are wrong or could not be looked at."""
    return [one for one in told["findings"] if one["state"] in ("wrong", "unknown") and one["mend"]]


def only(found: list[dict[str, str]], part: str, subject: str, *words: str) -> None:
    """There is this one trouble, and its line has these words."""
    assert [(one["part"], one["subject"]) for one in found] == [(part, subject)], found
    for word in words:
        assert word in f"{found[0]['sentence']} → {found[0]['mend']}"


async def call(world: SandboxProcess, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    target = world.configuration["target"]
    headers = {"Authorization": f"Bearer {target['token']}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, target["url"] + path, json=body) as response,
    ):
        assert response.status < 300, await response.text()
        data: dict[str, Any] = (await response.json())["data"]
        return data


async def test_all_is_well(world: SandboxProcess, console: Console) -> None:
    """Nothing is wrong with the sandbox, and nothing is posted or published by looking."""
    config = console.write("prober.yaml", changed(world))
    ended = await console.run("check", "-c", config, "-o", "json")
    told = json.loads(ended.out)
    assert (ended.code, told["result"], troubles(told)) == (0, "pass", [])
    for secret in ("target.token", "observers.slack.bot_token", "observers.mailbox-1.password"):
        value: Any = world.configuration
        for part in secret.split("."):
            value = value[part]
        assert value not in ended.out + ended.err


async def test_nothing_can_be_reached(world: SandboxProcess, console: Console) -> None:
    """Against nothing at all it ends with a few lines, each with a mend, without a traceback, and fails."""
    port = await free_port()
    config = console.write(
        "prober.yaml",
        changed(
            world,
            ("target.url", f"http://127.0.0.1:{port}/v1"),
            ("observers.mailbox-1.port", port),
            ("observers.mailbox-2.port", port),
            ("observers.slack.api_url", f"http://127.0.0.1:{port}/api/"),
            ("observers.discord.api_url", f"http://127.0.0.1:{port}/api/v10"),
        ),
    )
    ended = await console.run("check", "-c", config)
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert len(lines) < 40
    unreached = [line for line in lines if ": reachable" in line]
    assert len(unreached) == 5
    troubles = [line for line in lines[:-2] if not line.startswith("✓ ") and "nothing on record is signed" not in line]
    assert [line for line in troubles if " → " not in line] == []
    assert "Traceback" not in ended.out + ended.err


@pytest.mark.parametrize(
    ("place", "value", "part", "subject", "mend"),
    [
        ("observers.mailbox-1.password", "canary-no-such", "mailbox-1", "credentials", "check username and password"),
        ("observers.mailbox-1.junk", "No-Such", "mailbox-1", "folders", "check the folder's name"),
        ("observers.slack.bot_token", "xoxb-canary", "slack", "credentials", "put a valid token"),
        ("observers.slack.app_token", "xapp-canary", "slack", "socket mode", "put a valid token"),
        ("observers.discord.token", "canary-no-such", "discord", "credentials", "copy the current one"),
        ("channels.slack.address", "C0NOSUCH", "slack", "channel slack", "invite the prober's bot"),
    ],
)
async def test_one_fault_of_an_account(
    world: SandboxProcess, console: Console, *, place: str, value: str, part: str, subject: str, mend: str
) -> None:
    """A wrong password, folder, token or channel is the one line that is wrong, and no secret is repeated."""
    config = console.write("prober.yaml", changed(world, (place, value)))
    ended, found = await check(config)
    assert ended.code == 1
    # A Slack channel that is not the one that the target posts to is also unsafe to publish to.
    found = [one for one in found if one["part"] != "target" or place != "channels.slack.address"]
    only(found, part, subject, mend)
    assert "canary" not in ended.out


async def test_a_token_that_has_expired(world: SandboxProcess, console: Console) -> None:
    """A JWT that we can see has ended is said with the mend; then nothing can be listed."""
    expired = "e30.eyJleHAiOjF9.canary"
    config = console.write("prober.yaml", changed(world, ("target.token", expired)))
    ended, found = await check(config)
    assert ended.code == 1
    assert [(one["subject"], one["state"]) for one in found] == [("credentials", "wrong"), ("allow-list", "unknown")]
    assert "expired" in found[0]["sentence"]
    assert "renew" in found[0]["mend"]
    assert expired not in ended.out


@pytest.mark.parametrize(
    ("scope", "subject", "words"),
    [("chat:write", "scopes", "chat:write"), ("channels:history", "channel slack", "channels:history"),
     ("connections:write", "socket mode", "connections:write")],
)  # fmt: skip
async def test_a_missing_scope(world: SandboxProcess, console: Console, scope: str, subject: str, words: str) -> None:
    """Each scope that is needed and not there is named, with what to do about it."""
    async with slack_server(Weather()) as server:
        server.revoke_scope(scope)
        _, found = await check(_with_slack(world, console, server.api_url))
    only([one for one in found if one["part"] == "slack"], "slack", subject, words, "install it again")


async def test_a_bot_that_is_not_in_the_channel(world: SandboxProcess, console: Console) -> None:
    """Missing membership is said with the mend."""
    async with slack_server(Weather()) as server:
        server.leave(PUBLIC)
        ended, found = await check(_with_slack(world, console, server.api_url))
    assert ended.code == 1
    only([one for one in found if one["part"] == "slack"], "slack", "channel slack", "not_in_channel", "invite")


def _with_slack(world: SandboxProcess, console: Console, url: str) -> str:
    slack = {"adapter": "slack", "bot_token": BOT, "app_token": APP, "api_url": url}
    changes = (("observers.slack", slack), ("channels.slack.address", PUBLIC))
    return console.write("prober.yaml", changed(world, *changes))


@pytest.mark.parametrize("fault", ["intent", "READ_MESSAGE_HISTORY", "SEND_MESSAGES", "VIEW_CHANNEL"])
async def test_a_discord_bot_that_may_too_little(world: SandboxProcess, console: Console, fault: str) -> None:
    """The missing intent and each missing permission is said with the mend."""
    async with running() as discord:
        if fault == "intent":
            discord.server.grant_message_content = False
        else:
            discord.server.revoke(fault, ALERTS)
        observer = {"adapter": "discord", "token": DISCORD_TOKEN, "api_url": discord.server.api_url,
                    "gateway_url": discord.server.gateway_url}  # fmt: skip
        changes = (("observers.discord", observer), ("channels.discord.address", ALERTS))
        ended, found = await check(console.write("prober.yaml", changed(world, *changes)))
    assert ended.code == 1
    subject, mend = ("intents", "developer portal") if fault == "intent" else ("channel discord", "grant")
    only([one for one in found if one["part"] == "discord"], "discord", subject, mend)


@pytest.mark.parametrize("post", [False, True])
async def test_only_with_post_something_is_posted(world: SandboxProcess, console: Console, post: bool) -> None:
    """With --post each Slack and Discord channel gets one message of our own, its history shows it, and clocks are
    dated by it, and it is in the audit; without it nothing is posted anywhere, and no ledger is made."""
    ledger = console.folder / "ledger.sqlite"
    async with slack_server(Weather()) as slack, running() as discord:
        config = _with_both(world, console, slack.api_url, discord.server.api_url)
        told = await examine_all(Scope(load_settings(Path(config)), str(ledger), post=post), SystemClock())
        posted = [sum(CONTROL in str(each) for each in history)
                  for history in (history_of_slack(slack), discord.server.history(ALERTS))]  # fmt: skip
    assert posted == ([1, 1] if post else [0, 0])
    lines = [(one.part, each.state) for one in told for each in one.findings if each.subject == "posting"]
    assert lines == ([("slack", State.OK), ("discord", State.OK)] if post else [])
    assert ledger.exists() == post
    if post:
        acts = json.loads((await console.run("audit", "-o", "json", "--ledger", str(ledger))).out)["acts"]
        assert {(act["kind"], act["place"]) for act in acts} == {("control", "slack"), ("control", "discord")}
        assert all(act["answer"].startswith("posted ") and act["by"] and act["answered_at"] for act in acts)


async def test_a_post_that_is_refused_is_told(world: SandboxProcess, console: Console) -> None:
    """Where the bot may read and not post, --post finds it out with the mend, and says it once for each channel."""
    async with slack_server(Weather()) as slack, running() as discord:
        discord.server.revoke("SEND_MESSAGES", ALERTS)
        config = _with_both(world, console, slack.api_url, discord.server.api_url)
        ended, found = await check(config, post=True, ledger="/proc/none/ledger.sqlite")
    assert ended.code == 1
    assert "ledger: audit" in ended.out
    assert "what this examination did is not on record: ledger " in ended.out
    (refused,) = [one for one in found if one["subject"] == "posting"]
    assert (refused["part"], refused["state"]) == ("discord", "wrong")
    assert refused["mend"]


def _with_both(world: SandboxProcess, console: Console, slack_url: str, discord_url: str) -> str:
    slack = {"adapter": "slack", "bot_token": BOT, "app_token": APP, "api_url": slack_url}
    discord = {"adapter": "discord", "token": DISCORD_TOKEN, "api_url": discord_url}
    changes = (("observers.slack", slack), ("channels.slack.address", PUBLIC), ("observers.discord", discord),
               ("channels.discord.address", ALERTS))  # fmt: skip
    return console.write("prober.yaml", changed(world, *changes))


async def test_a_target_channel_with_a_foreign_name(own_world: SandboxProcess, console: Console) -> None:
    """A target channel that is not named as a probe's is refused by check and by run: nothing is published."""
    news = await call(own_world, "POST", "/channels", {"name": "news", "channel_type": "email", "configuration": {}})
    allowed = [*own_world.configuration["target"]["channels"], news["id"]]
    config = console.write("prober.yaml", changed(own_world, ("target.channels", allowed)))
    ended, found = await check(config)
    assert ended.code == 1
    only(found, "target", "allow-list", "'news'", "prober provision")
    await _refuses_to_publish(own_world, console, config, "'news'")


async def test_a_stranger_among_the_subscribers(own_world: SandboxProcess, console: Console) -> None:
    """A subscriber whose address is none of ours is refused by check and by run, and the address is not shown."""
    channel = own_world.configuration["channels"]["email"]["target_channel"]
    body = {"email": "reader@people.example", "preferred_channels": [channel]}
    stranger = await call(own_world, "POST", "/subscribers", body)
    config = console.write("prober.yaml", changed(own_world))
    ended, found = await check(config)
    assert ended.code == 1
    only(found, "target", "subscribers", stranger["id"], "take them off")
    assert "people.example" not in ended.out
    await _refuses_to_publish(own_world, console, config, "not ours")
    await call(own_world, "PUT", f"/subscribers/{stranger['id']}", {"status": "unsubscribed"})
    assert (await check(config))[0].code == 0


async def _refuses_to_publish(world: SandboxProcess, console: Console, config: str, words: str) -> None:
    ended = await console.run("run", "alert-latency", "-c", config, "--ledger", "ledger.sqlite")
    assert ended.code == 2, ended.out
    assert "nothing is published" in ended.err
    assert words in ended.err
    async with world.control() as control:
        asked = [one for one in await control.publications() if one["action"] in ("POST /alerts", "POST /publications")]
    assert asked == []


async def test_without_a_target(console: Console) -> None:
    """Both commands exit with 2 and name where they looked."""
    for command in ("check", "provision"):
        ended = await console.run(command)
        assert ended.code == 2
        assert str(console.folder / "prober.yaml") in ended.err
        assert ".config/prober/prober.yaml" in ended.err


async def test_provision_makes_once_and_then_finds(own_world: SandboxProcess, console: Console) -> None:
    """What is missing is made, with --dry-run it is not; a second time all is found; check is then content."""
    domain = str(own_world.configuration["channels"]["email"]["address"]).partition("@")[2]
    bare = {name: {k: v for k, v in one.items() if k != "target_channel"}
            for name, one in own_world.configuration["channels"].items()}  # fmt: skip
    bare["fresh"] = {"observer": "mailbox-1", "kind": "email", "address": f"inbox-1+fresh@{domain}"}
    text = changed(own_world, ("channels", bare), ("target.channels", []))
    config = console.write("prober.yaml", text)
    dry = await console.run("provision", "-c", config, "--dry-run")
    assert (dry.code, dry.out.count("would make")) == (0, 2)
    made = await console.run("provision", "-c", config)
    assert (made.code, made.out.count("# made ")) == (0, 2), made.out
    again = await console.run("provision", "-c", config)
    assert (again.code, again.out.count("# made ")) == (0, 0)
    told = yaml.safe_load(again.out)
    assert told == yaml.safe_load(made.out)
    assert len(told["target"]["channels"]) == 5
    whole = yaml.safe_load(text)
    whole["target"]["channels"] = told["target"]["channels"]
    for name, one in told["channels"].items():
        whole["channels"][name] |= one
    ended, found = await check(console.write("whole.yaml", yaml.safe_dump(whole)))
    assert (ended.code, found) == (0, [])


async def test_provision_refuses_an_address_before_it_asks(world: SandboxProcess, console: Console) -> None:
    """An inbox at .test is refused without a word to the target, which is not there to hear one."""
    url = f"http://127.0.0.1:{await free_port()}/v1"
    config = console.write("prober.yaml", changed(world, ("target.url", url), ("channels.email.address", "a@b.test")))
    ended = await console.run("provision", "-c", config)
    assert ended.code == 2
    assert "channels.email.address" in ended.err
    assert ".test" in ended.err
