"""The Publishing Module's adapter against scripted conversations, in both dialects."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from prober import __version__
from prober.clock import SystemClock
from prober.errors import OwnFault, Refused, TargetError, Unanswered
from prober.model import Answer, Key, KeyKind, Publication, PublicationKind, PublishResult, Step, StepAction, Waypoint
from prober.targets.publishing_module import PublishingModule, PublishingModuleSettings
from tests.conformance.scripted_api import ScriptedApi, Turn, scripted

CHANNEL = "0b6f1f5c-5f0f-4c53-9d7e-1b2a3c4d5e6f"
PUBLICATION_ID = "7d1c9a7e-3a44-4d2c-8b1d-2f3e4a5b6c7d"
RECIPIENT = "inbox+p1@box.example"
TOKEN = "opaque-token-0123456789"
PUBLICATION = Publication(
    probe="p1",
    scenario="publication",
    kind=PublicationKind.MANUAL,
    target_channels=(CHANNEL,),
    content_id="c2a1d0de-0000-4000-8000-000000000001",
    marker="dp1" + "a" * 45,
    correlation_id="here-p1",
    trace_id="0af7651916cd43dd8448eb211c80319c",
    span_id="b7ad6b7169203331",
)
ALERT = replace(PUBLICATION, kind=PublicationKind.ALERT)
CREATE = Step("p1", 0, StepAction.CREATE)
SEND = Step("p1", 1, StepAction.SEND, RECIPIENT, PUBLICATION_ID)
CANCEL = Step("p1", 2, StepAction.CANCEL, publication_id=PUBLICATION_ID)
TEST_PATH = f"POST /api/v1/publications/{PUBLICATION_ID}/test"


def documented(data: object, errors: object = ()) -> dict[str, Any]:
    meta = {"timestamp": "2026-11-23T10:00:00Z", "request_id": "r-1"}
    return {"data": data, "meta": meta, "errors": list(errors) if isinstance(errors, (list, tuple)) else errors}


def made(**fields: object) -> dict[str, Any]:
    return documented({"id": PUBLICATION_ID, "status": "scheduled", "created_at": "2026-11-23T10:00:00Z", **fields})


def sent(**fields: object) -> dict[str, Any]:
    result = {"email": RECIPIENT, "status": "sent", "message_id": "0100aa-bb", "provider": "ses", **fields}
    return documented({"publication_id": PUBLICATION_ID, "successful": 1, "failed": 0, "delivery_results": [result]})


def settings(api: ScriptedApi, **fields: Any) -> PublishingModuleSettings:
    return PublishingModuleSettings(**{"url": api.url, "token": TOKEN, "channels": [CHANNEL], "timeout": 5, **fields})


async def take(api: ScriptedApi, step: Step = CREATE, publication: Publication = PUBLICATION, **fields: Any) -> Answer:
    async with PublishingModule(settings(api, **fields), SystemClock()) as target:
        return await target.take(step, publication)


async def failure(api: ScriptedApi, step: Step = CREATE, publication: Publication = PUBLICATION) -> TargetError:
    with pytest.raises(TargetError) as caught:
        await take(api, step, publication)
    return caught.value


async def test_create_as_documented() -> None:
    """A create carries every mark, and its answer teaches the publication's id between two ordered instants."""
    before = SystemClock().now()
    async with scripted(Turn("POST /api/v1/publications", 201, made())) as api:
        answer = await take(api)
    heard = api.heard[0]
    assert heard.json == {
        "channels": [CHANNEL],
        "publication_type": "manual",
        "content_ids": [PUBLICATION.content_id],
    }
    marks = {
        "Authorization": f"Bearer {TOKEN}",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
        "X-Correlation-ID": "here-p1",
        "Idempotency-Key": "p1-0",
        "X-Synthetic-Probe": "p1",
        "User-Agent": f"delivery-prober/{__version__}",
        "Content-Type": "application/json",
    }
    assert {name: heard.headers.get(name) for name in marks} == marks
    assert (answer.status, answer.publication_id, answer.correlation_id) == (201, PUBLICATION_ID, "r-1")
    assert answer.learned == (Key(KeyKind.PUBLICATION_ID, PUBLICATION_ID),)
    assert answer.waypoints == (Waypoint("created", 1795428000.0, "target", 1.0),)
    assert before.boottime <= answer.requested_at.boottime <= heard.at.boottime <= answer.answered_at.boottime


