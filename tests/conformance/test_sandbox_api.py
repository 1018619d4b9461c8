"""The sandbox's publishing API over real HTTP: both dialects say what the real ones say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from prober.clock import SystemClock
from prober.sandbox.api import PublishingApi
from prober.sandbox.boards import InProcessWorld, Posted
from prober.sandbox.dialects import DIALECTS
from prober.sandbox.weather import parse_weather

CONTENT_ID = "3f0c1a52-6a57-4a5e-9d5e-0a1b2c3d4e5f"
UNKNOWN = "1e0c1a52-6a57-4a5e-9d5e-0a1b2c3d4e5f"
TOKEN = "s3cret"
BOTH = pytest.mark.parametrize("dialect", ["documented", "seen"])


class Caller:
    """A client of one API."""

    def __init__(self, sandbox: InProcessWorld, api: PublishingApi, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.api = api
        self.session = session
        self.ids = {place.name: place.target_channel for place in sandbox.places}
        self.addresses = {place.name: place.address for place in sandbox.places}

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON and headers."""
        async with self.session.request(
            method, self.api.url + path, json=body, headers=headers, allow_redirects=False
        ) as response:
            said = await response.json(content_type=None) if response.content_type.endswith("json") else None
            return response.status, said, response.headers

    def publication(self, *names: str, **changes: object) -> dict[str, Any]:
        body = {
            "channels": [self.ids[name] for name in names],
            "publication_type": "manual",
            "content_ids": [CONTENT_ID],
        }
        return {**body, **changes}

    def at(self, seconds: float) -> str:
        return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


@asynccontextmanager
async def running(dialect: str = "documented", weather: str = "seed: 1") -> AsyncIterator[Caller]:
    sandbox = InProcessWorld(SystemClock(), parse_weather(weather))
    api = PublishingApi(sandbox.world, token=TOKEN, dialect=DIALECTS[dialect])
    headers = {"Authorization": f"Bearer {TOKEN}"} if dialect == "documented" else {}
    async with sandbox, aiohttp.ClientSession(headers=headers) as session:
        await api.start()
        try:
            yield Caller(sandbox, api, session)
        finally:
            await api.stop()


def detail(said: Any) -> str:
    """The text of an error in any of the shapes."""
    if "errors" in said:
        return str(said["errors"][0]["detail"])
    return str(said["detail"])


@pytest.mark.parametrize(("dialect", "status", "zone"), [("documented", 201, "Z"), ("seen", 200, "")])
async def test_a_publication_is_created(dialect: str, status: int, zone: str) -> None:
    """The dialect's success code and envelope, a fresh lower-case UUIDv4, times in the dialect's form."""
    async with running(dialect) as caller:
        got, said, headers = await caller.call("POST", "/publications", caller.publication("slack", "email"))
        data = said["data"]
        assert (got, said["errors"]) == (status, [])
        assert set(said["meta"]) == {"timestamp", "request_id"}
        assert UUID(data["id"]).version == 4
        assert set(data["channel_results"]) == {caller.ids["slack"], caller.ids["email"]}
        assert data["created_at"][26:] == zone
        assert ("X-Correlation-ID" in headers) == (dialect == "seen")
        assert ("X-RateLimit-Remaining" in headers) == (dialect == "documented")
        assert headers["Content-Type"] == "application/json"
        shown = (await caller.call("GET", f"/publications/{data['id'].upper()}"))[1]["data"]
        assert shown["id"] == data["id"]
        assert shown["content_ids"] == [CONTENT_ID]


