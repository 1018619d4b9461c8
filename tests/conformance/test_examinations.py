"""The seam of ``check``: every adapter's examination before peers of every sort, and before the sandbox."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pytest

from prober import examination
from prober.assembly import OBSERVERS, TARGETS
from prober.clock import SystemClock
from prober.config import settings_from_mapping
from prober.examination import Scope, examine_all
from prober.findings import Examined, State, Verdict, verdict
from prober.sandbox.launch import start_sandbox
from tests.conformance.hostile_peer import MANNERS, Manner, standing

CANARY = "canary-0123456789"
CLOCK = SystemClock()
ID = "11111111-1111-4111-8111-111111111111"
PARTS = ("target", "imap", "s3", "slack", "discord")
SLACK = 25.0
"""Seconds beyond its own bound that an examination may take where the machine is busy."""


def observers(port: int) -> dict[str, dict[str, Any]]:
    """One observer of each adapter, all pointed at one port; every secret is a canary."""
    http = f"http://127.0.0.1:{port}"
    return {
        "imap": {"adapter": "imap", "host": "127.0.0.1", "port": port, "username": "me", "password": CANARY,
                 "tls": "none", "read_timeout": "1s"},
        "s3": {"adapter": "s3", "bucket": "mails", "region": "eu-west-1", "endpoint_url": http,
               "queue_url": f"{http}/1/mails", "access_key_id": f"AKIA{CANARY}", "secret_access_key": CANARY,
               "read_timeout": "1s"},
        "slack": {"adapter": "slack", "bot_token": f"xoxb-{CANARY}", "app_token": f"xapp-{CANARY}",
                  "api_url": f"{http}/api/"},
        "discord": {"adapter": "discord", "token": CANARY, "api_url": f"{http}/api/v10",
                    "gateway_url": f"ws://127.0.0.1:{port}/gateway"},
    }  # fmt: skip


def target(adapter: str, port: int) -> dict[str, Any]:
    access = {"adapter": adapter, "url": f"http://127.0.0.1:{port}/v1", "token": CANARY, "channels": [ID]}
    if adapter == "http":
        health = {"path": "/health", "dependencies": {"db": "db"}}
        return {**access, "steps": {"create": {"path": "/things"}}, "health": health}
    return access


def configuration(adapter: str, port: int) -> dict[str, Any]:
    address = {"imap": "a@b.example", "s3": "s@b.example", "slack": "C0PUBLIC", "discord": "1290000000000000100"}
    kind = {"imap": "email", "s3": "email", "slack": "slack", "discord": "discord"}
    channels = {name: {"observer": name, "kind": kind[name], "address": address[name], "target_channel": ID}
                for name in address}  # fmt: skip
    return {
        "environment": "tests", "keys": [{"id": "t", "secret": f"{CANARY}{CANARY}"}],
        "target": target(adapter, port), "observers": observers(port), "channels": channels,
    }  # fmt: skip


async def examined(raw: dict[str, Any], *, post: bool = False) -> tuple[Examined, ...]:
    return await examine_all(Scope(settings_from_mapping(raw, "tests"), "", post=post), CLOCK)


def assert_readable(found: Iterable[Examined]) -> None:
    """Every finding has a sentence on one line, each that is wrong a mend, none a secret or a fault of our own."""
    for one in found:
        assert one.findings, f"{one.part} says nothing"
        for finding in one.findings:
            told = f"{one.part} {finding}"
            assert finding.subject != "examination", told
            assert finding.sentence.strip(), told
            assert "\n" not in finding.sentence + finding.mend, told
            assert finding.mend.strip() or finding.state in (State.OK, State.UNKNOWN), told
            assert len(finding.sentence) < 2000, told[:300]
    assert CANARY not in json.dumps([asdict(one) for one in found])


def test_every_adapter_takes_part() -> None:
    """A new adapter must be added to this suite."""
    assert {raw["adapter"] for raw in observers(1).values()} == set(OBSERVERS)
    assert {target(name, 1)["adapter"] for name in TARGETS} == set(TARGETS)


@pytest.mark.parametrize(("adapter", "post"), [("publishing_module", True), ("http", False)])
@pytest.mark.parametrize("manner", MANNERS, ids=lambda manner: manner.name)
async def test_before_a_peer_that_is_none(
    monkeypatch: pytest.MonkeyPatch, manner: Manner, adapter: str, post: bool
) -> None:
    """Whatever answers: each adapter ends in its time with findings, at least one of which is not well."""
    if manner.hangs:
        monkeypatch.setattr(examination, "EXAMINED_WITHIN", 2.0)
    async with standing(manner) as port:
        begun = CLOCK.now()
        found = await examined(configuration(adapter, port), post=post)
        assert CLOCK.now().since(begun) < examination.EXAMINED_WITHIN + SLACK
    assert_readable(found)
    assert verdict(found) is not Verdict.PASS
    parts = {one.part: one for one in found}
    for part in PARTS:
        found_there = parts[part].findings
        assert any(one.state in (State.WRONG, State.UNKNOWN) and one.mend for one in found_there), parts[part]


async def test_before_the_sandbox() -> None:
    """Where all is well each adapter says so in sentences, and of each clock that was met by how much it is off."""
    async with start_sandbox(aws=True) as world:
        raw = json.loads(json.dumps(world.configuration))
        found = await examined(raw)
        secrets = [raw["target"]["token"], raw["keys"][0]["secret"]]
        secrets += [value for its in raw["observers"].values() for name, value in its.items()
                    if name in ("password", "secret_access_key", "token", "bot_token", "app_token")]  # fmt: skip
    assert_readable(found)
    assert verdict(found) is Verdict.PASS
    told = json.dumps([asdict(one) for one in found])
    assert not [secret for secret in secrets if secret in told]
    (clock,) = [one for one in found if one.part == "clock"]
    assert {"target", "slack", "discord", "ses"} <= {one.source for one in clock.clocks}
    assert all(abs(one.offset) <= one.uncertainty + 1 for one in clock.clocks)
