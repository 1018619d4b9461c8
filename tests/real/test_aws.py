"""``prober run`` on the sandbox with AWS: mail that SES puts into a bucket, in place of a mailbox."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from prober.config import dump_configuration
from prober.sandbox.launch import SandboxProcess, start_sandbox
from prober.sandbox.remote import SandboxControl

BLUR = 0.001
"""Seconds by which two wall readings of one machine may disagree, rounding included."""

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


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


def with_a_bucket(sandbox: SandboxProcess, folder: Path) -> Path:
    """A configuration whose only e-mail channel is the bucket's."""
    conf = dict(sandbox.configuration)
    conf["observers"] = {name: its for name, its in conf["observers"].items() if not name.startswith("mailbox")}
    conf["channels"] = {name: its for name, its in conf["channels"].items() if its["observer"] in conf["observers"]}
    path = folder / "prober.yaml"
    path.write_text(dump_configuration(conf), encoding="utf-8")
    return path


async def run(config: Path, *options: str) -> tuple[int, Mapping[str, Any]]:
    """``prober run alert-latency``: the exit code and the result."""
    command = [sys.executable, "-m", "prober", "run", "alert-latency", "--config", str(config), "--output", "json"]
    process = await asyncio.create_subprocess_exec(
        *command, "--ledger", str(config.with_name("ledger.sqlite")), *options,
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


def verdict(result: Mapping[str, Any]) -> tuple[str, str]:
    (delivery,) = [one for one in result["probes"][0]["deliveries"] if one["channel"] == "email-s3"]
    timeliness, outcome = ((delivery[question] or {}).get("verdict", "open") for question in ("timeliness", "outcome"))
    return timeliness, outcome