@BOTH
@pytest.mark.parametrize("field", ["target_channels", "channels"])
async def test_an_alert_is_created_with_either_name_of_its_channels(dialect: str, field: str) -> None:
    """Alerts take ``target_channels`` and ``channels``, and are shown as queued or sent."""
    async with running(dialect) as caller:
        body = {"content_id": CONTENT_ID, field: [caller.ids["discord"]], "priority": "critical"}
        status, said, _ = await caller.call("POST", "/alerts", body)
        assert status in {200, 201}
        assert said["data"]["target_channels"] == [caller.ids["discord"]]
        assert said["data"]["status"] in {"queued", "sent"}
        shown = (await caller.call("GET", f"/alerts/{said['data']['id']}"))[1]["data"]
        assert (shown["priority"], shown["content_id"]) == ("critical", CONTENT_ID)


@BOTH
async def test_the_same_body_twice_makes_two_publications(dialect: str) -> None:
    """There is no idempotency, with an Idempotency-Key neither; both requests are on record."""
    async with running(dialect) as caller:
        key = {"Idempotency-Key": "probe-1"}
        ids = set()
        for _ in range(2):
            said = (await caller.call("POST", "/publications", caller.publication("slack"), key))[1]
            ids.add(said["data"]["id"])
        assert len(ids) == 2
        assert [one.idempotency_key for one in caller.sandbox.world.requests] == ["probe-1", "probe-1"]


