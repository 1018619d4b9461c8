"""Blind and void: what we could not see is never called lost, whatever a provider does to us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from prober.ledger.tables import observers
from prober.report.result import DeliveryResult, ProbeResult
from tests.flow.rig import verdict
from tests.real.place import Life, Place, place, untrue

GONE = "channels: {email: {loss: 1.0}, slack: {loss: 1.0}, discord: {loss: 1.0}}"
SLOW = "channels: {email: {latency: 300ms}, slack: {latency: 300ms}, discord: {latency: 300ms}}"
HURRY = 30.0
"""How many times faster time passes where a test waits for the grace of a blind channel."""

WITHIN, GIVE_UP = 1.0, 2.5
LONG_WITHIN, LONG_GIVE_UP = 20.0, 40.0
"""The same on the hurried clock, where a busy machine's second is half a minute."""

Knob = Callable[[Place], None]


@dataclass(frozen=True)
class Veil:
    """One way of going blind on one channel, and what lifts it."""

    channel: str
    fall: Knob
    lift: Knob
    observer: str = ""

    @property
    def by(self) -> str:
        return self.observer or self.channel


def discord_content(granted: bool) -> Knob:
    def turn(world: Place) -> None:
        world.discord.grant_message_content = granted

    return turn


VEILS = {
    "slack scope revoked": Veil(
        "slack",
        lambda world: world.slack.revoke_scope("channels:history"),
        lambda world: world.slack.grant_scope("channels:history"),
    ),
    "slack membership revoked": Veil(
        "slack",
        lambda world: world.slack.leave(world.address("slack")),
        lambda world: world.slack.join(world.address("slack")),
    ),
    "slack token expired": Veil(
        "slack",
        lambda world: world.slack.expire_tokens(),
        lambda world: world.slack.expire_tokens(""),
    ),
    "discord history revoked": Veil(
        "discord",
        lambda world: world.discord.revoke("READ_MESSAGE_HISTORY", world.address("discord")),
        lambda world: world.discord.grant("READ_MESSAGE_HISTORY", world.address("discord")),
    ),
    "discord channel hidden": Veil(
        "discord",
        lambda world: world.discord.revoke("VIEW_CHANNEL", world.address("discord")),
        lambda world: world.discord.grant("VIEW_CHANNEL", world.address("discord")),
    ),
}


def of(probes: tuple[ProbeResult, ...], channel: str) -> DeliveryResult:
    """The only probe's delivery on a channel."""
    (probe,) = probes
    return next(delivery for delivery in probe.deliveries if delivery.channel == channel)


def reasons(delivery: DeliveryResult) -> set[str]:
    return {finding.reason for finding in (delivery.timeliness, delivery.outcome) if finding}


async def finished(life: Life, world: Place) -> tuple[ProbeResult, ...]:
    """Everything settled, nothing of it untrue, nothing counted twice."""
    probes = await life.settled()
    assert untrue(await life.records(), world.truths()) == []
    await life.assert_whole()
    return probes


@pytest.mark.parametrize("name", VEILS)
async def test_vanished_permission_is_no_loss_and_sight_brings_the_truth(tmp_path: Path, name: str) -> None:
    """Beyond the horizon a message that never came stays open while we may not look; once we may, it is lost."""
    veil = VEILS[name]
    async with place(tmp_path, GONE) as world, world.life() as life:
        veil.fall(world)
        await life.launch(within=WITHIN, give_up=GIVE_UP, channels=(veil.channel,))
        await life.blind_since_horizon(veil.by)
        assert verdict(of(await life.until(bool), veil.channel)) == ("open", "open")
        veil.lift(world)
        assert verdict(of(await finished(life, world), veil.channel)) == ("overdue", "lost")


@pytest.mark.parametrize("name", VEILS)
async def test_what_came_while_we_might_not_look_is_delivered(tmp_path: Path, name: str) -> None:
    """A message that became visible behind the veil is found in the history, with an interval that holds the truth."""
    veil = VEILS[name]
    async with place(tmp_path, SLOW) as world, world.life() as life:
        veil.fall(world)
        world.drop()
        await life.launch(within=WITHIN, give_up=GIVE_UP, channels=(veil.channel,))
        await life.blind_since_horizon(veil.by)
        veil.lift(world)
        timeliness, outcome = verdict(of(await finished(life, world), veil.channel))
        assert outcome == "delivered"
        # Where pushes still flowed it was on time; where only the history told, it may have been.
        assert timeliness in {"on_time", "ambiguous"}


@pytest.mark.parametrize("name", ["slack scope revoked", "discord history revoked"])
async def test_permission_that_stays_away_ends_void(tmp_path: Path, name: str) -> None:
    """Blind beyond horizon and grace: void, blind, and nothing is said about the target."""
    veil = VEILS[name]
    async with place(tmp_path, GONE, speed=HURRY) as world, world.life() as life:
        veil.fall(world)
        await life.launch(within=LONG_WITHIN, give_up=LONG_GIVE_UP, channels=(veil.channel,))
        delivery = of(await finished(life, world), veil.channel)
        assert verdict(delivery) == ("void", "void")
        assert reasons(delivery) == {"blind"}


