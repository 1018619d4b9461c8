"""Complete reads of Slack, and everything that may stand in their way, over real sockets."""

from __future__ import annotations

import json
import traceback
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError

from prober.model import How, Wake
from prober.observers.slack import SlackSettings
from prober.sandbox.faults import RequestFault
from prober.sandbox.slack import SlackServer
from prober.sandbox.slack_workspace import Limit
from tests.conformance.slack_world import (
    APP,
    BOT,
    CLOCK,
    PRIVATE,
    PUBLIC,
    Weather,
    listening,
    observer_of,
    slack_server,
    unreadable,
    wake_until,
)


@pytest.fixture
def weather() -> Weather:
    return Weather()


@pytest.fixture
async def server(weather: Weather) -> AsyncIterator[SlackServer]:
    async with slack_server(weather) as started:
        started.workspace.limits = {}
        yield started


async def test_reading_without_a_cursor_begins_now_with_a_control_message(
    server: SlackServer, weather: Weather
) -> None:
    """The first read returns nothing old, begins a new since after its control message, and bounds Slack's clock."""
    weather.offset = 30.0
    await server.post(PUBLIC, "old")
    async with observer_of(server) as observer:
        batch = await observer.read(None)
    assert batch.messages == ()
    assert {reading.continues for reading in batch.readings.values()} == {False}
    assert {control.channel for control in batch.controls} == {"slack", "slack-2"}
    for control in batch.controls:
        assert control.sent.wall - 1 <= control.stamp.at - 30.0 <= control.answered.wall + 1e-5
        assert control.stamp.at == int(control.stamp.at)
        assert batch.readings[control.channel].started.since(control.answered) >= 0


async def test_a_read_returns_everything_after_its_cursor_once(server: SlackServer) -> None:
    """Two channels, more than two pages: each message once, in order, and none again under the new cursor."""
    async with observer_of(server) as observer:
        first = await observer.read(None)
        posted = [await server.post(PUBLIC, f"message {number}") for number in range(450)]
        private = await server.post(PRIVATE, "quiet", metadata={"event_type": "x", "event_payload": {"key": "value"}})
        before = CLOCK.now()
        batch = await observer.read(first.cursor)
        again = await observer.read(batch.cursor)
    assert [message.id for message in batch.messages if message.channel == "slack"] == posted
    assert [message.id for message in batch.messages if message.channel == "slack-2"] == [private]
    assert "value" in batch.messages[-1].texts
    assert again.messages == ()
    for reading in batch.readings.values():
        assert reading.continues
        assert reading.started.since(before) >= 0
        assert reading.ended.since(reading.started) >= 0


async def test_a_cursor_resumes_in_a_new_instance(server: SlackServer) -> None:
    """What came while nobody watched is history, what comes later is found by poll."""
    async with observer_of(server) as observer:
        cursor = (await observer.read(None)).cursor
    away = await server.post(PUBLIC, "while away")
    async with observer_of(server, mode="web", poll="5s") as observer:
        batch = await observer.read(cursor)
        later = await server.post(PUBLIC, "later")
        following = await observer.read(batch.cursor)
    assert [(message.id, message.how) for message in batch.messages] == [(away, How.HISTORY)]
    assert all(reading.continues for reading in batch.readings.values())
    assert [(message.id, message.how) for message in following.messages] == [(later, How.POLL)]


async def test_a_lost_anchor_begins_anew(server: SlackServer) -> None:
    """When retention took the anchor the read says that it does not continue, and still shows what is there."""
    async with listening(server) as (observer, cursor):
        server.prune(PUBLIC)
        ts = await server.post(PUBLIC, "after the purge")
        batch = await observer.read(cursor)
        assert not batch.readings["slack"].continues
        assert batch.readings["slack-2"].continues
        assert [control.channel for control in batch.controls] == ["slack"]
        assert [message.id for message in batch.messages] == [ts]
        assert (await observer.read(batch.cursor)).readings["slack"].continues


async def test_another_workspace_behind_the_same_names_begins_anew(server: SlackServer, weather: Weather) -> None:
    """A cursor of one world never continues in another."""
    async with observer_of(server) as observer:
        cursor = (await observer.read(None)).cursor
    async with slack_server(weather, "w2") as other, observer_of(other) as observer:
        batch = await observer.read(cursor)
    assert not any(reading.continues for reading in batch.readings.values())
    assert json.loads(batch.cursor)[PUBLIC]["team"] != json.loads(cursor)[PUBLIC]["team"]
    async with observer_of(server) as observer:
        renamed = cursor.replace(server.workspace.team_id, "T0OTHER")
        assert not any(reading.continues for reading in (await observer.read(renamed)).readings.values())


BLINDNESS: dict[str, tuple[Callable[[SlackServer, Weather], object], Callable[[SlackServer, Weather], object], str]] = {
    "refused": (lambda s, w: setattr(w, "logins", False), lambda s, w: setattr(w, "logins", True), "auth"),
    "private scope": (
        lambda s, w: s.revoke_scope("groups:history"),
        lambda s, w: s.grant_scope("groups:history"),
        "missing_scope",
    ),
    "left private": (lambda s, w: s.leave(PRIVATE), lambda s, w: s.join(PRIVATE), "not_in_channel"),
    "reset": (
        lambda s, w: w.requests.update({"conversations.history": RequestFault(status=0)}),
        lambda s, w: w.requests.clear(),
        "unreachable",
    ),
}
"""What the suite for all observers does not put in the way of its one channel."""


