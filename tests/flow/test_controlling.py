"""Control messages in a process that lives long: every twelve minutes, on record, and told beside what they explain."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sqlalchemy import Connection, select

from prober import clean_up
from prober.clean_up import DAY, Lying, Removal
from prober.clock import Instant
from prober.controlling import CONTROL_EVERY, Troubles, control
from prober.errors import Unreadable
from prober.ledger import reading
from prober.ledger.clocks import clock_bounds
from prober.ledger.controls import ControlFact
from prober.ledger.ledger import Ledger
from prober.ledger.tables import controls, observers, sightings
from prober.ledger.windows import Window
from prober.model import Batch, Control, ControlSeen, How, Message, Stamp, Wake
from prober.report.evidence import timeline
from prober.report.gathering import overview
from prober.report.lines import plain
from prober.report.overview import Overview
from prober.report.overview_json import overview_to_json
from prober.report.overview_markdown import overview_markdown, plain_markdown
from prober.report.overview_text import render_overview
from prober.report.page import overview_page
from prober.report.provider_share import control_sentence, provider_facts, provider_shares, share_sentence
from prober.report.schema import result_schema
from prober.report.timeline import Timeline, render_timeline, timeline_to_json
from prober.report.values import TargetName
from prober.sandbox.inprocess import WorldObserver
from prober.sweep import LOOK_AGAIN, Course, sweep
from tests.flow.rig import Life, Rig, total, verdicts

DELAY = 8.0


class Discord(WorldObserver):
    """A provider that shows our control messages, by a push, DELAY seconds after it took them."""

    refuses = False

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.waiting: list[ControlSeen] = []

    async def control(self, channel: str) -> Control:
        if self.refuses:
            raise Unreadable("missing_access", "grant the bot SEND_MESSAGES in that channel")
        now = self._clock.now()
        name = f"control-{now.boottime}"
        self.waiting.append(ControlSeen(channel, name, now.plus(DELAY), How.PUSH))
        return Control(channel, now, now, Stamp(now.wall + 3.0, 0.001, "discord"), name)

    async def wait(self, until: Instant) -> Wake:
        now = self._clock.now()
        due = [seen for seen in self.waiting if now.since(seen.seen) >= 0]
        self.waiting = [seen for seen in self.waiting if seen not in due]
        if due:
            return Wake(controls_seen=tuple(due))
        return await super().wait(min([until, *(seen.seen for seen in self.waiting)], key=lambda at: at.boottime))


async def in_loop(rig: Rig, asked: Any) -> Any:
    task = asyncio.ensure_future(asked)
    await rig.clock.advance(0)
    return await task


async def shown(rig: Rig, life: Life, name: str) -> Timeline:
    """What ``prober show`` is given."""
    read = life.flow.ledger.read
    (record,) = await in_loop(rig, read(reading.probe_records, [name]))
    accounts = await in_loop(rig, read(reading.observer_rows, record.probe.location))
    return timeline(record, (), accounts, await in_loop(rig, read(provider_facts, record)))


async def rows(rig: Rig, life: Life, query: Any) -> Sequence[Any]:
    return list(await in_loop(rig, life.flow.ledger.read(lambda conn: conn.execute(query).all())))


def report_of(conn: Connection, now: float) -> Overview:
    """What ``prober report`` says of the last day."""
    return overview(conn, Window(now - DAY, now), (), TargetName("", True), now)


def assert_reported(found: Overview, sentence: str) -> None:
    """Every form of the report has the sentence about Discord, and the JSON is as its schema says."""
    (share,) = found.providers
    assert (share.channel, share_sentence(share)) == ("discord", sentence)
    text = "\n".join(plain(line) for line in render_overview(found, 300))
    assert f"discord  {sentence}" in text
    assert sentence in overview_page(found)
    assert f"- discord: {plain_markdown(sentence)}" in overview_markdown(found)
    told = overview_to_json(found)
    jsonschema.validate(told, result_schema())
    assert told["report"]["providers"][0]["sentence"] == sentence


@pytest.mark.parametrize(
    ("uppers", "how", "lower", "said"),
    [
        (
            (0.1, 0.2, 1.9),
            "push",
            0.0,
            "Discord itself was not slow: control messages of ours took 1.900 s at the most",
        ),
        ((0.1, 5.0), "push", 0.0, "Discord itself was slow: 1 of 2 control messages of ours took 2 s or longer ("),
        ((0.1, None), "lost", 600.0, "1 of which it lost (median 0.100 s, p95 lost, max lost)"),
        ((0.1, 30.0), "poll", 0.0, "whether Discord itself was slow is not known: reads came too seldom to tell"),
        ((0.1, 30.0), "poll", 29.0, "Discord itself was slow: 1 of 2 control messages of ours took 2 s or longer ("),
    ],
)
def test_what_control_messages_of_a_window_say(
    uppers: Sequence[float | None], how: str, lower: float, said: str
) -> None:
    """A provider is slow only by what certainly took long; other channels' messages say nothing of it."""
    quick = [ControlFact("discord", "discord", 0.0, 0.0, upper, "push") for upper in uppers[:-1]]
    last = ControlFact("discord", "discord", 1.0, lower, uppers[-1], how)
    elsewhere = ControlFact("slack", "slack", 2.0, 0.0, 9.0, "push")
    (share,) = provider_shares([*quick, last, elsewhere], {"discord", "email"})
    assert said in share_sentence(share)


