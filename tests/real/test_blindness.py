"""Blind and void: what we could not see is never called lost, whatever a provider does to us."""

from __future__ import annotations

from pathlib import Path

from tests.flow.rig import verdicts
from tests.real.place import place, untrue


async def test_smoke(tmp_path: Path) -> None:
    """Smoke."""
    async with place(tmp_path) as world, world.life() as life:
        await life.launch(2, within=30, give_up=60)
        probes = await life.settled()
        print([verdicts(p) for p in probes])
        assert untrue(await life.records(), world.truths()) == []
        await life.assert_whole()