async def test_create_as_seen() -> None:
    """A 200, an upper-case id, naive times and the server's own correlation header are understood all the same."""
    data = {"id": PUBLICATION_ID.upper(), "status": "scheduled", "created_at": "2026-11-23T10:00:00.250000"}
    turn = Turn("POST /api/v1/publications", 200, documented(data), {"X-Correlation-ID": "their-own"})
    async with scripted(turn) as api:
        answer = await take(api, token=None)
    assert (answer.status, answer.publication_id, answer.correlation_id) == (200, PUBLICATION_ID, "their-own")
    assert answer.waypoints == (Waypoint("created", 1795428000.25, "target", 1e-6),)
    assert "Authorization" not in api.heard[0].headers


async def test_a_bare_answer() -> None:
    """An answer without its envelope is understood."""
    async with scripted(Turn("POST /api/v1/publications", 200, {"id": PUBLICATION_ID})) as api:
        assert (await take(api)).publication_id == PUBLICATION_ID


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_to_the_other_form(status: int) -> None:
    """A 307 on the same origin is followed with the same request, and timed from the one that was accepted."""
    moved = Turn("POST /api/v1/publications", status, headers={"Location": "/api/v1/publications/"})
    async with scripted(moved, Turn("POST /api/v1/publications/", 201, made())) as api:
        answer = await take(api)
    first, second = api.heard
    assert first.body == second.body
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.at.boottime <= answer.requested_at.boottime <= second.at.boottime


@pytest.mark.parametrize(
    ("status", "place"),
    [
        (301, "/api/v1/publications/"),
        (302, "/api/v1/publications/"),
        (303, "/api/v1/publications/"),
        (307, "http://127.0.0.1:1/api/v1/publications?token=x"),
        (307, "https://elsewhere.example/"),
        (308, ""),
    ],
)
async def test_other_redirects(status: int, place: str) -> None:
    """Any other redirect is never followed: the step ends unanswered, and no second request leaves."""
    headers = {"Location": place} if place else {}
    async with scripted(Turn("POST /api/v1/publications", status, headers=headers)) as api:
        error = await failure(api)
    assert isinstance(error, Unanswered)
    assert (error.title, error.status, len(api.heard)) == ("redirected", status, 1)
    assert "token=x" not in str(error)


async def test_a_redirect_that_leads_nowhere() -> None:
    """A place that is no URL leaves the step unanswered."""
    async with scripted(Turn("POST /api/v1/publications", 307, headers={"Location": "http://[::"})) as api:
        assert isinstance(await failure(api), Unanswered)


async def test_a_redirect_in_a_circle() -> None:
    """A target that redirects for ever is asked four times, then the step ends unanswered."""
    turn = Turn("POST /api/v1/publications", 307, headers={"Location": "/api/v1/publications"})
    async with scripted(*[turn] * 4) as api:
        assert (await failure(api)).title == "redirected"