@pytest.mark.parametrize("name", BLINDNESS)
async def test_blindness_is_told_and_what_it_hid_is_found_afterwards(
    server: SlackServer, weather: Weather, name: str
) -> None:
    """Whatever takes our sight away is Unreadable with its reason, never silence; sight's return shows the rest."""
    blind, heal, reason = BLINDNESS[name]
    async with listening(server) as (observer, cursor):
        weather.late = None
        blind(server, weather)
        hidden = [await server.post(PUBLIC, "unseen"), await server.post(PRIVATE, "unseen")]
        told = await unreadable(observer, cursor)
        assert told.reason == reason
        assert told.detail
        heal(server, weather)
        batch = await observer.read(cursor)
    assert [message.id for message in batch.messages] == hidden
    assert any(message.how is How.HISTORY for message in batch.messages)
    assert all(reading.continues for reading in batch.readings.values())


async def test_a_lost_anchor_without_the_right_to_post_is_unreadable(server: SlackServer) -> None:
    """Where neither the anchor nor a control message proves sight, the read says which scope is missing."""
    async with listening(server) as (observer, cursor):
        server.prune(PUBLIC)
        server.revoke_scope("chat:write")
        told = await unreadable(observer, cursor)
    assert told.reason == "missing_scope"
    assert "chat:write" in told.detail


async def test_content_withheld_is_unreadable(server: SlackServer) -> None:
    """An ordinary message of another author without any content is no reading."""
    async with listening(server) as (observer, cursor):
        await server.post(PUBLIC, "", subtype="")
        await wake_until(observer, lambda wake: wake.unread)
        assert (await unreadable(observer, cursor)).reason == "missing_scope"


async def test_a_long_rate_limit_is_told_and_respected(server: SlackServer, weather: Weather) -> None:
    """After a Retry-After of a minute no further call leaves within it."""
    async with observer_of(server, mode="web", poll=5) as observer:
        cursor = (await observer.read(None)).cursor
        weather.requests["conversations.history"] = RequestFault(status=429, retry_after=60)
        assert (await unreadable(observer, cursor)).reason == "rate_limited"
        weather.requests.clear()
        calls = server.requests["conversations.history"]
        assert (await unreadable(observer, cursor)).reason == "rate_limited"
        assert server.requests["conversations.history"] == calls


async def test_a_short_rate_limit_is_waited_for(server: SlackServer) -> None:
    """A Retry-After of a second delays the read and does not fail it."""
    async with observer_of(server, mode="web", poll=5) as observer:
        cursor = (await observer.read(None)).cursor
        server.workspace.limits = {"conversations.history": Limit(per_minute=60, burst=1)}
        batch = await observer.read(cursor)
    assert batch.readings["slack-2"].ended.since(batch.readings["slack"].started) >= 0.9


async def test_what_is_not_a_first_sighting_is_ignored(server: SlackServer) -> None:
    """Replies, edits, notices and our own control messages are no messages; a broadcast is one, and says so."""
    async with listening(server) as (observer, cursor):
        root = await server.post(PUBLIC, "root")
        await server.post(PUBLIC, "reply", subtype="", thread_ts=root)
        aside = await server.post(PUBLIC, "broadcast", subtype="thread_broadcast", thread_ts=root)
        await server.post(PUBLIC, "joined", subtype="channel_join")
        control = await observer.control("slack")
        last = await server.post(PUBLIC, "last")
        heard: list[tuple[str, bool]] = []
        while (last, False) not in heard:
            wake = await wake_until(observer, lambda wake: bool(wake.pushed))
            heard += [(message.id, message.broadcast) for message in wake.pushed]
        batch = await observer.read(cursor)
    assert heard == [(root, False), (aside, True), (last, False)]
    assert [(message.id, message.broadcast) for message in batch.messages] == heard
    assert control.channel == "slack"


async def test_the_web_api_alone_opens_no_socket(server: SlackServer) -> None:
    """In web mode a wait ends at its until, and Socket Mode is never asked for."""
    async with observer_of(server, app_token=None, poll="200ms") as observer:
        until = CLOCK.now().plus(0.05)
        assert await observer.wait(until) == Wake()
        assert CLOCK.now().since(until) >= 0
        assert observer.poll == 0.2
        await observer.read(None)
    assert server.requests["apps.connections.open"] == 0


async def test_secrets_stay_out_of_every_error(server: SlackServer, weather: Weather) -> None:
    """No token stands in a repr, an error or a traceback, whichever way the call failed."""
    observer = observer_of(server)
    texts = [repr(observer._settings), repr(observer)]
    faults = [RequestFault(garbage=True), RequestFault(status=500), RequestFault(status=0), RequestFault(status=404)]
    async with observer:
        for fault in faults:
            weather.requests["auth.test"] = fault
            told = await unreadable(observer, None)
            texts += ["".join(traceback.format_exception(told)), repr(told.__cause__), repr(told.__context__)]
    with pytest.raises(ValidationError) as wrong:
        SlackSettings.model_validate({"bot_token": BOT, "app_token": None, "mode": "socket"})
    texts.append(str(wrong.value))
    assert "canary" not in "".join(texts)


async def test_a_token_is_not_told_by_a_server_that_redirects_for_ever(server: SlackServer) -> None:
    """The library's error would show the request's headers: it is not kept as the cause."""

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(request.path)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", redirect)
    async with TestServer(app) as elsewhere, observer_of(server, api_url=str(elsewhere.make_url("/"))) as observer:
        told = await unreadable(observer, None)
    assert told.reason == "protocol"
    assert "canary" not in repr(told.__cause__) + repr(told.__context__)


@pytest.mark.parametrize(
    "wrong",
    [{"app_token": None}, {"tier": "free"}, {"poll": "5 parsecs"}, {"pol": 1}, {"mode": "rtm"}, {"bot_token": None}],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    """What could never see, or is not understood, is refused before anything starts."""
    with pytest.raises(ValidationError):
        SlackSettings.model_validate({"bot_token": BOT, "app_token": APP, **wrong})
