"""The log of a service, as whoever collects it reads it."""

from __future__ import annotations

import json
import signal

import pytest
from sqlalchemy import Connection, select

from prober.ledger.ledger import Ledger
from prober.ledger.publishing import publication_of
from prober.ledger.tables import probes
from prober.sandbox.launch import SandboxProcess
from tests.cli.console import Console
from tests.cli.test_serve import configure, scenarios, served
from tests.log_lines import log_lines

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _ids(conn: Connection) -> dict[str, tuple[str, str]]:
    rows = conn.execute(select(probes.c.id, probes.c.trace_id, probes.c.publication)).all()
    return {row.id: (publication_of(row.publication).correlation_id, row.trace_id) for row in rows}


async def test_each_line_of_a_probe_has_its_three_ids(world: SandboxProcess, console: Console) -> None:
    """Every line is JSON with a listed action, and what is about a probe carries what the ledger and the target
    hold."""
    configure(console, world)
    scenarios(console, every="1s")
    async with served(console) as service:
        await service.until(lambda value: value >= 3, "prober_deliveries_total", outcome="delivered")
        service.running.send(signal.SIGTERM)
        ended = await service.running.ended()
    lines = [json.loads(line) for line in (*service.running.seen, *ended.err.splitlines())]
    assert {line["action"] for line in lines} <= {line.action for line in log_lines()} | {"library"}
    about = [line for line in lines if {"probe", "correlation_id", "trace_id"} & line.keys()]
    assert {line["action"] for line in about} >= {"step_accepted", "verdict"}
    async with Ledger(str(console.folder / "ledger.sqlite")) as ledger:
        known = await ledger.read(_ids)
    for line in about:
        assert (line["correlation_id"], line["trace_id"]) == known[line["probe"]]
    async with world.control() as control:
        sent = {one["probe"]: one["detail"]["X-Correlation-ID"] for one in await control.publications()}
    for line in about:
        if line["action"] == "step_accepted":
            assert line["correlation_id"] == sent[line["probe"]]