async def test_a_slow_provider_is_named_beside_the_delivery_that_it_explains(tmp_path: Path) -> None:
    """An 8 s control message before a 20 s delivery: one plain sentence under it, in the text and in the JSON."""
    rig = Rig(tmp_path, "channels: {discord: {latency: 20s}, email: {latency: 20s}}")
    rig.observer = Discord
    async with rig.world_turning(), rig.life(observers=("discord",)) as life:
        await rig.clock.advance(12)
        (name,) = await life.launch(1)
        await rig.clock.advance(30)
        found = await shown(rig, life, name)
        whole = await in_loop(rig, life.flow.ledger.read(report_of, rig.clock.now().wall))
    counted = "1 of 1 control messages of ours took 2 s or longer (median 8.000 s, p95 8.000 s, max 8.000 s)"
    assert_reported(whole, f"Discord itself was slow: {counted}")
    assert [(note.channel, note.text) for note in found.notes] == [
        (
            "discord",
            "Discord itself was slow: a control message of ours, posted 11.00 s before the request, took 8.000 s",
        )
    ]
    lines = [plain(line) for line in render_timeline(found, 200)]
    (place,) = [number for number, line in enumerate(lines) if "Discord itself was slow" in line]
    assert "  discord  " in lines[place - 1]
    assert timeline_to_json(found, TargetName("", True))["notes"][0]["channel"] == "discord"
    (posted,) = [event for event in found.events if event.what == "control posted"]
    assert posted.detail == "shown after 8.000 s, by push"


async def test_control_messages_come_every_twelve_minutes_whatever_is_probed(tmp_path: Path) -> None:
    """An hour has five of them, in the histogram and on the clock's record, over a restart as well."""
    rig = Rig(tmp_path)
    rig.observer = Discord
    async with rig.world_turning():
        async with rig.life(observers=("discord",)) as life:
            for _ in range(3):
                await life.launch(2)
                await rig.clock.advance(600)
            now = rig.clock.now()
            assert len(await rows(rig, life, select(controls))) == 3
        async with rig.life(observers=("discord",)) as life:
            await rig.clock.advance(1800)
            posted = await rows(rig, life, select(controls).order_by(controls.c.sent_wall))
            gaps = [later.sent_boottime - former.sent_boottime for former, later in itertools.pairwise(posted)]
            assert len(posted) == 5
            assert gaps == [pytest.approx(CONTROL_EVERY, abs=2)] * 4
            read = life.flow.ledger.read
            assert await in_loop(rig, read(total, "control_latency_seconds_count", channel="discord")) == 5
            (bound,) = await in_loop(rig, read(clock_bounds, "here", rig.clock.now()))
            assert abs(bound.offset - 3.0) <= bound.uncertainty + 1e-6
            assert rig.clock.now().since(now) == pytest.approx(1800, abs=1)


