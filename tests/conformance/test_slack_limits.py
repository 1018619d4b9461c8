"""Slack without sockets and within its tier: fewer, smaller reads that still miss nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from prober.clock import Instant, SystemClock
from prober.model import Batch, Channel, How
from prober.observers.slack import SlackObserver, SlackSettings
from prober.sandbox.faults import RequestFault
from prober.sandbox.slack import SlackServer
from prober.sandbox.slack_workspace import Limit
from tests.conformance.slack_world import (
    APP,
    BOT,
    CHANNELS,
    CLOCK,
    PUBLIC,
    Weather,
    listening,
    observer_of,
    slack_server,
    unreadable,
    wake_until,
)
from tests.conformance.test_slack_pushes import steal


class Hurried(SystemClock):
    """The machine's clock, on which pauses are a hundred times shorter."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 100)


@pytest.fixture
def weather() -> Weather:
    return Weather()


@pytest.fixture
async def server(weather: Weather) -> AsyncIterator[SlackServer]:
    async with slack_server(weather) as started:
        started.workspace.limits = {}
        yield started


def distributed(server: SlackServer, channels: tuple[Channel, ...] = CHANNELS[:1]) -> SlackObserver:
    given = {"bot_token": BOT, "mode": "web", "tier": "distributed", "api_url": server.api_url}
    return SlackObserver("slack", SlackSettings.model_validate(given), channels, Hurried())


@pytest.mark.parametrize(
    ("tier", "channels", "reads", "poll"),
    [
        ("internal", 1, 45.0, 5.0),
        ("internal", 2, 22.5, 5.0),
        ("distributed", 1, 1.0, 60.0),
        ("distributed", 2, 1.0, 60.0),
    ],
)
def test_reads_follow_from_the_tier(tier: str, channels: int, reads: float, poll: float) -> None:
    """How often an observer may be read, and its period without pushes, are facts of the app's tier."""
    settings = SlackSettings.model_validate({"bot_token": BOT, "mode": "web", "tier": tier})
    observer = SlackObserver("slack", settings, CHANNELS[:channels], CLOCK)
    assert (observer.reads_per_minute, observer.poll) == (reads, poll)
    given = SlackSettings.model_validate({"bot_token": BOT, "app_token": APP, "tier": tier})
    assert SlackObserver("slack", given, CHANNELS, CLOCK).poll is None


async def test_the_web_mode_needs_no_app_token_and_opens_no_socket(server: SlackServer) -> None:
    """Everything is read by the Web API alone, even where an app token is at hand."""
    for token in (None, APP):
        async with observer_of(server, mode="web", app_token=token) as observer:
            first = await observer.read(None)
            ts = await server.post(PUBLIC, "hello")
            batch = await observer.read(first.cursor)
            assert [(message.id, message.how) for message in batch.messages] == [(ts, How.POLL)]
            assert observer.push_trouble == ""
    assert server.requests["apps.connections.open"] == 0
    assert server.connections == 0


async def test_one_call_of_fifteen_messages_at_a_time_misses_nothing(server: SlackServer) -> None:
    """A backlog is read over several reads, and over a restart; coverage moves only once its last page was read."""
    async with distributed(server) as observer:
        first = await observer.read(None)
    posted = [await server.post(PUBLIC, f"number {number}") for number in range(40)]
    server.requests.clear()
    seen: set[str] = set()
    cursor, batches = first.cursor, list[Batch]()
    while not batches or not batches[-1].readings:
        async with distributed(server) as observer:  # a short-lived process each time
            batches.append(await observer.read(cursor))
            assert server.requests["conversations.history"] == len(batches)
            cursor = batches[-1].cursor
            seen |= {message.id for message in batches[-1].messages}
    assert len(batches) == 3  # 40 and the anchor, 15 at a time
    assert seen == set(posted)
    begun = Instant(*json.loads(batches[0].cursor)[PUBLIC]["pending"]["begun"])
    assert batches[-1].readings["slack"].started == begun, "what came after the first page is not covered yet"
    assert batches[-1].readings["slack"].continues
    later = await server.post(PUBLIC, "later")
    async with distributed(server) as observer:
        batch = await observer.read(cursor)
    assert [message.id for message in batch.messages] == [later]


async def test_more_channels_than_calls_take_turns(server: SlackServer) -> None:
    """With one call a minute each read serves the channel that has waited longest; the other keeps its place."""
    async with distributed(server, CHANNELS) as observer:
        first = await observer.read(None)
        second = await observer.read(first.cursor)
        third = await observer.read(second.cursor)
    assert [sorted(batch.readings) for batch in (first, second, third)] == [["slack"], ["slack-2"], ["slack"]]
    assert [batch.blind for batch in (first, second, third)] == [{}, {}, {}]
    assert third.readings["slack"].continues


async def test_a_lost_page_begins_the_backlog_anew(server: SlackServer) -> None:
    """When Slack has forgotten where we had come to, the next read starts from the anchor again."""
    async with distributed(server) as observer:
        first = await observer.read(None)
        posted = [await server.post(PUBLIC, f"number {number}") for number in range(20)]
        half = await observer.read(first.cursor)
        spoiled = json.loads(half.cursor)
        spoiled[PUBLIC]["pending"]["position"] = "bm9uc2Vuc2U="
        other = await server.post(PUBLIC, "after it")
    async with distributed(server, CHANNELS) as observer:
        told = await observer.read(json.dumps(spoiled))
        assert told.blind["slack"].reason == "protocol"
        assert "pending" not in json.loads(told.cursor)[PUBLIC]
        seen: set[str] = set()
        batch = told
        while "slack" not in batch.readings:
            batch = await observer.read(batch.cursor)
            seen |= {message.id for message in batch.messages if message.channel == "slack"}
    assert seen == {*posted, other}


