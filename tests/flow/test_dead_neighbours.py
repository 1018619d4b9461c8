"""A prober beside this one may die at any time: its steps are taken as interrupted without anybody being restarted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from prober import stages
from prober.clock import Instant, boot_id
from prober.draft import draft_probe
from prober.ledger.planning import PlannedProbe, plan_probes
from prober.ledger.publishing import claim_steps
from prober.ledger.tables import steps
from prober.loops import OTHERS
from tests.flow.rig import LOCATION, SCENARIO, Rig

DEAD = f"{boot_id()}/1/never"
"""Of this machine, where process 1 began at some time."""

ELSEWHERE = "anotherboot/1/1"
"""Of another machine, or of this one before it was started anew."""

CONTAINED = f"{boot_id()}/1/1/1"
"""Of this machine, in another PID namespace: a container beside this one."""


def claimed_by(conn: Connection, draft: PlannedProbe, now: Instant, name: str) -> None:
    """Plan a probe and claim its step, as another process did."""
    plan_probes(conn, [draft])
    claim_steps(conn, LOCATION, now, name)


def results(conn: Connection) -> list[str | None]:
    """How every step ended."""
    return list(conn.execute(select(steps.c.result)).scalars())


@pytest.mark.parametrize("name", [DEAD, ELSEWHERE, CONTAINED], ids=["dead", "elsewhere", "contained"])
async def test_steps_of_a_dead_neighbour_are_interrupted(tmp_path: Path, each_database: str, name: str) -> None:
    """A step whose taker dies while another prober runs is interrupted within seconds.

    Where it cannot be seen whether the taker lives, it is left to it until no answer can come any more: on a ledger
    that machines share of any other machine, on a file of another container, whose processes nobody sees here.
    """
    patient = name == CONTAINED or (name == ELSEWHERE and each_database == "postgresql")
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life() as life:

        async def ends() -> list[str | None]:
            found = asyncio.ensure_future(life.flow.ledger.read(results))
            await rig.clock.advance(0)
            return await found

        now = rig.clock.now()
        channels = tuple(life.channels[each] for each in SCENARIO.channels)
        draft = draft_probe(life.drafting, SCENARIO, channels, slot=now.wall, now=now, run="theirs")
        claimed = asyncio.ensure_future(life.flow.ledger.write(claimed_by, draft, now, name))
        await rig.clock.advance(0)
        await claimed
        await rig.clock.advance(OTHERS + 1)
        if patient:
            assert await ends() == [None]
            await rig.clock.advance(stages.ELSEWHERE - 2 * OTHERS)
            assert await ends() == [None]
            await rig.clock.advance(2 * OTHERS)
        assert await ends() == ["interrupted"]