async def test_withheld_content_is_blind_and_found_when_it_is_given(tmp_path: Path) -> None:
    """Discord blanks what others wrote: the message is not seen, not lost, and found once the content is given."""
    async with place(tmp_path, SLOW) as world, world.life() as life:
        discord_content(False)(world)
        await life.launch(within=WITHIN, give_up=GIVE_UP, channels=("discord",))
        await life.blind_since_horizon("discord")
        assert verdict(of(await life.until(bool), "discord")) == ("open", "open")
        discord_content(True)(world)
        assert verdict(of(await finished(life, world), "discord"))[1] == "delivered"


async def test_blank_slack_message_is_blind_and_no_loss(tmp_path: Path) -> None:
    """A message without any content proves that Slack withholds some: nothing that is missing beside it is lost."""
    async with place(tmp_path, GONE) as world, world.life() as life:
        await world.slack.post(world.address("slack"), "")
        await life.launch(within=WITHIN, give_up=GIVE_UP, channels=("slack",))
        await life.blind_since_horizon("slack")
        assert verdict(of(await life.until(bool), "slack")) == ("open", "open")


async def test_new_uidvalidity_ends_what_was_covered(tmp_path: Path) -> None:
    """A mailbox that begins anew may have swallowed the mail: void, no coverage, and never lost."""
    async with place(tmp_path, GONE) as world, world.life() as life:
        await life.launch(within=WITHIN, give_up=GIVE_UP, channels=("email",))
        await life.until(lambda probes: probes[0].answer is not None)
        world.mail.new_validity(world.address("email"))
        delivery = of(await finished(life, world), "email")
        assert verdict(delivery) == ("void", "void")
        assert reasons(delivery) == {"no_coverage"}


async def test_new_uidvalidity_hides_no_arrival(tmp_path: Path) -> None:
    """What comes into the new mailbox is seen and delivered."""
    async with place(tmp_path, SLOW) as world, world.life() as life:
        await life.launch(within=30, give_up=60, channels=("email",))
        world.mail.new_validity(world.address("email"))
        assert verdict(of(await finished(life, world), "email"))[1] == "delivered"


def lose_cursors(conn: Connection) -> None:
    """What a damaged or foreign record leaves: cursors that say nothing."""
    conn.execute(update(observers).values(cursor="{}"))


@pytest.mark.parametrize("channel", ["email", "slack", "discord"])
async def test_lost_cursor_begins_anew_and_claims_no_absence(tmp_path: Path, channel: str) -> None:
    """Without its cursor a read cannot say what it missed: void, no coverage, and never lost."""
    async with place(tmp_path, GONE) as world, world.life() as life:
        await life.launch(within=WITHIN, give_up=GIVE_UP, channels=(channel,))
        await life.until(lambda probes: probes[0].answer is not None)
        await life.flow.ledger.write(lose_cursors)
        delivery = of(await finished(life, world), channel)
        assert verdict(delivery) == ("void", "void")
        assert reasons(delivery) == {"no_coverage"}


@pytest.mark.parametrize("channel", ["slack", "discord"])
async def test_vanished_anchor_begins_anew_and_claims_no_absence(tmp_path: Path, channel: str) -> None:
    """A history from which the last known message is gone may have lost others with it: void, no coverage."""
    async with place(tmp_path, GONE) as world, world.life() as life:
        await life.launch(within=WITHIN, give_up=GIVE_UP, channels=(channel,))
        await life.until(lambda probes: probes[0].answer is not None)
        if channel == "slack":
            world.slack.prune(world.address("slack"))
        else:
            for message in world.discord.history(world.address("discord")):
                world.discord.forget(world.address("discord"), message["id"])
        delivery = of(await finished(life, world), channel)
        assert verdict(delivery) == ("void", "void")
        assert reasons(delivery) == {"no_coverage"}


async def test_new_world_behind_old_names_is_world_gone(tmp_path: Path) -> None:
    """Channels of the same names in another world cannot show what was expected in the old one: void, world gone."""
    async with place(tmp_path, GONE, speed=HURRY) as old:
        async with old.life() as life:
            await life.launch(within=LONG_WITHIN, give_up=LONG_GIVE_UP)
            await life.until(lambda probes: probes[0].answer is not None)
        clock = old.clock
        async with place(tmp_path, GONE, speed=HURRY) as new:
            new.clock = new.sandbox._clock = clock
            async with new.life() as life:
                (probe,) = await life.settled()
                await life.assert_whole()
    assert {verdict(delivery) for delivery in probe.deliveries} == {("void", "void")}
    assert {reason for delivery in probe.deliveries for reason in reasons(delivery)} == {"world_gone"}


async def test_one_blind_channel_spoils_no_other(tmp_path: Path) -> None:
    """While one observer is blind the others' deliveries are settled as ever."""
    async with place(tmp_path, SLOW) as world, world.life() as life:
        world.slack.leave(world.address("slack"))
        await life.launch(within=30, give_up=60)
        async with asyncio.timeout(20):
            await life.until(lambda probes: sum(d.settled for d in probes[0].deliveries) == 2)
        (probe,) = await life.until(bool)
        assert {d.channel: verdict(d) for d in probe.deliveries} == {
            "email": ("on_time", "delivered"),
            "slack": ("open", "open"),
            "discord": ("on_time", "delivered"),
        }
