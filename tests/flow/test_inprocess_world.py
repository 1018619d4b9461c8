"""The in-process world behind the target and observer seams, on a manual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from prober.errors import Refused, Unreadable
from prober.model import Batch, Content, How, KeyKind, Publication, PublicationKind, Step, StepAction
from prober.sandbox.inprocess import InProcessWorld, WorldObserver, WorldTarget
from prober.sandbox.manual_clock import ManualClock
from prober.sandbox.weather import parse_weather

CONTENT_ID = "3f0c1a52-6a57-4a5e-9d5e-0a1b2c3d4e5f"
ALERT = Content("alert", "delivery-probe-alert", "A delivery probe", "No action is needed.")


class Rig:
    """A world on a manual clock, with one observer for each kind."""

    def __init__(self, weather: str = "seed: 1") -> None:
        self.clock = ManualClock()
        self.world = InProcessWorld(self.clock, parse_weather(weather), contents=[ALERT], world_id="w0rld1")
        self.target = WorldTarget(self.world)
        self.channels = self.world.channels()

    def observer(self, *names: str, pushes: bool = True) -> WorldObserver:
        return WorldObserver("it", self.world, tuple(self.channels[name] for name in names), pushes=pushes)

    def publication(self, *names: str, scheduled_after: float | None = None) -> Publication:
        scheduled = None if scheduled_after is None else self.clock.now().wall + scheduled_after
        targets = tuple(self.channels[name].target_channel for name in names)
        kind = PublicationKind.ALERT if scheduled is None else PublicationKind.NEWSLETTER
        return Publication("probe", "scenario", kind, targets, CONTENT_ID, "", scheduled_time=scheduled)

    async def publish(self, *names: str, scheduled_after: float | None = None) -> str:
        step = Step("probe", 1, StepAction.CREATE)
        task = asyncio.ensure_future(self.target.take(step, self.publication(*names, scheduled_after=scheduled_after)))
        await self.clock.advance(0.01)
        return (await task).publication_id


@asynccontextmanager
async def entered(rig: Rig, *observers: WorldObserver) -> AsyncIterator[None]:
    async with rig.world:
        for observer in observers:
            await observer.__aenter__()
        yield
        for observer in observers:
            await observer.__aexit__(None, None, None)


async def read_in_time(rig: Rig, observer: WorldObserver, cursor: str | None) -> Batch:
    task = asyncio.ensure_future(observer.read(cursor))
    await rig.clock.advance(1)
    return await task


async def test_a_message_is_pushed_at_the_moment_at_which_it_becomes_visible() -> None:
    """A push carries the whole message, and its instant is the truth's."""
    rig = Rig("channels: {slack: {latency: 2s}}")
    observer = rig.observer("slack")
    async with entered(rig, observer):
        waiting = asyncio.ensure_future(observer.wait(rig.clock.now().plus(60)))
        publication = await rig.publish("slack")
        await rig.clock.advance(3)
        (message,) = (await waiting).pushed
        (visible,) = rig.world.truth
        assert visible.before == visible.after == message.seen
        assert visible.message_id == message.id
        assert message.how is How.PUSH
        assert publication in message.texts[1]
        assert CONTENT_ID in message.texts[1]
        assert "No action is needed." in message.texts[1]


async def test_a_wait_ends_at_its_time() -> None:
    """Where nothing happens, wait returns at ``until`` with nothing."""
    rig = Rig()
    observer = rig.observer("slack")
    async with entered(rig, observer):
        waiting = asyncio.ensure_future(observer.wait(rig.clock.now().plus(5)))
        await rig.clock.advance(4.9)
        assert not waiting.done()
        await rig.clock.advance(0.2)
        assert not (await waiting).pushed