async def test_a_limit_that_strikes_between_pages_keeps_what_was_read(server: SlackServer) -> None:
    """Where Slack asks to wait in the middle of a backlog, the rest is read later and nothing is read twice."""
    async with observer_of(server, mode="web") as observer:
        first = await observer.read(None)
        posted = [await server.post(PUBLIC, f"number {number}") for number in range(250)]
        server.workspace.limits = {"conversations.history": Limit(per_minute=1, burst=1)}
        half = await observer.read(first.cursor)
        assert "slack" not in half.readings
        assert {message.id for message in half.messages} == set(posted[50:])
        assert (await unreadable(observer, half.cursor)).reason == "rate_limited"
        server.workspace.limits = {}
    async with observer_of(server, mode="web") as observer:
        rest = await observer.read(half.cursor)
    assert {message.id for message in rest.messages if message.channel == "slack"} == set(posted[:50])
    assert rest.readings["slack"].continues


async def test_a_repeated_push_is_an_upper_bound_and_asks_for_a_read(server: SlackServer) -> None:
    """What comes by a retry is on record at once, as history, and the history is asked as well."""
    server.ack_timeout, server.retry_pauses = 0.05, (0.0, 0.1, 0.1, 0.1, 0.1)
    async with listening(server) as (observer, cursor), AsyncExitStack() as stack:
        thief = await steal(server, stack)
        posted = [await server.post(PUBLIC, "one"), await server.post(PUBLIC, "two")]
        found: dict[str, How] = {}
        unread = False
        async with asyncio.timeout(60):
            while found.keys() != set(posted) or not unread:
                wake = await observer.wait(CLOCK.now().plus(5))
                unread = unread or wake.unread
                found |= {message.id: message.how for message in wake.pushed}
        await thief.close()
        batch = await observer.read(cursor)
    assert sorted(found.values()) == [How.HISTORY, How.PUSH]
    assert {message.id: message.how for message in batch.messages} == found


async def test_a_consumer_that_comes_later_is_noticed_by_what_is_never_pushed(
    server: SlackServer, weather: Weather
) -> None:
    """Slack's hello told of nobody; reads that show what no push brought do."""
    given = {"bot_token": BOT, "app_token": APP, "api_url": server.api_url}

    class Leaping(SystemClock):
        ahead = 0.0

        def now(self) -> Instant:
            return super().now().plus(self.ahead)

    clock = Leaping()
    async with SlackObserver("slack", SlackSettings.model_validate(given), CHANNELS, clock) as observer:
        await server.connected()
        await wake_until(observer, lambda wake: wake.unread)
        cursor = (await observer.read(None)).cursor
        assert observer.push_trouble == ""
        weather.late = None  # somebody else has them
        for number in range(4):
            await server.post(PUBLIC, f"number {number}")
        cursor = (await observer.read(cursor)).cursor
        assert observer.push_trouble == ""
        clock.ahead = 11.0
        assert "never pushed" in observer.push_trouble


async def test_a_control_message_is_seen_by_its_push_and_by_a_read(server: SlackServer, weather: Weather) -> None:
    """Whatever shows it first, its posting and its showing are told under one id."""
    async with listening(server) as (observer, cursor):
        posted = await observer.control("slack")
        seen = posted.shown
        if seen is None:
            wake = await wake_until(observer, lambda wake: posted.id in {each.id for each in wake.controls_seen})
            (seen,) = [each for each in wake.controls_seen if each.id == posted.id]
        assert (seen.channel, seen.id, seen.how) == ("slack", posted.id, How.PUSH)
        assert seen.seen.since(posted.sent) >= 0
        weather.late = None
        unheard = await observer.control("slack")
        assert unheard.shown is None
        batch = await observer.read(cursor)
        assert [each.id for each in batch.controls_seen] == [posted.id, unheard.id]
        assert batch.messages == ()
        assert (await observer.read(batch.cursor)).controls_seen == ()


async def test_a_read_that_posts_a_control_message_also_sees_it(server: SlackServer) -> None:
    """The first read gives one complete measure of Slack's own delay for each channel."""
    async with observer_of(server, mode="web") as observer:
        batch = await observer.read(None)
    assert [seen.id for seen in batch.controls_seen] == [control.id for control in batch.controls]
    for posted, seen in zip(batch.controls, batch.controls_seen, strict=True):
        assert (seen.channel, seen.how) == (posted.channel, How.POLL)
        assert seen.seen.since(posted.answered) >= 0


async def test_a_history_that_does_not_show_it_posts_no_second_control_message(
    server: SlackServer, weather: Weather
) -> None:
    """While the one that was posted is not shown, each further read looks for that one."""
    async with distributed(server) as observer:
        weather.requests["conversations.history"] = RequestFault(status=503)
        for _ in range(3):
            assert (await unreadable(observer, None)).reason == "unreachable"
        weather.requests.clear()
        await observer.read(None)
    assert server.requests["chat.postMessage"] == 1
