"""Create followed by ``…/test`` with ``test_email``: deployments that send only by a second step."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from prober.ad_hoc import AdHocRun, Asked
from prober.assembly import drafting, open_flow
from prober.cli.live import PlainView
from prober.cli.run import ViewListener
from prober.clock import SystemClock
from prober.config import settings_from_mapping
from prober.ledger.ledger import Ledger
from prober.model import Scenario
from prober.report.evidence import probe_result
from prober.resources import contents_directory, scenarios_directory
from prober.sandbox.launch import start_sandbox
from prober.scenario_files import load_scenarios
from tests.flow.rig import verdicts


@pytest.mark.parametrize("dialect", ["documented", "seen"])
async def test_second_step_sends_and_its_mail_is_recognised(tmp_path: Path, dialect: str) -> None:
    """The mail of the second step arrives at the tagged address, by keys that only its answer and tag tell."""
    scenario: Scenario = load_scenarios(scenarios_directory(), contents_directory())["alert-latency"]
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(start_sandbox(dialect=dialect))
        mapping = {**sandbox.configuration, "target": {**sandbox.configuration["target"], "send": "test"}}
        settings = settings_from_mapping(mapping, "test")
        ledger = await stack.enter_async_context(Ledger(str(tmp_path / "ledger.sqlite")))
        flow = await open_flow(stack, settings, ledger, SystemClock())
        asked = [Asked(scenario, (settings.channels["email"],))]
        run = AdHocRun(flow, drafting(settings), asked, ViewListener(PlainView(sys.stderr)), count=2, every=0.1)
        records = await run.run(asyncio.Event(), 30)
        control = await stack.enter_async_context(sandbox.control())
        requests = await control.publications()
    assert [verdicts(probe_result(record)) for record in records] == [{"email": ("on_time", "delivered")}] * 2
    sends = [request["action"].endswith("/test") for request in requests]
    assert (sends.count(False), sends.count(True)) == (2, 2)
    tags = {step.recipient for record in records for step in record.steps if step.action == "send"}
    assert tags == {settings.channels["email"].address.replace("@", f"+{record.probe.id}@") for record in records}
