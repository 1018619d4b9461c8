"""Keys that are not a probe's: forged, foreign, expired and repeated ones are counted by their reason, never judged."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from prober.ledger.tables import candidates, held, keys, sightings
from prober.model import StrayReason
from prober.report.result import ProbeResult
from tests.flow.rig import verdicts
from tests.real.place import Life, Place, place, untrue
from tests.real.strangers import (
    ATTACKS,
    CHANNELS,
    Mint,
    Stranger,
    assert_nothing_named_by_strangers,
    letter,
    marker_of,
    stray_rows,
    strays,
)

GONE = "channels: {email: {loss: 1.0}, slack: {loss: 1.0}, discord: {loss: 1.0}}"
UNPUSHED = "channels: {email: {pushes: {drop: 1.0}}, slack: {pushes: {drop: 1.0}}, discord: {pushes: {drop: 1.0}}}"
HURRY = 15.0
"""How many times faster time passes where a horizon must."""

WELL = dict.fromkeys(CHANNELS, ("on_time", "delivered"))


async def sound(life: Life, world: Place) -> tuple[ProbeResult, ...]:
    """Everything settled, true and counted once, and no name in the totals is a stranger's."""
    probes = await life.settled()
    assert untrue(await life.records(), world.truths()) == []
    await life.assert_whole()
    await assert_nothing_named_by_strangers(life)
    return probes


@pytest.mark.parametrize("weather", ["seed: 1", UNPUSHED], ids=["pushed", "read"])
async def test_every_attack_is_a_stray_by_its_reason(tmp_path: Path, weather: str) -> None:
    """What strangers write beside a probe's messages counts by its reason, and the probe is settled by its own."""
    async with place(tmp_path, weather) as world:
        if weather == UNPUSHED:
            for name in ("slack", "discord"):
                world.configuration["observers"][name]["poll"] = "500ms"
        async with world.life() as life:
            await _attacked(world, life)


async def _attacked(world: Place, life: Life) -> None:
    mint, eve = Mint.of(life), Stranger(world)

    async def attack() -> None:
        for _, made in ATTACKS.values():
            await eve.mails(letter(made(mint, "email")))
            eve.says_on_slack(made(mint, "slack"))
            await eve.says_on_discord(made(mint, "discord"))

    await attack()
    await life.launch(within=20, give_up=30)
    await attack()
    (probe,) = await life.settled()
    assert verdicts(probe) == WELL
    reasons = Counter(reason.value for reason, _ in ATTACKS.values())
    # Nothing more is read once all is settled: another probe shows what came after the last read.
    await life.launch(within=20, give_up=30)
    await strays(life, {(name, reason): 2 * count for name in CHANNELS for reason, count in reasons.items()})
    assert all(set(verdicts(probe).values()) == {("on_time", "delivered")} for probe in await sound(life, world))


async def test_known_key_on_a_channel_without_its_delivery_is_foreign(tmp_path: Path) -> None:
    """A genuine marker shown where its probe expects nothing counts there for nothing."""
    async with place(tmp_path) as world, world.life() as life:
        eve = Stranger(world)
        (alone,) = await life.launch(within=10, give_up=20, channels=("slack",))
        marker = await life.flow.ledger.read(marker_of, alone)
        await eve.mails(letter(marker))
        await eve.says_on_discord(f"`{marker}`")
        await life.launch(within=10, give_up=20)
        await strays(life, {("email", "foreign"): 1, ("discord", "foreign"): 1})
        first, second = sorted(await sound(life, world), key=lambda probe: len(probe.deliveries))
        assert verdicts(first) == {"slack": WELL["slack"]}
        assert verdicts(second) == WELL