async def test_a_read_begins_now_and_then_misses_nothing() -> None:
    """Without a cursor a read begins a new ``since``; with it, it continues and returns each message once."""
    rig = Rig()
    observer = rig.observer("email", "email-2", pushes=False)
    async with entered(rig, observer):
        await rig.publish("email")
        await rig.clock.advance(1)
        first = await observer.read(None)
        assert not first.messages
        assert not first.readings["email"].continues
        await rig.publish("email", "email-2")
        await rig.clock.advance(1)
        second = await observer.read(first.cursor)
        assert [(message.channel, message.how) for message in second.messages] == [
            ("email", How.POLL),
            ("email-2", How.POLL),
        ]
        assert all(reading.continues for reading in second.readings.values())
        assert not (await observer.read(second.cursor)).messages


async def test_a_cursor_of_another_world_begins_anew() -> None:
    """A vanished world's cursor never counts as continued."""
    rig = Rig()
    observer = rig.observer("slack")
    async with entered(rig, observer):
        batch = await observer.read('{"world": "gone", "next": {"C0": 3}}')
        assert not batch.readings["slack"].continues


async def test_an_outage_blinds_and_then_all_is_found() -> None:
    """While a place is out, reads are unreadable and nothing is pushed; afterwards history has it all."""
    rig = Rig("windows: [{from: 10s, to: 60s, channels: {slack: {outage: true}}}]")
    observer = rig.observer("slack")
    async with entered(rig, observer):
        cursor = (await observer.read(None)).cursor
        lost_sight = asyncio.ensure_future(observer.wait(rig.clock.now().plus(100)))
        await rig.clock.advance(20)
        assert (await lost_sight).unread
        with pytest.raises(Unreadable, match="unreachable"):
            await observer.read(cursor)
        back = asyncio.ensure_future(observer.wait(rig.clock.now().plus(100)))
        await rig.publish("slack")
        await rig.clock.advance(30)
        assert not back.done()
        await rig.clock.advance(20)
        assert (await back).unread
        (message,) = (await observer.read(cursor)).messages
        assert message.how is How.HISTORY


@pytest.mark.parametrize(
    ("weather", "reason"),
    [
        ("channels: {slack: {logins: refused}}", "login_refused"),
        ("channels: {slack: {rate_limit: {share: 1, retry_after: 5s}}}", "rate_limited"),
        ("channels: {slack: {requests: {error_rate: 1}}}", "protocol"),
        ("channels: {slack: {requests: {garbage_rate: 1}}}", "protocol"),
    ],
)
async def test_what_cannot_be_read_is_said(weather: str, reason: str) -> None:
    """An observer that cannot see raises Unreadable with its reason, never an empty batch."""
    rig = Rig(weather)
    observer = rig.observer("slack")
    async with entered(rig, observer):
        with pytest.raises(Unreadable) as caught:
            await observer.read(None)
        assert caught.value.reason == reason


async def test_pushes_can_be_dropped_and_late() -> None:
    """A dropped push leaves the message to a read; a late one has the instant at which it came."""
    rig = Rig("channels: {slack: {pushes: {drop: 1}}, discord: {latency: 1s, pushes: {late: 30s}}}")
    slack, discord = rig.observer("slack"), rig.observer("discord")
    async with entered(rig, slack, discord):
        cursor = (await slack.read(None)).cursor
        waits = [asyncio.ensure_future(one.wait(rig.clock.now().plus(60))) for one in (slack, discord)]
        await rig.publish("slack", "discord")
        await rig.clock.advance(70)
        assert not (await waits[0]).pushed
        assert len((await slack.read(cursor)).messages) == 1
        (late,) = (await waits[1]).pushed
        visible = next(one for one in rig.world.truth if one.server == "discord")
        assert late.seen.since(visible.after) == pytest.approx(30)


async def test_a_slow_read_begins_before_it_ends() -> None:
    """A reading's instants enclose the time that the provider took."""
    rig = Rig("channels: {slack: {requests: {latency: 500ms}}}")
    observer = rig.observer("slack")
    async with entered(rig, observer):
        batch = await read_in_time(rig, observer, None)
        reading = batch.readings["slack"]
        assert reading.ended.since(reading.started) == pytest.approx(0.5)