BAD: list[tuple[dict[str, object], str]] = [
    ({"channels": []}, "channels"),
    ({"channels": ["nonsense"]}, "channels"),
    ({"channels": ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"]}, "channels"),
    ({"publication_type": "leaflet"}, "publication_type"),
    ({"content_ids": [CONTENT_ID] * 101}, "content_ids"),
    ({"scheduled_time": "2020-01-01T00:00:00Z"}, "scheduled_time"),
    ({"scheduled_time": "soon"}, "scheduled_time"),
    ({"scheduled_time": 4102444800}, "scheduled_time"),
    ({"template_id": "x"}, "template_id"),
]


@BOTH
@pytest.mark.parametrize(("change", "field"), BAD)
async def test_what_does_not_validate_is_422_and_names_the_field(
    dialect: str, change: dict[str, object], field: str
) -> None:
    """A request that does not validate is refused with the field's name, and nothing comes of it."""
    async with running(dialect) as caller:
        status, said, _ = await caller.call("POST", "/publications", {**caller.publication("slack"), **change})
        assert status == 422
        if dialect == "seen":
            assert said["detail"][0]["loc"][:2] == ["body", field]
            assert set(said["detail"][0]) >= {"loc", "msg", "type"}
        else:
            assert field in said["errors"][0]["detail"]
            assert said["errors"][0]["status"] == 422
        assert not caller.sandbox.world.records


@pytest.mark.parametrize(("dialect", "status"), [("documented", 422), ("seen", 200)])
async def test_content_ids_are_required_as_documented_only(dialect: str, status: int) -> None:
    """The documentation demands content ids, the running build does not."""
    async with running(dialect) as caller:
        body = caller.publication("slack")
        del body["content_ids"]
        assert (await caller.call("POST", "/publications", body))[0] == status


@BOTH
async def test_errors_have_the_dialects_shape(dialect: str) -> None:
    """Unknown channels are 400, unknown ids 404, in the envelope or as a problem; unknown routes are bare."""
    async with running(dialect) as caller:
        body = {**caller.publication("slack"), "channels": [UNKNOWN]}
        status, said, headers = await caller.call("POST", "/publications", body)
        assert status == 400
        assert UNKNOWN in detail(said)
        problem = said if dialect == "seen" else said["errors"][0]
        assert {"type", "title", "status", "detail", "instance"} <= set(problem)
        kind = "application/problem+json" if dialect == "seen" else "application/json"
        assert headers["Content-Type"] == kind
        assert (await caller.call("GET", f"/publications/{UNKNOWN}"))[0] == 404
        assert (await caller.call("GET", "/nowhere"))[:2] == (404, {"detail": "Not Found"})
        assert (await caller.call("PATCH", "/publications", {}))[:2] == (405, {"detail": "Method Not Allowed"})


async def test_broken_json_is_422() -> None:
    """A body that is not JSON is a validation error, not a crash."""
    async with (
        running() as caller,
        caller.session.post(f"{caller.api.url}/publications", data=b"{", headers={}) as answer,
    ):
        assert answer.status == 422


async def test_a_body_that_is_too_large_is_413() -> None:
    """The body is bounded."""
    async with running() as caller:
        body = caller.publication("slack", personalization_rules={"x": "y" * 1_030_000})
        assert (await caller.call("POST", "/publications", body))[0] == 413


@pytest.mark.parametrize("given", ["", "Bearer wrong", "Basic s3cret"])
async def test_the_documented_api_demands_its_bearer_token(given: str) -> None:
    """Without the token every call but the health check is 401, and nothing comes of it."""
    async with running() as caller:
        headers = {"Authorization": given}
        status, _, said = await caller.call("POST", "/publications", caller.publication("slack"), headers)
        assert (status, said["WWW-Authenticate"]) == (401, "Bearer")
        assert (await caller.call("GET", "/health", headers=headers))[0] == 200
        assert not caller.sandbox.world.records


async def test_the_seen_api_redirects_a_trailing_slash() -> None:
    """A running build answers 307 with the other form of the path, and its root wants the slash."""
    async with running("seen") as caller:
        status, _, headers = await caller.call("POST", "/publications/", caller.publication("slack"))
        assert (status, headers["Location"]) == (307, "/api/v1/publications")
        assert (await caller.call("GET", ""))[2]["Location"] == "/api/v1/"
        assert (await caller.call("GET", "/"))[0] == 200
        assert not caller.sandbox.world.records


@BOTH
async def test_health_stands_where_the_dialect_has_it(dialect: str) -> None:
    """Below the prefix and in the envelope as documented; at the root and bare as seen."""
    async with running(dialect, "channels: {slack: {outage: true}}") as caller:
        base = caller.api.url.removesuffix("/api/v1")
        async with caller.session.get(f"{base}/health") as answer:
            said = await answer.json()
        state = said["data"] if dialect == "documented" else said
        assert state["status"] == "degraded"
        assert state["external_services"] == {"aws_ses": "connected", "slack_api": "error", "discord_api": "connected"}
        if dialect == "seen":
            assert (await caller.call("GET", "/health"))[0] == 404


@pytest.mark.parametrize(("dialect", "status"), [("documented", 204), ("seen", 200)])
async def test_a_scheduled_newsletter_can_be_moved_and_cancelled(dialect: str, status: int) -> None:
    """The newsletter route forces the type; PUT moves it, DELETE cancels it once, then 409."""
    async with running(dialect) as caller:
        body = caller.publication("email", scheduled_time=caller.at(600))
        said = (await caller.call("POST", "/publications/newsletter/schedule", body))[1]["data"]
        assert (said["publication_type"], said["status"]) == ("newsletter", "scheduled")
        path = f"/publications/{said['id']}"
        moved = (await caller.call("PUT", path, {"scheduled_time": caller.at(900)}))[1]["data"]
        assert moved["scheduled_time"] > said["scheduled_time"]
        assert (await caller.call("DELETE", path))[0] == status
        assert (await caller.call("GET", path))[1]["data"]["status"] == "cancelled"
        assert (await caller.call("DELETE", path))[0] == 409
        assert (await caller.call("POST", f"{path}/retry"))[0] == 409


async def test_a_naive_time_is_utc() -> None:
    """A time without a zone is read as UTC."""
    async with running() as caller:
        wanted = datetime.fromtimestamp(time.time() + 600, UTC).replace(microsecond=0)
        body = caller.publication("email", scheduled_time=wanted.replace(tzinfo=None).isoformat())
        said = (await caller.call("POST", "/publications", body))[1]["data"]
        assert datetime.fromisoformat(said["scheduled_time"]) == wanted


@BOTH
async def test_publications_are_listed_in_pages(dialect: str) -> None:
    """The list filters by status and kind of channel, and its limit lies within 1 and 100."""
    async with running(dialect) as caller:
        for name in ("slack", "email", "email"):
            await caller.call("POST", "/publications", caller.publication(name, scheduled_time=caller.at(600)))
        data = (await caller.call("GET", "/publications?channel_type=email&status=scheduled&limit=1&offset=1"))[1][
            "data"
        ]
        assert (data["total_count"], len(data["publications"]), data["limit"], data["offset"]) == (2, 1, 1, 1)
        for wrong in ("limit=0", "limit=101", "offset=-1", "limit=many"):
            assert (await caller.call("GET", f"/publications?{wrong}"))[0] == 422


@BOTH
async def test_a_test_sends_to_one_address(dialect: str) -> None:
    """``/test`` mails the one address and tells the provider's message id; without it all subscribers get it."""
    async with running(dialect) as caller:
        body = caller.publication("email", scheduled_time=caller.at(600))
        identity = (await caller.call("POST", "/publications", body))[1]["data"]["id"]
        path = f"/publications/{identity}/test"
        recipient = caller.addresses["email-2"].replace("@", "+tag@")
        data = (await caller.call("POST", path, {"test_email": recipient}))[1]["data"]
        (result,) = data["delivery_results"]
        assert (result["email"], result["status"]) == (recipient, "sent")
        assert result["message_id"]
        assert (data["publication_id"], data["successful"]) == (identity, 1)
        everybody = (await caller.call("POST", path))[1]["data"]["delivery_results"]
        assert [one["email"] for one in everybody] == [caller.addresses["email"]]


@BOTH
@pytest.mark.parametrize(
    ("address", "accepted"),
    [
        ("a@something.example", True),
        ("a+b@something.internal", True),
        ("a@something.test", False),
        ("a@x.invalid", False),
        ("a@printer.local", False),
        ("a@localhost", False),
        ("a@[127.0.0.1]", False),
        ("a@127.0.0.1", False),
        ("no address", False),
    ],
)
async def test_reserved_addresses_are_refused(dialect: str, address: str, accepted: bool) -> None:
    """Special-use domains and IP literals are 422; ``.example`` is not."""
    async with running(dialect) as caller:
        subscriber = (await caller.call("POST", "/subscribers", {"email": address}))[0]
        test = (await caller.call("POST", "/email/test", {"to_email": address}))[0]
        assert (subscriber in {200, 201}, test == 200) == (accepted, accepted)
        assert accepted or (subscriber, test) == (422, 422)


@BOTH
async def test_channels_and_subscribers_can_be_provisioned(dialect: str) -> None:
    """A new channel and its subscriber receive; a name is taken once; secrets are not shown."""
    async with running(dialect) as caller:
        slack = {"bot_token": "xoxb-1", "channel_id": caller.addresses["slack"]}
        body = {"name": "prober-new", "channel_type": "slack", "configuration": slack}
        made = (await caller.call("POST", "/channels", body))[1]["data"]
        assert made["configuration"] == {"bot_token": "***", "channel_id": caller.addresses["slack"]}
        assert (await caller.call("POST", "/channels", body))[0] == 409
        assert made in (await caller.call("GET", "/channels"))[1]["data"]
        assert (await caller.call("POST", f"/channels/{made['id']}/test"))[1]["data"]["success"] is True
        body = {"email": "new@x.example", "preferred_channels": [caller.ids["email"]], "topic_interests": {"a": 0.5}}
        one = (await caller.call("POST", "/subscribers", body))[1]["data"]
        assert (one["status"], one["topic_interests"]) == ("active", {"a": 0.5})
        assert (await caller.call("POST", "/subscribers", body))[0] == 409
        changed = (await caller.call("PUT", f"/subscribers/{one['id']}", {"status": "paused"}))[1]["data"]
        assert changed["status"] == "paused"
        assert (await caller.call("GET", f"/subscribers/{UNKNOWN}"))[0] == 404


async def test_the_rate_limit_is_counted_and_kept() -> None:
    """The headers count down; beyond the limit the answer is 429 with the time to wait."""
    async with running(weather="api: {rate_limit: 3}") as caller:
        answers = [await caller.call("GET", "/") for _ in range(8)]
        limited = next(headers for status, _, headers in answers if status == 429)
        assert 1 <= int(limited["Retry-After"]) <= 61
        assert answers[0][2]["X-RateLimit-Limit"] == "3"
        assert int(answers[0][2]["X-RateLimit-Reset"]) > time.time()


@BOTH
@pytest.mark.parametrize(
    ("weather", "status", "made"),
    [("status: 503", 503, 0), ("error_rate: 1", 500, 0), ("accepted_but_500: 1", 500, 1)],
)
async def test_a_spoiled_answer(dialect: str, weather: str, status: int, made: int) -> None:
    """A 5xx is in the dialect's shape, and may hide that the publication was made all the same."""
    async with running(dialect, f"api: {{{weather}}}") as caller:
        got, said, _ = await caller.call("POST", "/publications", caller.publication("slack"))
        assert got == status
        assert detail(said)
        assert len(caller.sandbox.world.records) == made
        (request,) = caller.sandbox.world.requests
        assert (request.status, request.effect) == (status, bool(made))


@BOTH
async def test_a_reset_is_a_reset(dialect: str) -> None:
    """A reset connection gives no answer, and nothing comes of the request."""
    async with running(dialect, "api: {reset_rate: 1}") as caller:
        with pytest.raises(aiohttp.ClientConnectionError):
            await caller.call("POST", "/publications", caller.publication("slack"))
        assert not caller.sandbox.world.records


async def test_silence_takes_effect_and_ends_with_the_client() -> None:
    """A request that is never answered takes effect; stopping the API does not wait for it."""
    async with running(weather="api: {timeout_rate: 1}") as caller:
        arrivals: asyncio.Queue[Posted] = asyncio.Queue()
        caller.sandbox.board(caller.addresses["slack"]).watchers.append(arrivals)
        waiting = asyncio.ensure_future(caller.call("POST", "/publications", caller.publication("slack")))
        async with asyncio.timeout(5):
            await arrivals.get()
        assert not waiting.done()
        await caller.api.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await waiting
        assert len(caller.sandbox.world.records) == 1


async def test_a_connection_ends_without_warning_after_a_500_of_a_running_build() -> None:
    """The seen dialect drops the connection after a 500 but does not say so in its headers."""
    async with running("seen", "api: {error_rate: 1}") as caller:
        reader, writer = await asyncio.open_connection("127.0.0.1", caller.api.port)
        writer.write(b"GET /api/v1/ HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            said = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert said.startswith(b"HTTP/1.1 500")
        assert b"connection: close" not in said.lower()


async def test_a_message_may_be_visible_before_the_answer() -> None:
    """The workers do not wait for the API's slow answer."""
    weather = "{api: {latency: 300ms}, channels: {slack: {latency: 1ms}}}"
    async with running(weather=weather) as caller:
        await caller.call("POST", "/publications", caller.publication("slack"))
        answered = caller.sandbox.clock.now()
        (visible,) = caller.sandbox.truth
        assert answered.since(visible.after) > 0.1


async def test_an_outage_refuses_and_the_same_port_comes_back() -> None:
    """While it is suspended the API's port refuses; resumed, it is where it was."""
    async with running() as caller:
        url = caller.api.url
        await caller.api.suspend()
        with pytest.raises(aiohttp.ClientConnectorError):
            await caller.call("GET", "/")
        await caller.api.resume()
        assert caller.api.url == url
        assert (await caller.call("GET", "/"))[0] == 200