async def test_what_is_repeated_is_a_copy_and_later_a_stray(tmp_path: Path) -> None:
    """Up to the horizon a known key again is a copy; later it is replayed, or after the horizon if it never came."""
    async with place(tmp_path, speed=HURRY) as world, world.life() as life:
        (came,) = await life.launch(within=15, give_up=60)
        await life.settled()
        (record,) = await life.records()
        for name in CHANNELS:
            await world.carry(world.letter(record, name))
        await world.weather(GONE)
        (never,) = await life.launch(within=15, give_up=60)
        by_probe = {probe.probe: probe for probe in await life.settled()}
        # The last probe is lost: every observer has read since the horizon of both.
        assert {outcome for _, outcome in verdicts(by_probe[came]).values()} == {"delivered"}
        assert set(verdicts(by_probe[never]).values()) == {("overdue", "lost")}
        assert await life.total("copies_total") == len(CHANNELS)
        for record in await life.records():
            for name in CHANNELS:
                await world.carry(world.letter(record, name))
        await strays(life, {(n, why): 1 for n in CHANNELS for why in (StrayReason.REPLAYED, StrayReason.AFTER_HORIZON)})
        after = {probe.probe: verdicts(probe) for probe in await life.settled()}
        assert after == {name: verdicts(probe) for name, probe in by_probe.items()}
        assert await life.total("copies_total") == len(CHANNELS)
        await life.assert_whole()
        await assert_nothing_named_by_strangers(life)


async def test_key_of_what_was_refused_is_a_stray(tmp_path: Path) -> None:
    """What the target refused and yet shows up is no delivery, whoever wrote it."""
    async with place(tmp_path, "api: {status: 400}") as world, world.life() as life:
        (refused,) = await life.launch(within=10, give_up=20)
        before = [verdicts(probe) for probe in await life.settled()]
        assert before == [dict.fromkeys(CHANNELS, ("moot", "refused"))]
        await Stranger(world).says_everywhere(await life.flow.ledger.read(marker_of, refused))
        await strays(life, dict.fromkeys([(name, "after_refusal") for name in CHANNELS], 1))
        assert [verdicts(probe) for probe in await sound(life, world)] == before


def _sizes(conn: Connection) -> dict[str, int]:
    tables = (keys, candidates, held, sightings)
    return {table.name: conn.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}


async def test_ten_thousand_keys_in_a_message_are_one_stray(tmp_path: Path) -> None:
    """However many keys a message carries, it is one sighting, a bounded number of rows, and a bounded memory."""
    async with place(tmp_path) as world, world.life() as life:
        mint, eve = Mint.of(life), Stranger(world)
        many = "\r\n".join(f"{mint.forged()} 0c6b2f9e-8a0f-41ef-9a6b-{n:012x}" for n in range(10_000))
        tracemalloc.start()
        try:
            await eve.mails(letter(many))
            eve.says_on_slack(many)
            await eve.says_on_discord(many)
            await life.launch(within=20, give_up=30)
            await strays(life, dict.fromkeys([(name, "forged") for name in CHANNELS], 1))
            assert [verdicts(probe) for probe in await sound(life, world)] == [WELL]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        # Both sides of every connection are in this process: its sandbox holds each message, too.
        assert peak < 60 * len(many)
        sizes = await life.flow.ledger.read(_sizes)
        assert sizes["sightings"] == 2 * len(CHANNELS)
        assert sizes["candidates"] == sizes["held"] == 0


async def test_ids_of_strangers_are_not_waited_for(tmp_path: Path) -> None:
    """While an answer may still tell ids, a stranger's are no candidates; an allowed sender's are, and stay bounded."""
    async with place(tmp_path, "api: {latency: 3s}") as world, world.life() as life:
        eve = Stranger(world)
        await life.launch(within=20, give_up=30)
        ids = "\r\n".join(f"0c6b2f9e-8a0f-41ef-9a6b-{n:012x}" for n in range(1000))
        await eve.says_everywhere(ids)
        await strays(life, dict.fromkeys([(name, "unmatched") for name in CHANNELS], 1))
        assert (await life.flow.ledger.read(_sizes))["candidates"] == 0
        await world.slack.post(world.address("slack"), ids)
        await life.until(lambda probes: all(probe.answer is not None for probe in probes))
        assert (await life.flow.ledger.read(_sizes))["candidates"] <= 64
        assert (await life.flow.ledger.read(stray_rows))["slack", "unmatched"] == 1
        assert [verdicts(probe) for probe in await sound(life, world)] == [WELL]