async def test_a_scheduled_publication_comes_at_its_time() -> None:
    """Nothing is visible before the scheduled time; the message comes its latency after it."""
    rig = Rig("channels: {email: {latency: 1s}}")
    async with entered(rig):
        start = rig.clock.now()
        await rig.publish("email", scheduled_after=20)
        await rig.clock.advance(19)
        assert len(rig.world.truth) == 0
        await rig.clock.advance(10)
        (visible,) = rig.world.truth
        assert visible.after.since(start) == pytest.approx(21)


async def test_a_cancelled_publication_never_comes() -> None:
    """A cancel before the time is accepted and withholds the message; a second one is refused."""
    rig = Rig()
    async with entered(rig):
        identity = await rig.publish("email", scheduled_after=20)
        cancel = Step("probe", 2, StepAction.CANCEL, publication_id=identity)
        for _ in range(2):
            task = asyncio.ensure_future(rig.target.take(cancel, rig.publication("email")))
            await rig.clock.advance(1)
        with pytest.raises(Refused) as caught:
            await task
        assert caught.value.status == 409
        await rig.clock.advance(100)
        assert len(rig.world.truth) == 0


async def test_a_send_goes_to_one_address() -> None:
    """A send mails the one recipient, folds its plus-tag, and tells the provider's message id."""
    rig = Rig()
    async with entered(rig):
        identity = await rig.publish("email", scheduled_after=600)
        recipient = rig.channels["email-2"].address.replace("@", "+tag@")
        step = Step("probe", 2, StepAction.SEND, recipient, identity)
        task = asyncio.ensure_future(rig.target.take(step, rig.publication("email")))
        await rig.clock.advance(1)
        assert [key.kind for key in (await task).learned] == [KeyKind.MESSAGE_ID]
        assert [one.address for one in rig.world.truth] == [rig.channels["email-2"].address]


async def test_a_message_may_come_before_the_answer() -> None:
    """The workers do not wait for the API's answer."""
    rig = Rig("{api: {latency: 5s}, channels: {email: {latency: 1s}}}")
    async with entered(rig):
        step = Step("probe", 1, StepAction.CREATE)
        task = asyncio.ensure_future(rig.target.take(step, rig.publication("email")))
        await rig.clock.advance(2)
        assert len(rig.world.truth) == 1
        assert not task.done()
        await rig.clock.advance(10)
        await task


async def test_an_unknown_target_channel_is_refused() -> None:
    """An order for a channel that does not exist is refused, and nothing comes of it."""
    rig = Rig()
    async with entered(rig):
        publication = Publication("p", "s", PublicationKind.ALERT, (CONTENT_ID,), CONTENT_ID, "")
        task = asyncio.ensure_future(rig.target.take(Step("p", 1, StepAction.CREATE), publication))
        await rig.clock.advance(1)
        with pytest.raises(Refused, match="does not exist"):
            await task
        assert not rig.world.world.records


async def test_a_day_passes_quickly_and_nothing_is_lost() -> None:
    """Twenty-four simulated hours of probes each minute are all delivered once, in fair weather."""
    rig = Rig()
    observer = rig.observer("slack")
    async with entered(rig, observer):
        cursor = (await observer.read(None)).cursor
        for _ in range(24 * 60):
            task = asyncio.ensure_future(
                rig.target.take(Step("p", 1, StepAction.CREATE), rig.publication("slack", "discord"))
            )
            await rig.clock.advance(60)
            await task
        assert len(rig.world.truth) == 2 * 24 * 60
        messages = (await observer.read(cursor)).messages
        assert len({message.id for message in messages}) == 24 * 60
        assert all(earlier.id != later.id for earlier, later in pairwise(messages))