async def test_an_alert_names_its_channels_twice() -> None:
    """An alert goes to its own address, critical by default, with both names for its channels."""
    async with scripted(*[Turn("POST /api/v1/alerts", 200, made(status="queued"))] * 2) as api:
        await take(api, publication=ALERT)
        await take(api, publication=replace(ALERT, priority="low"))
    fields = {"content_id": ALERT.content_id, "channels": [CHANNEL], "target_channels": [CHANNEL]}
    assert [one.json for one in api.heard] == [{**fields, "priority": "critical"}, {**fields, "priority": "low"}]


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (PublicationKind.NEWSLETTER, "/publications/newsletter/schedule"),
        (PublicationKind.DIGEST, "/publications"),
        (PublicationKind.ALERT, "/publications"),
    ],
)
async def test_a_scheduled_publication(kind: PublicationKind, path: str) -> None:
    """A time travels as ISO 8601 with Z, a newsletter to its own address, an alert as a publication."""
    publication = replace(PUBLICATION, kind=kind, scheduled_time=1795428030.5, template_id="t-1")
    async with scripted(Turn(f"POST /api/v1{path}", 201, made())) as api:
        await take(api, publication=publication)
    told = api.heard[0].json
    assert (told["scheduled_time"], told["template_id"]) == ("2026-11-23T10:00:30.500000Z", "t-1")
    assert told["publication_type"] == kind.value


async def test_a_newsletter_for_now() -> None:
    """A newsletter without a time is an ordinary publication."""
    async with scripted(Turn("POST /api/v1/publications", 201, made())) as api:
        await take(api, publication=replace(PUBLICATION, kind=PublicationKind.NEWSLETTER))
    assert api.heard[0].json["publication_type"] == "newsletter"


async def test_the_marker_travels_only_when_asked() -> None:
    """The marker stands in the personalization rules only where the configuration says so."""
    async with scripted(*[Turn("POST /api/v1/publications", 201, made())] * 2) as api:
        await take(api, personalize=True)
        await take(api, personalize=True, publication=replace(PUBLICATION, marker=""))
    assert api.heard[0].json["personalization_rules"] == {"probe": PUBLICATION.marker}
    assert "personalization_rules" not in api.heard[1].json


async def test_send_teaches_the_message_id() -> None:
    """A sending names its one recipient and teaches the provider's id in the form in which messages show it."""
    turns = [Turn(TEST_PATH, 200, sent(message_id=told)) for told in ("0100aa-bb", "<0100aa-bb@email.amazonses.com>")]
    async with scripted(*turns, Turn(TEST_PATH, 200, sent(message_id=None))) as api:
        answers = [await take(api, SEND) for _ in range(3)]
    assert api.heard[0].json == {"test_email": RECIPIENT}
    known = (Key(KeyKind.MESSAGE_ID, "0100aa-bb"),)
    assert [answer.learned for answer in answers] == [known, known, ()]
    assert answers[0].publication_id == PUBLICATION_ID


@pytest.mark.parametrize(
    "body",
    [
        sent(status="simulated"),
        sent(status="failed", error="no such mailbox"),
        sent(email="somebody.else@box.example"),
        documented({"publication_id": PUBLICATION_ID, "successful": 0, "failed": 0, "delivery_results": []}),
        documented({"publication_id": PUBLICATION_ID, "successful": 0, "failed": 1}),
        documented({"publication_id": PUBLICATION_ID}),
        {"status": "simulated", "message_id": "x"},
    ],
)
async def test_a_sending_that_did_not_send(body: object) -> None:
    """A 200 that says failed, simulated, nothing or somebody else is no acceptance."""
    async with scripted(Turn(TEST_PATH, 200, body)) as api:
        error = await failure(api, SEND)
    assert (error.result, error.status) == (PublishResult.ERROR, 200)


@pytest.mark.parametrize(
    ("step", "publication"),
    [
        (replace(SEND, recipient=""), PUBLICATION),
        (replace(SEND, recipient="a@box.example,b@box.example"), PUBLICATION),
        (replace(SEND, publication_id=""), PUBLICATION),
        (replace(CANCEL, publication_id="../channels"), PUBLICATION),
        (CREATE, replace(PUBLICATION, target_channels=())),
        (CREATE, replace(PUBLICATION, target_channels=(CHANNEL, PUBLICATION_ID))),
        (CREATE, replace(ALERT, target_channels=(PUBLICATION_ID,))),
        (SEND, replace(PUBLICATION, target_channels=(PUBLICATION_ID,))),
    ],
)
async def test_what_must_not_leave_does_not(step: Step, publication: Publication) -> None:
    """A sending without one recipient, or a channel that is not allowed, is our own fault and nothing leaves."""
    async with scripted() as api:
        error = await failure(api, step, publication)
    assert isinstance(error, OwnFault)
    assert error.requested_at is None
    assert api.heard == []


