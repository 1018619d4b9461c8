"""The sandbox's publishing API over real HTTP: both dialects say what the real ones say."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import UUID

import pytest

from tests.conformance.api_caller import BOTH, CONTENT_ID, UNKNOWN, detail, running


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
