"""A mailbox that lets nobody in for ten minutes: blind, then resolved from history, or void when time is up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.flow.rig import SCENARIO, Rig, conserved, verdict

REFUSED = "windows: [{from: 2s, to: 602s, channels: {email: {logins: refused}}}]"
FROM_THE_START = "windows: [{from: 0s, to: 602s, channels: {email: {logins: refused}}}]"
LOST = "channels: {email: {loss: 1.0}}\nwindows: [{from: 0s, to: 62s, channels: {email: {logins: refused}}}]"
MAIL = replace(SCENARIO, channels=("email",))


@pytest.mark.parametrize("weather", [REFUSED, FROM_THE_START], ids=["after a read", "from the start"])
async def test_ten_minutes_of_blindness_are_resolved_from_history(tmp_path: Path, weather: str) -> None:
    """With a horizon of a quarter of an hour all stays open; then history shows the mail, and the interval says how
    little is known of when. So it is where nothing was ever read before: the key is younger than its request."""
    rig = Rig(tmp_path, weather, poll=1.0)
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


async def test_a_first_read_that_shows_nothing_proves_no_absence(tmp_path: Path) -> None:
    """Where nobody looked before, a mail that is not there may have been there: void, no coverage, never lost."""
    rig = Rig(tmp_path, LOST, poll=1.0)
    async with rig.world_turning(), rig.life() as life:
        await rig.clock.advance(5)
        await life.launch(scenario=MAIL)
        await rig.clock.advance(140)
        (probe,) = await rig.results(life)
        (delivery,) = probe.deliveries
        assert verdict(delivery) == ("void", "void")
        assert {found.reason for found in (delivery.timeliness, delivery.outcome) if found} == {"no_coverage"}


async def test_blindness_beyond_the_horizon_is_void(tmp_path: Path) -> None:
    """With a horizon of two minutes nothing is said about the target: void, blind, for good."""
    rig = Rig(tmp_path, FROM_THE_START, poll=1.0)
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
