"""What a described API lists: its channels, to be verified, and its publications, to be cleaned up."""

from __future__ import annotations

from typing import Any

import pytest

from prober.clean_up import PublishedPage
from prober.clock import SystemClock
from prober.errors import Refused, TargetError, Unanswered
from prober.safety import Bounds, Inventory, TargetChannel, breaches
from prober.targets.http import HttpTarget
from tests.conformance.scripted_api import ScriptedApi, Turn, scripted
from tests.conformance.test_target_http import settings

CHANNELS: dict[str, Any] = {"path": "/channels", "items": "data.channels", "id": "id", "name": "attributes.name"}
THINGS: dict[str, Any] = {"path": "/things", "query": {"mine": "yes"}, "id": "uid"}
BY_ITEMS = {"parameter": "offset"}
BY_PAGES = {"parameter": "page", "counts": "pages", "first": 1}


def channels(*names: str) -> dict[str, Any]:
    return {"data": {"channels": [{"id": name.upper(), "attributes": {"name": name}} for name in names]}}


def listed(*names: str) -> tuple[TargetChannel, ...]:
    return tuple(TargetChannel(name, name, "") for name in names)


async def inventory(api: ScriptedApi, **changes: Any) -> Inventory:
    async with HttpTarget(settings(api, listing={"channels": {**CHANNELS, **changes}}), SystemClock()) as target:
        return await target.inventory()


def recounting(api: ScriptedApi, **changes: Any) -> HttpTarget:
    told = settings(api, listing={"publications": {**THINGS, **changes}}, withdraw={"path": "/things/{publication_id}"})
    return HttpTarget(told, SystemClock())


async def test_channels_of_one_answer() -> None:
    """A list without pages is asked once; subscribers stay unverified."""
    async with scripted(Turn("GET /channels", 200, channels("prober-a", "b"))) as api:
        told = await inventory(api)
    assert (told.channels, told.subscribers) == (listed("prober-a", "b"), None)


@pytest.mark.parametrize(
    ("page", "asked"),
    [(BY_ITEMS, ("offset=0", "offset=2", "offset=3")), (BY_PAGES, ("page=1", "page=2", "page=3"))],
)
@pytest.mark.parametrize("end", [(), ("c",)])
async def test_channels_of_many_answers(page: dict[str, Any], asked: tuple[str, ...], end: tuple[str, ...]) -> None:
    """Pages are asked for until nothing new comes: an empty page, or the last one again."""
    answers = [channels("a", "b"), channels("c"), channels(*end)]
    turns = [Turn(f"GET /channels?{query}", 200, body) for query, body in zip(asked, answers, strict=True)]
    async with scripted(*turns) as api:
        assert (await inventory(api, page=page)).channels == listed("a", "b", "c")


@pytest.mark.parametrize("status", [403, 404, 405, 501])
async def test_channels_that_are_not_offered(status: int) -> None:
    """An API that lists nothing to us leaves them unverified, and says why."""
    async with scripted(Turn("GET /channels", status)) as api:
        told = await inventory(api)
    assert told == Inventory(why=f"GET /channels answered {status}")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>", Unanswered),
        (200, {"data": {}}, Unanswered),
        (200, {"data": {"channels": ["a"]}}, Unanswered),
        (200, {"data": {"channels": [{"attributes": {"name": "a"}}]}}, Unanswered),
        (200, {"data": {"channels": [{"id": True}]}}, Unanswered),
        (200, {"data": {"channels": [{"id": "x" * 65}]}}, Unanswered),
        (401, {}, Refused),
        (500, {}, Unanswered),
    ],
)
async def test_a_list_that_is_none(status: int, body: object, kind: type[TargetError]) -> None:
    """What is no list of objects with ids is an error of the target's, never an empty list."""
    async with scripted(Turn("GET /channels", status, body)) as api:
        with pytest.raises(kind):
            await inventory(api)


async def test_a_foreign_name_is_a_breach() -> None:
    """A target channel that is not named as a probe's, or is not there, is not safe to publish to."""
    async with scripted(Turn("GET /channels", 200, channels("prober-a", "people"))) as api:
        told = await inventory(api)
    found = breaches(Bounds(("PROBER-A", "People", "gone"), "prober-", ()), told)
    assert [one.sentence for one in found] == [
        "target channel people is named 'people', not prober-…",
        "the target has no channel gone",
    ]


async def test_publications() -> None:
    """Each with its id and all that an item holds; a bare list is one page."""
    things = [{"uid": 7, "labels": {"probe": "dp1é"}}, {"uid": "b"}]
    async with scripted(Turn("GET /things?mine=yes", 200, things)) as api, recounting(api) as target:
        page = await target.published("")
    assert page == PublishedPage((("7", '{"uid": 7, "labels": {"probe": "dp1é"}}'), ("b", '{"uid": "b"}')), "")


async def test_pages_of_publications() -> None:
    """A position leads to the next page; an empty one ends it, and one that comes again does."""
    first, second = [{"uid": "a"}, {"uid": "b"}], [{"uid": "c"}]
    turns = [
        Turn("GET /things?mine=yes&offset=0", 200, first),
        Turn("GET /things?mine=yes&offset=2", 200, second),
        Turn("GET /things?mine=yes&offset=3", 200, []),
        Turn("GET /things?mine=yes&offset=2", 200, first),
    ]
    async with scripted(*turns) as api, recounting(api, page=BY_ITEMS) as target:
        one = await target.published("")
        two = await target.published(one.position)
        assert [name for name, _ in (*one.publications, *two.publications)] == ["a", "b", "c"]
        assert await target.published(two.position) == PublishedPage((), "")
        assert (await target.published(one.position)).position == ""


async def test_what_lists_nothing_is_not_asked() -> None:
    """Without a description nothing is listed, and nothing leaves."""
    async with scripted() as api, HttpTarget(settings(api), SystemClock()) as target:
        assert await target.inventory() == Inventory()
        assert await target.published("") == PublishedPage((), "")
