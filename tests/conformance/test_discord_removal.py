"""Removing messages from Discord: what goes in bulk, what one by one, and what is never asked for again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from prober.clean_up import DAY, Removal
from prober.clock import Instant, SystemClock
from prober.errors import Unreadable
from prober.model import Message
from prober.observers.discord import DiscordObserver
from prober.observers.discord_removal import MAY_ASK_AGAIN, MOST_AT_ONCE
from prober.observers.discord_rest import PAGE
from prober.sandbox.discord_guild import MANAGE
from prober.sandbox.discord_limits import Limit
from prober.sandbox.faults import RequestFault
from tests.conformance.discord_world import ALERTS, NEWS, World, running

BULK = "POST /channels/{channel}/messages/bulk-delete"
SINGLE = "DELETE /channels/{channel}/messages/{message}"
TWO_WEEKS = 14 * DAY


class Leaping(SystemClock):
    """The machine's clock, ``ahead`` seconds on; pauses are fifty times shorter."""

    ahead = 0.0

    def now(self) -> Instant:
        return super().now().plus(self.ahead)

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 50)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A Discord whose bot may manage messages, without limits that only cost time."""
    async with running() as opened:
        opened.clock = Leaping()
        opened.server.grant(MANAGE, ALERTS)
        opened.server.limits = {BULK: Limit(1000, 1.0), SINGLE: Limit(1000, 1.0)}
        yield opened


async def posted(world: World, count: int, age: float = 0.0, channel: str = ALERTS) -> list[str]:
    """The ids of so many messages of the product, posted so long ago."""
    world.faults.offset = -age
    ids = [await world.server.post(channel, f"message {number}") for number in range(count)]
    world.faults.offset = 0.0
    return ids


def left(world: World, channel: str = ALERTS) -> list[str]:
    return [str(message["id"]) for message in world.server.history(channel)]


def asked(world: World, route: str) -> int:
    return world.server.requests.get(route, 0)


async def test_young_messages_go_in_bulk(world: World) -> None:
    """More than one request may hold are removed in requests of a hundred at the most; nothing unnamed goes."""
    kept = await posted(world, 1)
    named = await posted(world, MOST_AT_ONCE + 5)
    async with world.observer(mode="rest") as observer:
        ends = await observer.remove("alerts", named)
    assert set(ends.values()) == {Removal.REMOVED}
    assert left(world) == kept
    assert (asked(world, BULK), asked(world, SINGLE)) == (2, 0)


async def test_one_message_is_no_bulk(world: World) -> None:
    """Discord refuses a bulk of one, so one message is removed by itself."""
    (only,) = await posted(world, 1)
    async with world.observer(mode="rest") as observer:
        assert await observer.remove("alerts", [only]) == {only: Removal.REMOVED}
    assert (asked(world, BULK), asked(world, SINGLE)) == (0, 1)


@pytest.mark.parametrize("age", [TWO_WEEKS - 60.0, TWO_WEEKS + 60.0, 40 * DAY])
async def test_what_is_two_weeks_old_goes_one_by_one(world: World, age: float) -> None:
    """Around and beyond two weeks no bulk is tried, which Discord would refuse as a whole: younger ones still go so."""
    old, young = await posted(world, 3, age), await posted(world, 4)
    async with world.observer(mode="rest") as observer:
        ends = await observer.remove("alerts", [*old, *young])
    assert set(ends.values()) == {Removal.REMOVED}
    assert left(world) == []
    assert (asked(world, BULK), asked(world, SINGLE)) == (1, 3)


async def test_what_is_gone_is_told_as_gone(world: World) -> None:
    """A message that is not there any more, and an id that is none of Discord's, end as gone."""
    (there,) = await posted(world, 1)
    async with world.observer(mode="rest") as observer:
        assert (await observer.remove("alerts", [there]))[there] is Removal.REMOVED
        assert await observer.remove("alerts", [there, "no id"]) == {there: Removal.GONE, "no id": Removal.GONE}


