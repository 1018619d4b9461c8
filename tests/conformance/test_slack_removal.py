"""Removing messages from Slack: each token only its own, and the prober's own control messages without any right."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from prober.clean_up import Removal
from prober.errors import Unreadable
from prober.model import Message
from prober.observers import slack_removal
from prober.observers.slack import SlackObserver
from prober.sandbox.faults import RequestFault
from prober.sandbox.slack import SlackServer
from tests.conformance.slack_world import CLOCK, PUBLIC, Weather, history, observer_of, slack_server


@pytest.fixture
def weather() -> Weather:
    return Weather()


@pytest.fixture
async def server(weather: Weather) -> AsyncIterator[SlackServer]:
    async with slack_server(weather) as opened:
        opened.workspace.limits = {}
        yield opened


async def lying(observer: SlackObserver, seconds_ahead: float = 60.0) -> tuple[list[Message], list[Message]]:
    messages, controls, position = list[Message](), list[Message](), ""
    while True:
        page = await observer.lying(position, CLOCK.now().plus(seconds_ahead))
        messages, controls = [*messages, *page.messages], [*controls, *page.controls]
        if not (position := page.position):
            return messages, controls


async def test_old_control_messages_are_found_and_go(server: SlackServer) -> None:
    """What the bot posted to prove sight is told apart from the product's messages, and is its own to delete; what
    somebody else wrote in the same words is not taken for it, and stays."""
    async with observer_of(server, mode="web") as observer:
        await observer.read(None)
        said = await server.post(PUBLIC, "an alert")
        imitated = await server.post(PUBLIC, control_text(server))
        messages, controls = await lying(observer)
        mine = [each.id for each in controls if each.channel == "slack"]
        assert len(mine) == 1
        assert {said, imitated} & {*mine} == set()
        assert said in {each.id for each in messages}
        assert await observer.remove("slack", mine) == {mine[0]: Removal.REMOVED}
        assert await observer.remove("slack", mine) == {mine[0]: Removal.GONE}
        assert await observer.remove("slack", [said]) == {said: Removal.DENIED}
    assert [each["ts"] for each in history(server)] == [said, imitated]


def control_text(server: SlackServer) -> str:
    (control,) = [str(each["text"]) for each in history(server) if "control" in str(each["text"])]
    return control


async def test_every_page_is_shown_and_no_younger_one(server: SlackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel longer than a page is shown whole, each message once."""
    monkeypatch.setattr(slack_removal, "PAGE", 4)
    posted = [await server.post(PUBLIC, f"{number}") for number in range(11)]
    async with observer_of(server, mode="web") as observer:
        messages, _ = await lying(observer)
        assert sorted(each.id for each in messages) == sorted(posted)
        assert (await lying(observer, -3600.0))[0] == []


async def test_a_slack_that_fails_is_unreadable(server: SlackServer, weather: Weather) -> None:
    """Slack that fails is raised for the sweep to try again, and nothing counts as removed."""
    async with observer_of(server, mode="web") as observer:
        await observer.read(None)
        mine = [each.id for each in (await lying(observer))[1] if each.channel == "slack"]
        weather.requests = {"chat.delete": RequestFault(status=503)}
        with pytest.raises(Unreadable):
            await observer.remove("slack", mine)
        weather.requests = {}
        assert await observer.remove("slack", mine) == {mine[0]: Removal.REMOVED}