async def test_a_refused_control_message_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where we may not post the probes go on, and the next turn tries again."""
    monkeypatch.setattr(Discord, "refuses", True)
    rig = Rig(tmp_path)
    rig.observer = Discord
    async with rig.world_turning(), rig.life(observers=("discord",)) as life:
        await rig.clock.advance(CONTROL_EVERY - 5)
        assert await rows(rig, life, select(controls)) == []
        monkeypatch.setattr(Discord, "refuses", False)
        await rig.clock.advance(20)
        assert len(await rows(rig, life, select(controls))) == 1
        assert not life.loops.internal_errors


class Broadcasting(WorldObserver):
    """A Slack on which whatever comes is the broadcast of a reply in a thread."""

    def _message(self, *args: Any, **more: Any) -> Message:
        return replace(super()._message(*args, **more), broadcast=True)


async def test_a_thread_broadcast_is_on_record_and_never_a_first_sighting(tmp_path: Path) -> None:
    """It carries the probe's key, stands in the evidence, counts as no copy, and the delivery is lost all the same."""
    rig = Rig(tmp_path)
    rig.observer = Broadcasting
    async with rig.world_turning(), rig.life(observers=("slack",)) as life:
        await life.launch(1)
        await rig.clock.advance(125)
        (probe,) = await rig.results(life)
        assert verdicts(probe)["slack"] == ("overdue", "lost")
        (row,) = await rows(rig, life, select(sightings))
        assert (row.role, row.stray) == ("broadcast", None)
        assert row.delivery_id > 0
        assert next(each for each in probe.deliveries if each.channel == "slack").copies == 0


class Troubled(WorldObserver):
    """An account whose pushes somebody else takes."""

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        self.push_trouble = "3 of the last 6 messages were never pushed"
        return await super().read(cursor, since)


async def test_trouble_with_pushes_is_on_record_and_said(tmp_path: Path) -> None:
    """What is found by reads alone says beside it why nothing was pushed."""
    rig = Rig(tmp_path, "channels: {slack: {pushes: {drop: 1.0}}}", poll=5.0)
    rig.observer = Troubled
    async with rig.world_turning(), rig.life(observers=("slack",)) as life:
        (name,) = await life.launch(1)
        await rig.clock.advance(60)
        (account,) = await rows(rig, life, select(observers))
        assert account.trouble == "3 of the last 6 messages were never pushed"
        notes = (await shown(rig, life, name)).notes
        assert [note.text for note in notes if note.channel == "slack"] == [
            "pushes do not flow as they should: 3 of the last 6 messages were never pushed"
        ]


