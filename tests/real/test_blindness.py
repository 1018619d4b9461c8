"""Blind and void: what we could not see is never called lost, whatever a provider does to us."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from prober.clock import SystemClock
from prober.ledger.tables import observers
from prober.loops import HELD_UP
from prober.report.result import DeliveryResult, ProbeResult
from tests.flow.rig import verdict
from tests.real.place import Life, Place, place, untrue

GONE = "channels: {email: {loss: 1.0}, slack: {loss: 1.0}, discord: {loss: 1.0}}"
SLOW = "channels: {email: {latency: 300ms}, slack: {latency: 300ms}, discord: {latency: 300ms}}"
UNPUSHED = "channels: {slack: {latency: 2s, pushes: {drop: 1.0}}, discord: {latency: 2s, pushes: {drop: 1.0}}}"
UNPUSHED_GONE = "channels: {slack: {loss: 1.0, pushes: {drop: 1.0}}, discord: {loss: 1.0, pushes: {drop: 1.0}}}"
HURRY = 15.0
"""How many times faster time passes where a test waits for sight to return, or for a blind channel's grace."""

WITHIN, GIVE_UP = 1.0, 2.5
LONG_WITHIN, LONG_GIVE_UP = 15.0, 25.0
"""The same on the hurried clock."""

Knob = Callable[[Place], object]


@dataclass(frozen=True)
class Veil:
    """One way of going blind on one channel, and what lifts it."""

    channel: str
    fall: Knob
    lift: Knob


def scope(world: Place, change: str) -> None:
    getattr(world.slack, f"{change}_scope")("channels:history")


def permission(world: Place, change: str, name: str) -> None:
    getattr(world.discord, change)(name, world.address("discord"))


def content(world: Place, granted: bool) -> None:
    world.discord.grant_message_content = granted


async def intent_disallowed(world: Place) -> None:
    content(world, False)
    await world.discord.invalidate_sessions()


VEILS = {
    "slack scope revoked": Veil("slack", lambda it: scope(it, "revoke"), lambda it: scope(it, "grant")),
    "slack membership revoked": Veil(
        "slack", lambda it: it.slack.leave(it.address("slack")), lambda it: it.slack.join(it.address("slack"))
    ),
    "slack token expired": Veil("slack", lambda it: it.slack.expire_tokens(), lambda it: it.slack.expire_tokens("")),
    "discord history revoked": Veil(
        "discord",
        lambda it: permission(it, "revoke", "READ_MESSAGE_HISTORY"),
        lambda it: permission(it, "grant", "READ_MESSAGE_HISTORY"),
    ),
    "discord channel hidden": Veil(
        "discord",
        lambda it: permission(it, "revoke", "VIEW_CHANNEL"),
        lambda it: permission(it, "grant", "VIEW_CHANNEL"),
    ),
    "discord content blanked": Veil("discord", lambda it: content(it, False), lambda it: content(it, True)),
}
INTENT_DISALLOWED = Veil("discord", intent_disallowed, lambda it: content(it, True))
"""Not among those that lift at once: another IDENTIFY waits five minutes, since Discord allows few a day."""


def of(probe: ProbeResult, channel: str) -> DeliveryResult:
    """The probe's delivery on a channel."""
    return next(delivery for delivery in probe.deliveries if delivery.channel == channel)


def reasons(delivery: DeliveryResult) -> set[str]:
    return {finding.reason for finding in (delivery.timeliness, delivery.outcome) if finding}


async def turn(knob: Knob, world: Place) -> None:
    """Turn a knob, which may take its time."""
    taking = knob(world)
    if inspect.isawaitable(taking):
        await taking


async def answered(life: Life, count: int = 1) -> None:
    """Wait until so many publications were answered."""
    await life.until(lambda probes: sum(probe.answer is not None for probe in probes) == count)


async def finished(life: Life, world: Place) -> dict[str, ProbeResult]:
    """Everything settled, nothing of it untrue, nothing counted twice; the probes by name."""
    probes = await life.settled()
    assert untrue(await life.records(), world.truths()) == []
    await life.assert_whole()
    return {probe.probe: probe for probe in probes}


async def the_only(life: Life, world: Place, channel: str) -> DeliveryResult:
    (probe,) = (await finished(life, world)).values()
    return of(probe, channel)


@pytest.mark.parametrize("name", VEILS)
async def test_sight_that_was_taken_makes_nothing_lost(tmp_path: Path, name: str) -> None:
    """While we may not look all stays open; once we may, what came is delivered and what did not is lost."""
    veil = VEILS[name]
    async with place(tmp_path, UNPUSHED, speed=HURRY) as world, world.life() as life:
        await turn(veil.fall, world)
        (came,) = await life.launch(within=LONG_WITHIN, give_up=LONG_GIVE_UP, channels=(veil.channel,))
        await answered(life)
        await world.weather(UNPUSHED_GONE)
        (never,) = await life.launch(within=LONG_WITHIN, give_up=LONG_GIVE_UP, channels=(veil.channel,))
        await life.blind_since_horizon(veil.channel)
        for probe in await life.until(bool):
            assert verdict(of(probe, veil.channel)) == ("open", "open")
        await turn(veil.lift, world)
        probes = await finished(life, world)
    # The history shows it, and the provider's stamp, on a clock that control messages bound, since when.
    # A machine that holds everything up widens the interval, or even delays the message itself beyond its deadline;
    # that no verdict contradicts the truth is asserted above.
    held_up = life.loops.worst_lag > HELD_UP
    timeliness, outcome = verdict(of(probes[came], veil.channel))
    assert timeliness in {"on_time", *(["ambiguous", "overdue"] if held_up else [])}
    assert outcome == "delivered"
    assert verdict(of(probes[never], veil.channel)) == ("overdue", "lost")