async def test_a_refusal_is_not_repeated(world: World) -> None:
    """Without MANAGE_MESSAGES others' messages are asked for once, and again only an hour later: refusals add up to a
    ban."""
    world.server.revoke(MANAGE, ALERTS)
    clock, named = world.clock, await posted(world, 5)
    assert isinstance(clock, Leaping)
    async with world.observer(mode="rest") as observer:
        assert set((await observer.remove("alerts", named)).values()) == {Removal.DENIED}
        first = asked(world, BULK) + asked(world, SINGLE)
        assert first == 2
        assert set((await observer.remove("alerts", named)).values()) == {Removal.DENIED}
        assert asked(world, BULK) + asked(world, SINGLE) == first
        clock.ahead = MAY_ASK_AGAIN + 1
        world.server.grant(MANAGE, ALERTS)
        assert set((await observer.remove("alerts", named)).values()) == {Removal.REMOVED}
    assert left(world) == []


async def lying(observer: DiscordObserver, before: Instant) -> tuple[list[Message], list[Message], int]:
    messages, controls, pages, position = list[Message](), list[Message](), 0, ""
    while True:
        page = await observer.lying(position, before)
        messages, controls, pages = [*messages, *page.messages], [*controls, *page.controls], pages + 1
        if not (position := page.position):
            return messages, controls, pages


async def test_old_control_messages_are_found_and_go_without_rights(world: World) -> None:
    """Control messages are told apart from what people wrote, and are the bot's own: removable without
    MANAGE_MESSAGES. One that somebody else imitates is not taken for ours."""
    world.server.revoke(MANAGE, ALERTS)
    async with world.observer(mode="rest") as observer:
        await observer.read(None)
        (control,) = [each for each in world.server.history(ALERTS) if "delivery-prober control" in each["content"]]
        imitated = await world.server.post(ALERTS, control["content"])
        said = await posted(world, 2)
        messages, controls, _ = await lying(observer, world.clock.now().plus(60))
        mine = [message.id for message in controls if message.channel == "alerts"]
        assert mine == [control["id"]]
        assert imitated not in mine
        assert {*said} <= {message.id for message in messages}
        assert await observer.remove("alerts", mine) == {control["id"]: Removal.REMOVED}
    assert left(world) == [imitated, *said]


async def test_every_page_of_every_channel_is_shown(world: World) -> None:
    """A channel longer than a page is shown whole, each message once, then the next channel; younger ones are not."""
    old = await posted(world, PAGE + 20, DAY)
    news = await posted(world, 2, DAY, NEWS)
    await posted(world, 3)
    async with world.observer(mode="rest") as observer:
        messages, _, pages = await lying(observer, world.clock.now().plus(-3600))
    assert sorted(message.id for message in messages) == sorted([*old, *news])
    assert pages == 3


async def test_what_a_read_rests_on_is_known(world: World) -> None:
    """The anchor of the cursor and what came after it may be needed; what is older, or without a cursor, is judged
    so too."""
    async with world.observer(mode="rest") as observer:
        (older,) = await posted(world, 1, DAY)
        batch = await observer.read(None)
        (newer,) = await posted(world, 1)
        assert not observer.rests_on(batch.cursor, "alerts", older)
        assert observer.rests_on(batch.cursor, "alerts", newer)
        assert observer.rests_on(None, "alerts", older)


async def test_a_discord_that_fails_is_unreadable(world: World) -> None:
    """A server error is raised for the sweep to try again, and nothing counts as removed."""
    named = await posted(world, 2)
    world.faults.routes = {BULK: RequestFault(status=503), SINGLE: RequestFault(status=503)}
    async with world.observer(mode="rest") as observer:
        with pytest.raises(Unreadable):
            await observer.remove("alerts", named)
        world.faults.routes = {}
        assert set((await observer.remove("alerts", named)).values()) == {Removal.REMOVED}
