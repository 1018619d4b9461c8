"""``prober run`` on the sandbox with AWS: mail that SES puts into a bucket, in place of a mailbox."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio
from botocore.config import Config

from prober.config import dump_configuration
from prober.sandbox.launch import SandboxProcess, start_sandbox
from prober.sandbox.remote import SandboxControl

BLUR = 0.001
"""Seconds by which two wall readings of one machine may disagree, rounding included."""

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[SandboxProcess]:
    async with start_sandbox(aws=True) as sandbox:
        yield sandbox


@pytest_asyncio.fixture(loop_scope="module")
async def control(world: SandboxProcess) -> AsyncIterator[SandboxControl]:
    async with world.control() as client:
        yield client
        await client.outage("s3", False)
        await client.set_weather({})
        forgive(world)


def with_channels_first(sandbox: SandboxProcess, folder: Path, *names: str) -> Path:
    """A configuration whose first e-mail channels are these; the others are there, as their subscribers are ours."""
    conf = dict(sandbox.configuration)
    others = {f"other-{name}": its for name, its in conf["channels"].items() if its["kind"] == "email"}
    chosen = {name: conf["channels"][name] for name in names}
    chats = {name: its for name, its in conf["channels"].items() if its["kind"] != "email"}
    conf["channels"] = {**chosen, **chats, **{n: i for n, i in others.items() if n.removeprefix("other-") not in names}}
    path = folder / "prober.yaml"
    path.write_text(dump_configuration(conf), encoding="utf-8")
    return path


def with_a_bucket(sandbox: SandboxProcess, folder: Path) -> Path:
    """A configuration in which the scenarios' e-mail channel is the bucket's."""
    return with_channels_first(sandbox, folder, "email-s3")


async def run(
    config: Path, *options: str, scenario: str = "alert-latency", command: str = "run"
) -> tuple[int, Mapping[str, Any]]:
    """``prober run alert-latency``, or another command about a scenario or probe: the exit code and the JSON."""
    asked = [sys.executable, "-m", "prober", command, scenario, "--config", str(config), "--output", "json"]
    process = await asyncio.create_subprocess_exec(
        *asked, "--ledger", str(config.with_name("ledger.sqlite")), *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HTTP_PROXY": "http://127.0.0.1:9"},
    )  # fmt: skip
    out, said = await process.communicate()
    assert out, said.decode()
    return process.returncode or 0, json.loads(out)


async def test_an_alert_is_seen_in_a_bucket(world: SandboxProcess, control: SandboxControl, tmp_path: Path) -> None:
    """The alert is on time and delivered in the bucket, beside Slack and Discord, within bounds that hold the truth."""
    assert "email-s3" in world.configuration["channels"]
    assert world.world_id in world.configuration["observers"]["ses"]["bucket"]
    assert world.world_id in world.configuration["observers"]["ses"]["queue_url"]
    code, result = await run(with_a_bucket(world, tmp_path), "--count", "3", "--every", "300ms", "--within", "20s")
    assert (code, result["result"]) == (0, "pass")
    found = [one for probe in result["probes"] for one in probe["deliveries"] if one["channel"] == "email-s3"]
    assert len(found) == 3
    published = {one["idempotency_key"]: one["publication_id"] for one in await control.publications()}
    truth = {one.publication_id: one.visible for one in await control.truth() if one.channel == "email-s3"}
    for probe, delivery in zip(result["probes"], found, strict=True):
        requested = datetime.fromisoformat(probe["requested_at"]).timestamp()
        visible = truth[published[f"{probe['probe']}-0"]]
        assert delivery["latency"]["lower"] <= visible.after.wall - requested + BLUR
        assert delivery["latency"]["upper"] >= visible.before.wall - requested - BLUR
    assert [(one["timeliness"]["verdict"], one["outcome"]["verdict"]) for one in found] == [
        ("on_time", "delivered")
    ] * 3
    assert {"ses_received", "s3_stored"} <= {point["name"] for one in found for point in one["waypoints"]}
    assert all(one["copies"] == 0 for one in found)


async def test_a_mail_that_is_lost_is_lost(world: SandboxProcess, control: SandboxControl, tmp_path: Path) -> None:
    """Without a mail in the bucket complete listings prove the loss."""
    await control.set_weather({"channels": {"email-s3": {"loss": 1}}})
    code, result = await run(with_a_bucket(world, tmp_path), "--within", "3s", "--give-up", "5s")
    assert (code, result["result"]) == (1, "fail")
    assert verdict(result) == ("overdue", "lost")


async def test_a_dropped_notification_is_made_good_by_listing(
    world: SandboxProcess, control: SandboxControl, tmp_path: Path
) -> None:
    """A mail that nobody tells of is found by the read at the deadline, and so in time."""
    await control.set_weather({"channels": {"email-s3": {"pushes": {"drop": 1}}}})
    code, result = await run(with_a_bucket(world, tmp_path), "--within", "6s", "--give-up", "10s")
    assert verdict(result)[1] == "delivered"
    assert code in {0, 3}, "in time, or not to be told apart at the deadline"


async def test_an_outage_of_aws_is_void(world: SandboxProcess, control: SandboxControl, tmp_path: Path) -> None:
    """While the bucket cannot be read nothing is said about the target's mail."""
    await control.outage("s3")
    code, result = await run(with_a_bucket(world, tmp_path), "--within", "2s", "--give-up", "3s", "--max-time", "6s")
    assert set(verdict(result)) <= {"open", "void"}
    assert code in {3, 4}


def forgive(world: SandboxProcess) -> None:
    """Take everybody off SES's suppression list, as an operator does."""
    client = ses_client(world)
    for found in client.list_suppressed_destinations()["SuppressedDestinationSummaries"]:
        client.delete_suppressed_destination(EmailAddress=found["EmailAddress"])
    client.close()


