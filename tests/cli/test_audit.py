"""``prober audit`` at the command line."""

from __future__ import annotations

import json

import pytest

from prober.sandbox.launch import SandboxProcess
from tests.cli.console import Console, changed

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_run_and_what_it_sweeps_are_listed(world: SandboxProcess, console: Console) -> None:
    """The request with method, URL and answer, and each message that was removed; no secret."""
    config = console.write("prober.yaml", changed(world))
    look = ("-c", config, "--ledger", "ledger.sqlite")
    ended = await console.run("run", "alert-latency", "-o", "json", *look)
    (probe,) = ended.json["probes"]
    listed = await console.run("audit", "-o", "json", *look)
    acts = json.loads(listed.out)["acts"]
    (create,) = [act for act in acts if act["kind"] == "create"]
    assert create["place"] == f"POST {world.configuration['target']['url']}/alerts"
    assert create["answer"].startswith("accepted, HTTP 20")
    assert (create["at"] <= probe["requested_at"], create["probe"]) == (True, probe["probe"])
    assert create["answered_at"] == probe["answered_at"]
    assert {act["place"] for act in acts if act["kind"] == "remove"} <= {one["channel"] for one in probe["deliveries"]}
    assert {act["kind"] for act in acts} >= {"create", "withdraw", "remove"}
    text = await console.run("audit", "--since", "1h", *look)
    assert (listed.code, text.code, len(text.out.splitlines())) == (0, 0, len(acts))
    assert world.configuration["target"]["token"] not in text.out + listed.out
    empty = await console.run("audit", "--until", "2020-01-01", *look)
    assert (empty.code, empty.out) == (0, "Nothing was asked of anybody in this window.\n")
