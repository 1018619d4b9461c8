"""Messages of every form, and of none, beside a probe's own: nothing breaks, nothing is fetched, nothing is judged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.flow.rig import verdicts
from tests.real import payloads
from tests.real.place import Life, Place, place
from tests.real.strangers import CHANNELS, Mint, Stranger, marker_of, stray_rows, strays, tripwire
from tests.real.test_attackers import GONE, HURRY, WELL, sound

SAYS = "This is a delivery probe. No action is needed."


async def settled_well(life: Life, world: Place) -> None:
    """A probe on every channel arrives as if nothing had been."""
    (probe,) = await life.launch(within=30, give_up=40)
    found = {each.probe: verdicts(each) for each in await sound(life, world)}
    assert found[probe] == WELL


async def test_slack_payloads_of_every_kind(tmp_path: Path) -> None:
    """Each message that stands on the channel counts once by its key; edits, joins and threads count for nothing."""
    async with tripwire() as wire, place(tmp_path) as world, world.life() as life:
        mint, eve = Mint.of(life), Stranger(world)
        for notice in payloads.slack_notices(mint.forged()):
            eve.says_on_slack(**notice)
        for event in payloads.slack_events(mint.forged()):
            await eve.announces_on_slack(**event)
        messages = payloads.slack_messages(mint.forged(), wire.url)
        for message in messages:
            eve.says_on_slack(**message)
        await settled_well(life, world)
        await strays(life, {("slack", "forged"): len(messages)})
        assert wire.visits == 0


async def test_discord_payloads_of_every_kind(tmp_path: Path) -> None:
    """Each message that somebody said counts once by its key; Discord's own notices count for nothing."""
    async with tripwire() as wire, place(tmp_path) as world, world.life() as life:
        mint, eve = Mint.of(life), Stranger(world)
        for notice in payloads.discord_notices(mint.forged()):
            await eve.says_on_discord(**notice)
        messages = payloads.discord_messages(mint.forged(), wire.url)
        for message in messages:
            await eve.says_on_discord(**message)
        await settled_well(life, world)
        await strays(life, {("discord", "forged"): len(messages)})
        assert wire.visits == 0


async def test_mails_of_every_kind(tmp_path: Path) -> None:
    """Huge, deep, broken and lying mails count once each by their key, and delay nobody's verdict."""
    async with tripwire() as wire, place(tmp_path) as world, world.life() as life:
        mint, eve = Mint.of(life), Stranger(world)
        sent = payloads.sent_mails(mint.forged(), wire.url)
        await eve.mails(*sent)
        left = payloads.left_mails(mint.forged(), wire.url)
        await eve.leaves(*left)
        await settled_well(life, world)
        await strays(life, {("email", "forged"): len(sent) + len(left)})
        assert wire.visits == 0


async def test_frames_that_no_parser_likes(tmp_path: Path) -> None:
    """A pushed message too deep, or with numbers too long, for a JSON parser ends no connection and hides no other."""
    async with place(tmp_path) as world, world.life() as life:
        key, eve = Mint.of(life).forged(), Stranger(world)
        before = list(world.slack._connections)
        for number, hostile in enumerate(
            ("[" * 100_000 + "]" * 100_000, '{"a":' * 2000 + "1" + "}" * 2000, "9" * 9999)
        ):
            await eve.announces_on_slack(hostile, text=key)
            await eve.announces_on_discord(hostile, content=key, id=str(1_500_000_000_000_000_000 + number))
        await settled_well(life, world)
        await strays(life, {("slack", "forged"): 3, ("discord", "forged"): 3})
        assert world.slack._connections == before
        assert (world.discord.identifies, world.discord.resumes) == (1, 0)


async def test_marker_in_every_disguise_is_found(tmp_path: Path) -> None:
    """However mail systems have mangled a probe's marker, its delivery is seen, and seen as whole."""
    disguises = list(payloads.disguised_mails("x" * 48, SAYS))
    async with place(tmp_path, GONE) as world, world.life() as life:
        eve = Stranger(world)
        names = await life.launch(len(disguises), within=30, give_up=60, channels=("email",))
        for probe, disguise in zip(names, disguises, strict=True):
            marker = await life.flow.ledger.read(marker_of, probe)
            await eve.mails(payloads.disguised_mails(marker, SAYS)[disguise])
        found = {probe.probe: verdicts(probe)["email"] for probe in await life.settled()}
        assert {name: found[probe] for probe, name in zip(names, disguises, strict=True)} == dict.fromkeys(
            disguises, ("on_time", "delivered")
        )
        await life.assert_whole()


async def test_what_only_tells_of_a_message_delivers_none(tmp_path: Path) -> None:
    """A bounce, an edit, a thread, a pin or AutoMod's alert with a probe's own marker is no arrival: it stays lost."""
    async with place(tmp_path, GONE, speed=HURRY) as world, world.life() as life:
        eve = Stranger(world)
        (probe,) = await life.launch(within=15, give_up=45)
        marker = await life.flow.ledger.read(marker_of, probe)
        await eve.mails(payloads.bounce(marker))
        for notice in payloads.slack_notices(marker):
            eve.says_on_slack(**notice)
        for event in payloads.slack_events(marker):
            await eve.announces_on_slack(**event)
        for notice in payloads.discord_notices(marker):
            await eve.says_on_discord(**notice)
        (result,) = await sound(life, world)
        assert verdicts(result) == dict.fromkeys(CHANNELS, ("overdue", "lost"))
        assert await life.flow.ledger.read(stray_rows) == Counter()
