"""The defect catalogue, what is swept: leftovers of another life (8), and a run that really ends and cleans up (14).

Over the real protocols of the sandbox. A Slack bot deletes only its own messages, so the product's token is given.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from prober.ad_hoc import SWEEP_WITHIN, AdHocRun, Asked, with_bounds
from prober.assembly import drafting
from prober.clean_up import DAY, Keeping, Removal
from prober.ledger import reading
from prober.marker import Keyring, SigningKey, mint
from prober.observers import Removing
from prober.report.evidence import probe_result
from prober.sandbox.discord_guild import MANAGE
from prober.stages import Flow
from prober.sweep import Course, Swept, sweep_up
from tests.flow.rig import verdicts
from tests.real.place import PATIENCE, Life, Place, alert, place
from tests.real.test_catalogue import CHANNELS, GOOD, everywhere, found
from tests.real.test_catalogue_lives import Audience, post_everywhere

pytestmark = pytest.mark.timeout(300)

NOTHING = dict.fromkeys(CHANNELS, 0)


def allow(world: Place) -> None:
    """Let the prober remove what the product has posted."""
    world.configuration["observers"]["slack"]["delete_token"] = world.sandbox._slack_tokens["xoxp"]
    world.discord.grant(MANAGE, world.address("discord"))


async def lying(life: Life | Flow, text: str = "") -> dict[str, int]:
    """How many messages lie on each channel, control messages and those without ``text`` left out."""
    flow = life if isinstance(life, Flow) else life.flow
    counts = dict(NOTHING)
    for watch in flow.watches:
        assert isinstance(watch.observer, Removing)
        position = ""
        while True:
            page = await watch.observer.lying(position, flow.clock.now().plus(3600))
            for message in page.messages:
                if message.channel in counts and any(text in each for each in message.texts):
                    counts[message.channel] += 1
            if not (position := page.position):
                break
    return counts


async def swept(flow: Flow, keeping: Keeping) -> Swept:
    course = Course(keeping)
    assert await sweep_up(flow, course, PATIENCE)
    assert course.swept.trouble == {}
    return course.swept


NOW = Keeping(0.0, 0.0, 0.0)


async def test_defect_08_leftovers_are_swept_by_their_marker_and_age(tmp_path: Path) -> None:
    """A lost ledger's messages go once they are old; another environment's, forged ones and strangers' never do."""
    async with place(tmp_path) as world:
        allow(world)
        async with world.life() as life:
            ours, now = life.flow.keyring, life.flow.clock.now().wall
            await life.launch(2, within=30, give_up=60)
            assert found(await life.settled()) == {GOOD}
            theirs = Keyring("production", (SigningKey("p", secrets.token_bytes(32)),))
            forger = Keyring(ours.environment, (SigningKey(ours.keys[0].id, secrets.token_bytes(32)),))
            young, old = mint(ours, now, secrets.token_bytes(16)), mint(ours, now - 3 * DAY, secrets.token_bytes(16))
            kept = [young, mint(theirs, now - 90 * DAY, secrets.token_bytes(16)),
                    mint(forger, now - 90 * DAY, secrets.token_bytes(16)), "Lunch at noon, anybody?"]  # fmt: skip
            for text in (old, *kept):
                await post_everywhere(world, life, text)
            # The newest message is the anchor of the next read.
            await life.launch(1, within=30, give_up=60)
            assert found(await life.settled()) == {GOOD}
            await life.loops.read_again(PATIENCE)
            assert await lying(life) == dict.fromkeys(CHANNELS, 8)
        world.ledger = str(tmp_path / "new.sqlite")
        async with world.life() as life:
            await life.loops.read_again(PATIENCE)
            done = await swept(life.flow, NOW)
            assert {removal for _, removal in done.ends} == {Removal.REMOVED}
            for text in kept[1:]:
                assert await lying(life, text) == dict.fromkeys(CHANNELS, 1)
            assert await lying(life, old) == NOTHING
            assert await life.total("deliveries_total") == 0
            await life.assert_whole()


async def test_defect_08_the_young_are_left_to_whoever_waits_for_them(tmp_path: Path) -> None:
    """A message with a key minted just now may be another instance's: it stays, however often is swept."""
    async with place(tmp_path) as world:
        allow(world)
        async with world.life() as life:
            await life.launch(2, within=30, give_up=60)
            assert found(await life.settled()) == {GOOD}
            await life.loops.read_again(PATIENCE)
        world.ledger = str(tmp_path / "new.sqlite")
        async with world.life() as life:
            await life.loops.read_again(PATIENCE)
            assert (await swept(life.flow, Keeping(0.0, 0.0, 60.0))).ends == {}
            assert await lying(life) == dict.fromkeys(CHANNELS, 2)