@pytest.mark.parametrize(
    "veil",
    [VEILS["slack scope revoked"], VEILS["discord history revoked"], INTENT_DISALLOWED],
    ids=["slack scope revoked", "discord history revoked", "discord intent disallowed"],
)
async def test_permission_that_stays_away_ends_void(tmp_path: Path, veil: Veil) -> None:
    """Blind beyond horizon and grace: void, blind, and nothing is said about the target."""
    async with place(tmp_path, GONE, speed=2 * HURRY) as world, world.life() as life:
        await turn(veil.fall, world)
        await life.launch(within=LONG_WITHIN, give_up=LONG_GIVE_UP, channels=(veil.channel,))
        delivery = await the_only(life, world, veil.channel)
    assert verdict(delivery) == ("void", "void")
    assert reasons(delivery) == {"blind"}


async def test_blank_slack_message_is_blind_and_no_loss(tmp_path: Path) -> None:
    """A message without any content proves that Slack withholds some: nothing that is missing beside it is lost."""
    async with place(tmp_path, GONE) as world, world.life() as life:
        await world.slack.post(world.address("slack"), "")
        await life.launch(within=WITHIN, give_up=GIVE_UP, channels=("slack",))
        await life.blind_since_horizon("slack")
        (probe,) = await life.until(bool)
        assert verdict(of(probe, "slack")) == ("open", "open")


async def test_new_uidvalidity_ends_what_was_covered(tmp_path: Path) -> None:
    """A mailbox that begins anew may have swallowed the mail: void, no coverage, and never lost."""
    async with place(tmp_path, GONE) as world, world.life() as life:
        await life.launch(within=WITHIN, give_up=GIVE_UP, channels=("email",))
        await answered(life)
        world.mail.new_validity(world.address("email"))
        delivery = await the_only(life, world, "email")
        assert verdict(delivery) == ("void", "void")
        assert reasons(delivery) == {"no_coverage"}


async def test_new_uidvalidity_hides_no_arrival(tmp_path: Path) -> None:
    """What comes into the new mailbox is seen and delivered."""
    async with place(tmp_path, SLOW) as world, world.life() as life:
        await life.launch(within=30, give_up=60, channels=("email",))
        world.mail.new_validity(world.address("email"))
        assert verdict(await the_only(life, world, "email")) == ("on_time", "delivered")


def lose_cursors(conn: Connection) -> None:
    """What a damaged or foreign record leaves: cursors that say nothing."""
    conn.execute(update(observers).values(cursor="{}"))


async def assert_no_coverage(life: Life, world: Place) -> None:
    """Everything ends void for want of coverage."""
    (probe,) = (await finished(life, world)).values()
    for delivery in probe.deliveries:
        assert verdict(delivery) == ("void", "void")
        assert reasons(delivery) == {"no_coverage"}


async def test_lost_cursor_begins_anew_and_claims_no_absence(tmp_path: Path) -> None:
    """Without its cursor no observer can say what it missed: void, no coverage, and never lost."""
    async with place(tmp_path, GONE) as world, world.life() as life:
        await life.launch(within=WITHIN, give_up=GIVE_UP)
        await answered(life)
        await life.flow.ledger.write(lose_cursors)
        await assert_no_coverage(life, world)


async def test_vanished_anchor_begins_anew_and_claims_no_absence(tmp_path: Path) -> None:
    """A history from which the last known message is gone may have lost others with it: void, no coverage."""
    async with place(tmp_path, GONE) as world, world.life() as life:
        await life.launch(within=WITHIN, give_up=GIVE_UP, channels=("slack", "discord"))
        await answered(life)
        world.slack.prune(world.address("slack"))
        for message in world.discord.history(world.address("discord")):
            world.discord.forget(world.address("discord"), message["id"])
        await assert_no_coverage(life, world)


async def test_new_world_behind_old_names_is_world_gone(tmp_path: Path) -> None:
    """Channels of the same names in another world cannot show what was expected in the old one: void, world gone."""
    start = SystemClock().now()
    async with place(tmp_path, GONE, speed=2 * HURRY, start=start) as old, old.life() as life:
        await life.launch(within=LONG_WITHIN, give_up=LONG_GIVE_UP)
        await answered(life)
    async with place(tmp_path, GONE, speed=2 * HURRY, start=start) as new, new.life() as life:
        (probe,) = await life.settled()
        await life.assert_whole()
    assert {verdict(delivery) for delivery in probe.deliveries} == {("void", "void")}
    assert {reason for delivery in probe.deliveries for reason in reasons(delivery)} == {"world_gone"}


async def test_one_blind_channel_spoils_no_other(tmp_path: Path) -> None:
    """While one observer is blind the others' deliveries are settled as ever."""
    async with place(tmp_path, SLOW) as world, world.life() as life:
        world.slack.leave(world.address("slack"))
        await life.launch(within=30, give_up=60)
        await life.until(lambda probes: sum(d.settled for d in probes[0].deliveries) == 2)
        (probe,) = await life.until(bool)
        assert {d.channel: verdict(d) for d in probe.deliveries} == {
            "email": ("on_time", "delivered"),
            "slack": ("open", "open"),
            "discord": ("on_time", "delivered"),
        }
