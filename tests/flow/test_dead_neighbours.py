"""A prober beside this one may die at any time: its steps are taken as interrupted without anybody being restarted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from prober.clock import Instant
from prober.draft import draft_probe
from prober.ledger.planning import PlannedProbe, plan_probes
from prober.ledger.publishing import claim_steps
from prober.ledger.tables import steps
from prober.loops import OTHERS
from tests.flow.rig import LOCATION, SCENARIO, Rig

pytestmark = pytest.mark.usefixtures("each_database")


def claimed_by_the_dead(conn: Connection, draft: PlannedProbe, now: Instant) -> None:
    """Plan a probe and claim its step, as a process did that is gone."""
    plan_probes(conn, [draft])
    claim_steps(conn, LOCATION, now, "anotherboot/1/1")


def results(conn: Connection) -> list[str | None]:
    """How every step ended."""
    return list(conn.execute(select(steps.c.result)).scalars())


async def test_steps_of_a_dead_neighbour_are_interrupted(tmp_path: Path) -> None:
    """A step whose taker dies while another prober runs is interrupted within seconds."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life() as life:
        now = rig.clock.now()
        channels = tuple(life.channels[name] for name in SCENARIO.channels)
        draft = draft_probe(life.drafting, SCENARIO, channels, slot=now.wall, now=now, run="theirs")
        claimed = asyncio.ensure_future(life.flow.ledger.write(claimed_by_the_dead, draft, now))
        await rig.clock.advance(0)
        await claimed
        await rig.clock.advance(OTHERS + 1)
        found = asyncio.ensure_future(life.flow.ledger.read(results))
        await rig.clock.advance(0)
        assert await found == ["interrupted"]
