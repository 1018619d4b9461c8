"""The shipped scenarios with their mail on Debian's Postfix and Dovecot, from the request to the verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from prober.clock import Instant
from prober.ledger.tables import instant_of
from prober.report.result import DeliveryResult
from prober.resources import contents_directory, scenarios_directory
from prober.scenario_files import load_scenarios
from tests.flow.rig import verdict
from tests.real.mail_place import MailPlace, mail_place
from tests.real.place import Life
from tests.servers.dovecot import PASSWORD, Dovecot
from tests.servers.postfix import Postfix

GOOD = ("on_time", "delivered")


def assert_true(mails: Sequence[DeliveryResult], requested: Instant, posted: Sequence[Instant]) -> None:
    """No interval ends before its mail was handed in, the first one of them at least."""
    for mail in mails:
        assert mail.latency is not None
        assert mail.latency.upper >= posted[0].since(requested)


async def test_alert_latency_over_real_mail(tmp_path: Path, dovecot_server: Dovecot, postfix_server: Postfix) -> None:
    """An alert is on time in the inbox, on Slack and on Discord, and its way through Postfix is on record."""
    async with mail_place(tmp_path, dovecot_server, postfix_server) as place, place.world.life() as life:
        await life.launch(3, within=30, give_up=60)
        probes = await life.settled()
        for probe in probes:
            assert {delivery.channel: verdict(delivery) for delivery in probe.deliveries} == dict.fromkeys(
                ("email", "slack", "discord"), GOOD
            )
            (mail,) = [delivery for delivery in probe.deliveries if delivery.channel == "email"]
            names = [waypoint.name for waypoint in mail.waypoints]
            assert {"received", "stored", "mailbox"} <= set(names)
        assert len(place.posted) == 3
        await life.assert_whole()
        for record in await life.records():
            requested = instant_of(record.steps[0], "requested")
            assert requested is not None
            mails = [d for probe in probes if probe.probe == record.probe.id for d in probe.deliveries]
            assert_true([mail for mail in mails if mail.channel == "email"], requested, place.posted)


async def test_newsletter_delivery_over_real_mail(
    tmp_path: Path, dovecot_server: Dovecot, postfix_server: Postfix
) -> None:
    """A scheduled newsletter comes to both inboxes after its time, not before it."""
    newsletter = load_scenarios(scenarios_directory(), contents_directory())["newsletter-delivery"]
    async with mail_place(tmp_path, dovecot_server, postfix_server, speed=3.0) as place, place.world.life() as life:
        await life.launch(within=60, give_up=120, channels=("email", "email-2"), scenario=newsletter)
        (probe,) = await life.settled()
        assert [verdict(delivery) for delivery in probe.deliveries] == [GOOD, GOOD]
        assert len(place.posted) == 2
        await life.assert_whole()


async def lock_out(place: MailPlace) -> None:
    """Let the mailbox's password be another one, and its connections be lost."""
    await asyncio.to_thread(place.boxes["mailbox-1"].set_password, "changed")
    place.doors["mailbox-1"].drop_connections()


async def blind(life: Life) -> None:
    """Wait until the observer says that it is blind."""
    await life.until(lambda _: bool(life.loops.sights["mailbox-1"].blind))


@pytest.mark.parametrize("locked_from_the_start", [False, True])
async def test_a_refused_login_is_blindness_and_history_resolves_it(
    tmp_path: Path, dovecot_server: Dovecot, postfix_server: Postfix, locked_from_the_start: bool
) -> None:
    """Ten seconds without a login: open, whatever comes; then the mail is delivered, and the interval spans them."""
    async with mail_place(tmp_path, dovecot_server, postfix_server, speed=4.0) as place, AsyncExitStack() as stack:
        if locked_from_the_start:
            await lock_out(place)
        life = await stack.enter_async_context(place.world.life())
        if not locked_from_the_start:
            await life.until(lambda _: life.loops.sights["mailbox-1"].last_started is not None)
            await lock_out(place)
        await blind(life)
        assert life.loops.sights["mailbox-1"].blind.startswith("login_refused")
        await life.launch(within=5, give_up=60, channels=("email",))
        await life.until(lambda probes: bool(probes and probes[0].answer))
        await place.world.clock.sleep(10)
        (probe,) = await life.until(bool)
        assert verdict(probe.deliveries[0]) == ("open", "open")
        await asyncio.to_thread(place.boxes["mailbox-1"].set_password, PASSWORD)
        (probe,) = await life.settled()
        (mail,) = probe.deliveries
        assert verdict(mail) == ("ambiguous", "delivered")
        assert mail.latency is not None
        assert mail.latency.basis == "history"
        assert mail.latency.lower < 5
        assert mail.latency.upper > 10
        await life.assert_whole()


async def test_a_login_refused_beyond_the_horizon_is_void(
    tmp_path: Path, dovecot_server: Dovecot, postfix_server: Postfix
) -> None:
    """Blind at the horizon and for the grace after it: nothing is said about the target."""
    async with mail_place(tmp_path, dovecot_server, postfix_server, speed=20.0) as place, place.world.life() as life:
        await lock_out(place)
        await blind(life)
        await life.launch(within=5, give_up=20, channels=("email",))
        (probe,) = await life.settled()
    (mail,) = probe.deliveries
    assert verdict(mail) == ("void", "void")
    assert {found.reason for found in (mail.timeliness, mail.outcome) if found} == {"blind"}
