"""A mailbox that lets nobody in for ten minutes: blind, then resolved from history, or void when time is up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.flow.rig import SCENARIO, Rig, conserved, verdict

REFUSED = "windows: [{from: 2s, to: 602s, channels: {email: {logins: refused}}}]"
MAIL = replace(SCENARIO, channels=("email",))


async def test_ten_minutes_of_blindness_are_resolved_from_history(tmp_path: Path) -> None:
    """With a horizon of a quarter of an hour all stays open; then history shows the mail, and the interval says how
    little is known of when."""
    rig = Rig(tmp_path, REFUSED, poll=1.0)
    async with rig.world_turning(), rig.life() as life:
        await rig.clock.advance(5)
        await life.launch(scenario=replace(MAIL, give_up=900.0))
        for _ in range(9):
            await rig.clock.advance(60)
            (probe,) = await rig.results(life)
            assert verdict(probe.deliveries[0]) == ("open", "open")
            assert life.loops.sights["email-observer"].blind
        await rig.clock.advance(120)
        (probe,) = await rig.results(life)
        (delivery,) = probe.deliveries
        assert verdict(delivery) == ("ambiguous", "delivered")
        assert delivery.latency is not None
        assert delivery.latency.lower < 1
        assert 590 < delivery.latency.upper < 640
        assert delivery.latency.basis == "history"
        assert not life.loops.sights["email-observer"].blind
        assert await life.flow.ledger.read(conserved)


async def test_blindness_beyond_the_horizon_is_void(tmp_path: Path) -> None:
    """With a horizon of two minutes nothing is said about the target: void, blind, for good."""
    rig = Rig(tmp_path, REFUSED, poll=1.0)
    async with rig.world_turning(), rig.life() as life:
        await rig.clock.advance(5)
        await life.launch(scenario=replace(MAIL, give_up=120.0))
        await rig.clock.advance(170)
        (probe,) = await rig.results(life)
        assert verdict(probe.deliveries[0]) == ("open", "open")
        await rig.clock.advance(60)
        (probe,) = await rig.results(life)
        (delivery,) = probe.deliveries
        assert verdict(delivery) == ("void", "void")
        assert {found.reason for found in (delivery.timeliness, delivery.outcome) if found} == {"blind"}
        await rig.clock.advance(600)
        (probe,) = await rig.results(life)
        assert verdict(probe.deliveries[0]) == ("void", "void")
        assert await life.flow.ledger.read(conserved)