async def test_what_is_swept_costs_no_sight(tmp_path: Path) -> None:
    """After everything that may go is gone, each read still finds its anchor: no coverage is lost, no verdict void."""
    async with place(tmp_path) as world:
        allow(world)
        async with world.life() as life:
            for rounds in (1, 2):
                await life.launch(3, within=30, give_up=60)
                assert found(await life.settled()) == {GOOD}
                await life.loops.read_again(PATIENCE)
                before = await life.flow.ledger.read(reading.coverage_rows, life.flow.location)
                await swept(life.flow, NOW)
                await life.loops.read_again(PATIENCE)
                after = await life.flow.ledger.read(reading.coverage_rows, life.flow.location)
                assert [row.since_wall for row in before] == [row.since_wall for row in after]
                left = await lying(life)
                assert left["email"] == 0
                # What a read rested on stays for a while: Slack's newest, on Discord what was not two seconds old.
                assert left["slack"] <= rounds
                assert left["discord"] <= 3 * rounds
            await life.assert_whole()
            assert await life.total("strays_total") == 0
            assert await life.total("copies_total") == 0


async def test_what_the_provider_denies_is_counted_once(tmp_path: Path) -> None:
    """Without a token that may, and without MANAGE_MESSAGES, the product's messages stay, and are asked for once."""
    async with place(tmp_path) as world, world.life() as life:
        await life.launch(3, within=30, give_up=60)
        assert found(await life.settled()) == {GOOD}
        await life.launch(1, within=30, give_up=60)
        assert found(await life.settled()) == {GOOD}
        await life.loops.read_again(PATIENCE)
        first = await swept(life.flow, NOW)
        assert first.ends["slack", Removal.DENIED] == 3
        assert first.ends["email", Removal.REMOVED] == 4
        asked = world.slack.requests["chat.delete"]
        second = await swept(life.flow, NOW)
        assert second.ends["slack", Removal.DENIED] == 0
        assert world.slack.requests["chat.delete"] == asked


class Hearing(Audience):
    """Hears what was swept, too."""

    def __init__(self, enough: int) -> None:
        super().__init__(enough)
        self.clean_up: Swept | None = None

    def swept(self, swept: Swept) -> None:
        self.clean_up = swept


def asked(world: Place, *groups: Sequence[str]) -> list[Asked]:
    """A probe for each group of channels."""
    bounded = with_bounds(alert(), 30, 3600)
    return [
        Asked(replace(bounded, name=f"alert-{number}"), tuple(world.settings.channels[name] for name in group))
        for number, group in enumerate(groups)
    ]


async def test_defect_14_a_time_out_ends_the_run_and_clean_up_happens(tmp_path: Path) -> None:
    """A run with a probe that never settles ends at its time all the same, and has removed what the other one left;
    what is open keeps its message, and goes with the run that resolves it."""
    async with place(tmp_path, "channels: {discord: {loss: 1.0}}") as world:
        allow(world)
        async with world.flow() as flow:
            hearing, begun = Hearing(2), time.monotonic()
            groups = asked(world, ("email",), ("slack", "discord"))
            many = AdHocRun(flow, drafting(world.settings), groups, hearing, sweeps=True)
            records = await many.run(asyncio.Event(), 5.0)
            assert 5.0 <= time.monotonic() - begun < 5.0 + SWEEP_WITHIN + PATIENCE
            first, second = (probe_result(record) for record in records)
            assert verdicts(first) == {"email": GOOD}
            assert verdicts(second) == {"slack": GOOD, "discord": ("open", "open")}
            assert hearing.clean_up is not None
            assert hearing.clean_up.ends == {("email", Removal.REMOVED): 1, ("", Removal.TOO_LATE): 1}
            assert await lying(flow) == {"email": 0, "slack": 1, "discord": 0}
            assert await flow.ledger.read(reading.open_probes, flow.location) == (second.probe,)


async def test_defect_14_an_interrupted_run_cleans_up(tmp_path: Path) -> None:
    """After Ctrl-C nothing more is launched, what is under way is settled, and then removed."""
    async with place(tmp_path, everywhere("latency: 500ms")) as world:
        allow(world)
        async with world.flow() as flow:
            hearing = Hearing(1)
            many = AdHocRun(
                flow, drafting(world.settings), asked(world, ("email",)), hearing, count=50, every=0.3, sweeps=True
            )
            await many.run(hearing.launched_enough)
            launched = len(hearing.names)
            assert 1 <= launched < 50
            assert hearing.clean_up is not None
            assert hearing.clean_up.ends["email", Removal.REMOVED] == launched
            assert (await lying(flow))["email"] == 0


async def test_defect_14_clean_up_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Providers that hang in the clean-up cost a run its ten seconds and no more."""
    async with place(tmp_path) as world, world.flow() as flow:
        stuck, entered = asyncio.Event(), asyncio.Event()

        async def never(*_: object) -> None:
            entered.set()
            await stuck.wait()

        for watch in flow.watches:
            monkeypatch.setattr(watch.observer, "remove", never)
        hearing = Hearing(1)
        many = AdHocRun(flow, drafting(world.settings), asked(world, ("email",)), hearing, sweeps=True)
        async with asyncio.timeout(SWEEP_WITHIN + PATIENCE):
            await many.run(asyncio.Event())
        assert entered.is_set()
        assert hearing.clean_up is not None
        assert hearing.clean_up.ends["email", Removal.REMOVED] == 0