@pytest.mark.parametrize("turn", [(204, None), (200, made(status="cancelled")), (200, None), (200, documented(None))])
async def test_cancel(turn: tuple[int, object]) -> None:
    """A cancel is accepted with or without a body."""
    async with scripted(Turn(f"DELETE /api/v1/publications/{PUBLICATION_ID}", *turn)) as api:
        answer = await take(api, CANCEL)
    assert (answer.publication_id, answer.learned, answer.waypoints) == (PUBLICATION_ID, (), ())


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 422, 429])
async def test_a_4xx_is_a_refusal(status: int) -> None:
    """A 4xx is a refusal with the target's words, its correlation id and both instants, and 429 says how long."""
    body = documented(None, [{"title": "No", "status": status, "detail": "because"}])
    async with scripted(Turn("POST /api/v1/publications", status, body, {"Retry-After": "7"})) as api:
        error = await failure(api)
    assert isinstance(error, Refused)
    assert error.detail == ("because (Retry-After: 7)" if status == 429 else "because")
    assert (error.title, error.status, error.correlation_id) == ("No", status, "r-1")
    assert error.requested_at is not None
    assert error.answered_at is not None
    assert error.answered_at.since(error.requested_at) >= 0


@pytest.mark.parametrize("status", [500, 502, 503, 599])
async def test_a_5xx_may_have_created(status: int) -> None:
    """A 5xx leaves the step unanswered, and nothing is asked again."""
    async with scripted(Turn("POST /api/v1/publications", status, {"detail": "oh"})) as api:
        error = await failure(api)
    assert (error.result, error.status, error.detail) == (PublishResult.ERROR, status, "oh")
    assert len(api.heard) == 1


@pytest.mark.parametrize(
    "body",
    [
        made(status="failed", error_details="the queue is gone"),
        made(status="FAILED"),
        made(status="simulated"),
        made(success=False),
        made(id=None),
        made(id="17"),
        made(id=17),
        documented(None),
        documented([]),
        documented({"id": PUBLICATION_ID}, [{"title": "half done"}]),
        documented({"id": PUBLICATION_ID}, "words"),
        b"",
        b"<html>fine</html>",
        b'{"data": ',
        b"[]",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"data": "' + b"x" * 1_100_000 + b'"}',
    ],
)
async def test_a_success_that_is_none(body: object) -> None:
    """A 2xx that says failed or simulated, holds errors, lacks an id or is no JSON object is no acceptance."""
    async with scripted(Turn("POST /api/v1/publications", 201, body)) as api:
        error = await failure(api)
    assert (error.result, error.status) == (PublishResult.ERROR, 201)
    assert len(str(error)) < 1300


async def test_the_token_never_shows() -> None:
    """A target that repeats the token, or a gateway's key, in its error does not bring it into ours."""
    body = {"title": f"bad {TOKEN}", "detail": "key gateway-key-123", "traceId": TOKEN}
    async with scripted(Turn("POST /api/v1/publications", 403, body)) as api:
        with pytest.raises(Refused) as caught:
            await take(api, headers={"X-Gateway": "gateway-key-123"})
    assert api.heard[0].headers["X-Gateway"] == "gateway-key-123"
    told = f"{caught.value!r} {caught.value} {vars(caught.value)} {settings(api)!r}"
    assert TOKEN not in told
    assert "gateway-key-123" not in told


async def test_many_at_once() -> None:
    """Steps taken at the same time do not wait for each other's connections."""
    async with (
        scripted(*[Turn("POST /api/v1/publications", 201, made())] * 150) as api,
        PublishingModule(settings(api), SystemClock()) as target,
    ):
        answers = await asyncio.gather(*(target.take(CREATE, PUBLICATION) for _ in range(150)))
    assert len(answers) == 150