def ses_client(world: SandboxProcess) -> Any:
    its = world.configuration["observers"]["ses"]
    keys = {name: str(its[name]) for name in ("access_key_id", "secret_access_key")}
    session = boto3.session.Session(keys["access_key_id"], keys["secret_access_key"], region_name=its["region"])
    return session.client("sesv2", endpoint_url=its["endpoint_url"], config=Config(proxies={}))


def both_mailboxes(sandbox: SandboxProcess, folder: Path) -> Path:
    """A configuration in which the bucket's channel and one mailbox have both newsletters' places."""
    return with_channels_first(sandbox, folder, "email", "email-s3")


async def test_a_newsletter_is_seen_in_a_bucket(world: SandboxProcess, control: SandboxControl, tmp_path: Path) -> None:
    """A scheduled newsletter reaches a mailbox and the bucket, and SES's word on both mails stands among the facts."""
    config = both_mailboxes(world, tmp_path)
    code, result = await run(config, "--within", "20s", "--give-up", "30s", scenario="newsletter-delivery")
    assert (code, result["result"]) == (0, "pass")
    (probe,) = result["probes"]
    assert {one["channel"]: one["outcome"]["verdict"] for one in probe["deliveries"]} == {
        "email": "delivered",
        "email-s3": "delivered",
    }
    for delivery in probe["deliveries"]:
        assert {"ses_send"} <= {point["name"] for point in delivery["waypoints"]}
        assert delivery["stated"] == []


async def test_a_bounce_explains_a_loss_and_then_the_list_does(
    world: SandboxProcess, control: SandboxControl, tmp_path: Path
) -> None:
    """A mail that bounced is lost by proof and the bounce is stated; the next one is held back, which is stated too.

    Taken off the list, and with the weather fair again, the address gets its mail.
    """
    config, times = with_a_bucket(world, tmp_path), ("--within", "4s", "--give-up", "6s")
    await control.set_weather({"channels": {"email-s3": {"feedback": {"bounce": 1}}}})
    code, bounced = await run(config, *times)
    await control.set_weather({})
    _, held_back = await run(config, *times)
    forgive(world)
    good, healed = await run(config, "--within", "20s")
    assert (code, good) == (1, 0)
    assert verdict(bounced) == verdict(held_back) == ("overdue", "lost")
    assert verdict(healed) == ("on_time", "delivered")
    assert "bounced: Permanent General, smtp; 550 5.1.1 user unknown" in stated(bounced)
    assert any(said.startswith("bounced: Permanent OnAccountSuppressionList") for said in stated(held_back))
    assert any(said.startswith("suppressed since ") and "self-made" in said for said in stated(held_back))
    assert stated(healed) == []
    _, shown = await run(config, scenario=held_back["probes"][0]["probe"], command="show")
    told = [(event["what"], event["channel"]) for event in shown["events"]]
    assert {("ses_send", "email-s3"), ("ses_bounce", "email-s3"), ("ses_suppressed", "email-s3")} <= set(told)


async def test_a_rejected_and_a_complained_of_mail(
    world: SandboxProcess, control: SandboxControl, tmp_path: Path
) -> None:
    """What SES rejects never comes, and says so; a complaint about what came takes nothing from its verdict."""
    await control.set_weather({"channels": {"email-s3": {"feedback": {"reject": 1}}}})
    _, rejected = await run(with_a_bucket(world, tmp_path), "--within", "3s", "--give-up", "5s")
    await control.set_weather({"channels": {"email-s3": {"feedback": {"complaint": 1}}}})
    _, first = await run(with_a_bucket(world, tmp_path), "--within", "20s")
    await run(with_a_bucket(world, tmp_path), "--within", "20s")
    _, complained = await run(with_a_bucket(world, tmp_path), scenario=first["probes"][0]["probe"], command="show")
    assert (verdict(rejected), stated(rejected)) == (("overdue", "lost"), ["rejected by SES: Bad content"])
    assert (verdict(complained), stated(complained)) == (("on_time", "delivered"), ["complained of: abuse"])


async def test_a_mail_that_must_wait_is_said_to_be_delayed(
    world: SandboxProcess, control: SandboxControl, tmp_path: Path
) -> None:
    """While the receiving side is away SES says that it waits; when it is back the mail comes, and that is no loss."""
    await control.outage("email")
    running = asyncio.create_task(run(with_a_bucket(world, tmp_path), "--within", "50s", "--give-up", "60s"))
    try:
        async with asyncio.timeout(60):
            while not running.done() and "ses_delivery_delay" not in heard_by_now(tmp_path / "ledger.sqlite"):
                await asyncio.wait({running}, timeout=0.2)
    finally:
        await control.outage("email", False)
    _, result = await running
    assert verdict(result) == ("on_time", "delivered")
    assert any(said.startswith("delayed: TransientCommunicationFailure") for said in stated(result))


def heard_by_now(ledger: Path) -> set[str]:
    """The names of all waypoints on record, none before there is a ledger."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as conn:
        return {name for (name,) in conn.execute("SELECT name FROM waypoints")}
    return set()


def stated(result: Mapping[str, Any]) -> list[str]:
    (delivery,) = [one for one in result["probes"][0]["deliveries"] if one["channel"] == "email-s3"]
    return list(delivery["stated"])


def verdict(result: Mapping[str, Any]) -> tuple[str, str]:
    (delivery,) = [one for one in result["probes"][0]["deliveries"] if one["channel"] == "email-s3"]
    timeliness, outcome = ((delivery[question] or {}).get("verdict", "open") for question in ("timeliness", "outcome"))
    return timeliness, outcome
