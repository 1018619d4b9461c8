"""kill -9 between request and arrival, and a second run on the same ledger."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import yaml
from sqlalchemy import select

from prober.ledger.ledger import Ledger
from prober.ledger.tables import deliveries, probes, steps
from prober.sandbox.remote import Arrival, SandboxControl
from tests.cli.console import Console
from tests.flow.rig import conserved

pytestmark = pytest.mark.asyncio(loop_scope="session")

SLOW = "channels: {email: {latency: 3s}, slack: {latency: 3s}, discord: {latency: 3s}}\n"


def control_of(guide: list[str]) -> SandboxControl:
    """A client of the control API that the guide of ``prober sandbox`` names."""
    line = next(line for line in guide if line.rstrip().endswith("/truth"))
    url = line.split()[-1].removesuffix("/truth")
    return SandboxControl(url, line.split("Bearer ")[1].split("'")[0])


async def test_killed_between_request_and_arrival(console: Console) -> None:
    """The next run resolves what the killed one asked for: once, truthfully, and without asking for it again."""
    weather = console.write("weather.yaml", SLOW)
    run = ("run", "alert-latency", "--config", "sandbox.yaml", "--ledger", "ledger.sqlite")
    async with console.start("sandbox", "--weather", weather, "--write", "sandbox.yaml") as sandbox:
        await sandbox.until_told("/truth")
        async with console.start(*run) as first:
            await first.until("accepted")
            first.send(signal.SIGKILL)
            assert (await first.ended()).code == -signal.SIGKILL
        second = await console.run(*run)
        assert second.code == 0, (second.out, second.err)
        assert second.out.count("left open") == 3
        async with control_of(sandbox.seen) as control:
            requests, arrivals = await control.publications(), await control.truth()
        sandbox.send(signal.SIGTERM)
        assert (await sandbox.ended()).code == 0
    assert not (console.folder / "sandbox.yaml").exists()
    asked = [one["idempotency_key"] for one in requests if one["idempotency_key"]]  # a withdrawal has none
    assert len(asked) == len(set(asked)) == 2
    published = {one["idempotency_key"]: one["publication_id"] for one in requests}
    await resolved_truthfully(console.folder / "ledger.sqlite", published, arrivals)


async def resolved_truthfully(ledger: Path, published: dict[str, str], arrivals: tuple[Arrival, ...]) -> None:
    """Every delivery on record is settled as delivered in time, once, in an interval that holds the truth."""
    async with Ledger(str(ledger)) as book:
        rows = await book.read(lambda conn: conn.execute(select(deliveries)).all())
        requested = await book.read(
            lambda conn: {row.probe_id: row.requested_boottime for row in conn.execute(select(steps)).all()}
        )
        count = len(await book.read(lambda conn: conn.execute(select(probes.c.id)).all()))
        assert await book.read(conserved)
    assert (count, len(rows)) == (2, 6)
    for row in rows:
        assert (row.timeliness, row.outcome, row.copies) == ("on_time", "delivered", 0)
        (truth,) = [
            one.visible for one in arrivals
            if one.publication_id == published[f"{row.probe_id}-0"] and one.channel == row.channel
        ]  # fmt: skip
        origin = requested[row.probe_id]
        assert row.latency_lower <= truth.after.boottime - origin
        assert truth.before.boottime - origin <= row.latency_upper


async def test_the_configuration_of_a_world_is_never_overwritten(console: Console) -> None:
    """A file that is there already is left alone, and the line names it."""
    console.write("mine.yaml", "mine: true\n")
    ended = await console.run("sandbox", "--write", "mine.yaml")
    assert ended.code == 2
    assert ended.err.startswith("prober: mine.yaml: --write: there is a file of this name already")
    assert yaml.safe_load((console.folder / "mine.yaml").read_text()) == {"mine": True}