class Seldom(WorldObserver):
    """An account that may be read once a minute."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.reads_per_minute = 1.0


async def test_bounds_that_a_providers_limit_widens_say_so(tmp_path: Path) -> None:
    """With a read a minute a delivery of half a minute is between two reads, and the reason stands beside it."""
    rig = Rig(tmp_path, "channels: {slack: {pushes: {drop: 1.0}, latency: 2s}}", poll=60.0)
    rig.observer = Seldom
    async with rig.world_turning(), rig.life(observers=("slack",)) as life:
        await rig.clock.advance(70)
        (name,) = await life.launch(1)
        await rig.clock.advance(130)
        found = await shown(rig, life, name)
        slack = next(each for each in found.probe.deliveries if each.channel == "slack")
        assert slack.latency is not None
        assert slack.latency.lower <= 2.0 <= slack.latency.upper
        assert slack.latency.width > 10
        (note,) = [note.text for note in found.notes if note.channel == "slack"]
        assert note == "its provider lets it be read once a minute: bounds are up to 60 s wide"


@pytest.mark.parametrize(
    ("lower", "upper", "how", "said"),
    [
        (0.0, 8.25, "push", "was slow: a control message of ours, posted 4.000 s before the request, took 8.250 s"),
        (5.0, 9.0, "poll", "took at least 5.000 s"),
        (0.0, 0.25, "push", "Slack itself was not slow"),
        (0.0, 9.0, "poll", "whether Slack itself was slow is not known"),
        (600.0, None, "lost", "Slack itself lost messages"),
    ],
)  # fmt: skip
def test_a_sentence_claims_no_more_than_is_known(lower: float, upper: float | None, how: str, said: str) -> None:
    """A read proves slowness only by its lower bound, and a push by its receipt."""
    assert said in control_sentence(ControlFact("slack", "slack", 996.0, lower, upper, how), 1000.0)


def test_a_brief_loss_of_pushes_is_not_worth_a_word() -> None:
    """Only what stands for two looks is said, once, and its end as well."""
    troubles = Troubles()
    said = [troubles.changed("slack", why) for why in ("", "lost", "", "lost", "lost", "lost", "", "")]
    assert said == [False, False, False, False, True, False, True, False]


class Keeping(WorldObserver):
    """A provider that keeps what we post; each read rests on the newest message of the channel."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.kept: dict[str, Message] = {}
        self.posts = 0

    async def control(self, channel: str) -> Control:
        now, name = self._clock.now(), f"control-{self.posts}"
        self.posts += 1
        stamp = Stamp(now.wall, 0.001, "discord")
        self.kept[name] = Message(channel, name, name, ("control",), "", (), now, How.HISTORY, stamp=stamp)
        return Control(channel, now, now, stamp, name)

    async def lying(self, position: str, before: Instant) -> Lying:
        old = tuple(message for message in self.kept.values() if message.seen.since(before) <= 0)
        return Lying((), old, "")

    async def remove(self, channel: str, message_ids: Sequence[str]) -> dict[str, Removal]:
        return {name: Removal.REMOVED if self.kept.pop(name, None) else Removal.GONE for name in message_ids}

    def rests_on(self, cursor: str | None, channel: str, message_id: str) -> bool:
        return message_id == list(self.kept)[-1]


async def test_control_messages_never_pile_up(tmp_path: Path) -> None:
    """Over two days, a restart of the prober among them, no more lie there than half a day's worth; when posting ends,
    all go but the newest, on which the reads rest, and that goes once there is a newer one."""
    rig = Rig(tmp_path)
    rig.observer = Keeping
    at_once = int(DAY / 2 / CONTROL_EVERY)
    hourly = int(LOOK_AGAIN / CONTROL_EVERY)
    most = 0
    async with rig.world_turning(), rig.life(observers=("discord",)) as life:
        ((watch, observer),) = [(watch, watch.observer) for watch in life.flow.watches]
        assert isinstance(observer, Keeping)
    async with rig.world_turning(), Ledger(rig.place) as ledger:
        rig.clock.watch(ledger.busy)
        flow = replace(life.flow, ledger=ledger)
        course = Course(clean_up.Keeping(leftover=DAY / 2))
        for turn in range(2 * 120):
            if turn == 120:
                course = Course(clean_up.Keeping(leftover=DAY / 2))  # another life of the prober: it remembers nothing
            assert (await in_loop(rig, control(flow, watch))).posted == 1
            await in_loop(rig, sweep(flow, course))
            most = max(most, len(observer.kept))
            await rig.clock.advance(CONTROL_EVERY)
        assert observer.posts == 240
        assert at_once <= most <= at_once + 2 * hourly
        await rig.clock.advance(3 * DAY)
        for _ in range(10):
            await in_loop(rig, sweep(flow, course))
            await rig.clock.advance(60)
        assert list(observer.kept) == ["control-239"]
        await in_loop(rig, control(flow, watch))
        for _ in range(3):
            await in_loop(rig, sweep(flow, course))
            await rig.clock.advance(60)
        assert list(observer.kept) == ["control-240"]
        assert await in_loop(rig, ledger.read(total, "clean_ups_total", kind="control", result="removed")) == 240
