"""The target http in scripted conversations: what leaves, and what the answers of described APIs mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import yaml

from prober import __version__
from prober.clean_up import Removal
from prober.clock import SystemClock
from prober.errors import OwnFault, Refused, TargetError, Unanswered
from prober.findings import State
from prober.model import Answer, Key, KeyKind, PublishResult, Waypoint
from prober.targets import Examinable
from prober.targets.http import HttpTarget
from prober.targets.http_form import HttpSettings, read_settings
from tests.conformance.scripted_api import ScriptedApi, Turn, scripted
from tests.conformance.test_target_publishing_module import CANCEL, CHANNEL, CREATE, PUBLICATION_ID, RECIPIENT, SEND
from tests.conformance.test_target_publishing_module import PUBLICATION as PLAIN

EXAMPLE = Path(__file__).parents[2] / "deploy/examples/alertmanager"
TOKEN = "opaque-token-0123456789"
PUBLICATION = replace(PLAIN, subject='Say "hi" {marker}\r\nX: y', text="a\nb & c=d")
MINIMAL: dict[str, Any] = {"path": "/things"}


def settings(api: ScriptedApi, create: dict[str, Any] | None = None, **fields: Any) -> HttpSettings:
    steps = {"create": create or MINIMAL, **fields.pop("steps", {})}
    access = {"url": api.origin, "token": TOKEN, "channels": [CHANNEL], "timeout": 5}
    return read_settings({**access, "steps": steps, **fields})


async def take(api: ScriptedApi, create: dict[str, Any] | None = None, **fields: Any) -> Answer:
    step, publication = fields.pop("step", CREATE), fields.pop("publication", PUBLICATION)
    async with HttpTarget(settings(api, create, **fields), SystemClock()) as target:
        return await target.take(step, publication)


async def failure(api: ScriptedApi, create: dict[str, Any] | None = None, **fields: Any) -> TargetError:
    with pytest.raises(TargetError) as caught:
        await take(api, create, **fields)
    return caught.value


async def test_a_request_without_a_body() -> None:
    """The least description: every mark leaves all the same, no id is told, and none is needed."""
    async with scripted(Turn("POST /things", 200)) as api:
        answer = await take(api)
    (heard,) = api.heard
    marks = {
        "Authorization": f"Bearer {TOKEN}",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
        "X-Correlation-ID": "here-p1",
        "Idempotency-Key": "p1-0",
        "X-Synthetic-Probe": "p1",
        "User-Agent": f"delivery-prober/{__version__}",
    }
    assert {name: heard.headers.get(name) for name in marks} == marks
    assert (heard.body, heard.headers.get("Content-Type")) == (b"", None)
    assert (answer.status, answer.publication_id, answer.learned) == (200, "", ())


async def test_values_are_data() -> None:
    """Quotes, braces, line ends and separators in a value change nothing around it: in JSON, a path, a query or a
    header."""
    create = {
        "method": "PUT",
        "path": "/a/{values.key}/b",
        "query": {"q": 'probe="{subject}"', "each": "{channels}", "none": "{scheduled_time?}"},
        "headers": {"X-Subject": "{subject}", "X-None": "{template_id?}", "X-Key": "{values.key}"},
        "json": [{"text": "{text}", "subject": "{subject}", "to": "{channels}", "none": "{template_id?}"}],
    }
    path = "/a/%7Bmarker%7D%2F..%2Fx%3Fy%23%22z/b"
    query = f"q=probe%3D%22Say+%22hi%22+%7Bmarker%7D%0D%0AX%3A+y%22&each={CHANNEL}"
    async with scripted(Turn(f"PUT {path}?{query}", 200)) as api:
        api.raw = True
        await take(api, create, values={"key": '{marker}/../x?y#"z'})
    (heard,) = api.heard
    assert heard.json == [{"text": PUBLICATION.text, "subject": PUBLICATION.subject, "to": [CHANNEL]}]
    assert heard.headers["X-Subject"] == "Say%20%22hi%22%20%7Bmarker%7D%0D%0AX:%20y".replace("%20", " ")
    assert heard.headers["X-Key"] == "%7Bmarker%7D/../x?y#%22z"
    assert "X-None" not in heard.headers
    assert heard.headers["Content-Type"] == "application/json"


async def test_a_form() -> None:
    """A form's fields are encoded; a list stands several times, what may be left out not at all."""
    form = {"text": "{text}", "to": ["{channels}", "{marker}"], "at": "{scheduled_unix?}"}
    async with scripted(Turn("POST /things", 200)) as api:
        await take(api, {**MINIMAL, "form": form})
    (heard,) = api.heard
    assert heard.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert parse_qs(heard.body.decode()) == {"text": [PUBLICATION.text], "to": [CHANNEL, PUBLICATION.marker]}


async def test_another_header_for_the_token() -> None:
    """The token goes where the description says, without a scheme if there is none, and to health only if asked."""
    health = {"path": "/health", "auth": False, "dependencies": {"db": "db"}}
    async with scripted(Turn("POST /things", 200), Turn("GET /health", 200, {"db": "ok"})) as api:
        told = settings(api, auth_header="X-Api-Key", auth_scheme="", health=health)
        async with HttpTarget(told, SystemClock()) as target:
            await target.take(CREATE, PUBLICATION)
            assert await target.health() == {"db": True}
    first, second = api.heard
    assert (first.headers["X-Api-Key"], first.headers.get("Authorization")) == (TOKEN, None)
    assert "X-Api-Key" not in second.headers


@pytest.mark.parametrize(
    ("body", "told", "learned"),
    [
        ({"data": {"id": PUBLICATION_ID.upper()}}, PUBLICATION_ID.upper(),
         (Key(KeyKind.PUBLICATION_ID, PUBLICATION_ID),)),
        ({"data": {"id": 17}}, "17", ()),
        ({"data": {"id": "thing-17"}}, "thing-17", ()),
    ],
)  # fmt: skip
async def test_ids(body: object, told: str, learned: tuple[Key, ...]) -> None:
    """Any plain id serves later requests; only a UUID is sure enough to recognise a message by."""
    async with scripted(Turn("POST /things", 201, body)) as api:
        answer = await take(api, {**MINIMAL, "publication_id": "data.id"})
    assert (answer.publication_id, answer.learned) == (told, learned)


@pytest.mark.parametrize(
    "body", [{}, {"data": {"id": None}}, {"data": {"id": ""}}, {"data": {"id": "x" * 65}}, {"data": {"id": [1]}},
             {"data": {"id": True}}, {"data": {"id": "a\nb"}}, b"", b"<html>", b"[" * 100_000]
)  # fmt: skip
async def test_an_id_that_is_missing_or_none(body: object) -> None:
    """A success that lacks the id that it must tell is no acceptance."""
    async with scripted(Turn("POST /things", 201, body)) as api:
        error = await failure(api, {**MINIMAL, "publication_id": "data.id"})
    assert (error.result, error.status) == (PublishResult.ERROR, 201)


async def test_an_id_that_may_be_missing() -> None:
    """Where the API need not tell an id, its absence is no failure."""
    async with scripted(Turn("POST /things", 202, {"data": {}})) as api:
        assert (await take(api, {**MINIMAL, "publication_id": "data.id?"})).publication_id == ""


async def test_known_as() -> None:
    """Where the API tells no id, a text of ours is it, for every later request."""
    steps = {"cancel": {"method": "DELETE", "path": "/things/{publication_id}"}}
    async with scripted(Turn("POST /things", 200), Turn("DELETE /things/p1", 200)) as api:
        told = settings(api, {**MINIMAL, "known_as": "{probe}"}, steps=steps)
        async with HttpTarget(told, SystemClock()) as target:
            answer = await target.take(CREATE, PUBLICATION)
            assert (answer.publication_id, answer.learned) == ("p1", ())
            await target.take(replace(CANCEL, publication_id=answer.publication_id), PUBLICATION)


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        ({"ok": True}, True),
        ({"ok": False, "error": "no such channel"}, False),
        ({"results": [{"status": "sent"}, {"status": "FAILED"}]}, False),
        ({"results": [{"status": "sent"}]}, True),
        (b"<html>a proxy's page</html>", False),
        (b"", True),
    ],
)
async def test_a_success_that_says_failed(body: object, accepted: bool) -> None:
    """A 2xx whose body says failed by the described words is an error, with the target's own words."""
    failed = {"ok": [False], "results.*.status": ["failed", "simulated"]}
    async with scripted(Turn("POST /things", 200, body)) as api:
        if accepted:
            assert (await take(api, {**MINIMAL, "failed": failed})).status == 200
            return
        error = await failure(api, {**MINIMAL, "failed": failed}, errors={"detail": "error"})
    assert (error.result, error.status) == (PublishResult.ERROR, 200)
    if isinstance(body, dict) and "error" in body:
        assert (error.title, error.detail) == ("success that says false", "no such channel")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(409, Refused), (422, Refused), (400, Unanswered), (500, Unanswered), (302, Unanswered), (204, Unanswered)],
)
async def test_what_statuses_mean(status: int, kind: type[TargetError]) -> None:
    """The description says by which statuses the target says no, and which mean success; any other leaves it open."""
    errors = {
        "refused": [409, "420-429"],
        "title": "fault.name",
        "detail": "/fault/words",
        "correlation_id": "fault.id",
    }
    body = {"fault": {"name": "No", "words": f"because of {TOKEN}", "id": "f-1"}}
    async with scripted(Turn("POST /things", status, None if status == 204 else body)) as api:
        error = await failure(api, {**MINIMAL, "accepted": [200, 201]}, errors=errors)
    assert type(error) is kind
    assert error.status == status
    assert TOKEN not in f"{error} {vars(error)}"
    if status not in (204, 302):
        assert (error.title, error.detail, error.correlation_id) == ("No", "because of [hidden]", "f-1")


async def test_a_secret_value_never_shows() -> None:
    """An API that repeats a secret of ours in its error does not bring it into ours."""
    async with scripted(Turn("POST /things", 400, {"detail": "bad key canary-api-key"})) as api:
        error = await failure(api, {**MINIMAL, "form": {"key": "{values.key}"}}, values={"key": "canary-api-key"})
    assert parse_qs(api.heard[0].body.decode()) == {"key": ["canary-api-key"]}
    assert "canary" not in f"{error!r} {error} {vars(error)}"


@pytest.mark.parametrize(
    ("fields", "title"),
    [
        ({"step": SEND}, "no step send is described"),
        ({"step": CANCEL}, "no step cancel is described"),
        ({"publication": replace(PUBLICATION, target_channels=("another",))}, "is not allowed"),
        ({"publication": replace(PUBLICATION, target_channels=(CHANNEL.upper(),))}, "is not allowed"),
        ({"publication": replace(PUBLICATION, target_channels=())}, "for no target channel"),
        ({"create": {**MINIMAL, "form": {"at": "{scheduled_time}"}}}, "needs {scheduled_time}"),
        ({"step": replace(SEND, recipient="a@b.example,c@d.example"),
          "steps": {"send": {"path": "/x", "form": {"to": "{recipient}"}}}}, "without one recipient"),
        ({"step": replace(CANCEL, publication_id=".."), "steps": {"cancel": {"path": "/x/{publication_id}"}}},
         "would change the request's path"),
        ({"step": replace(CANCEL, publication_id=""), "steps": {"cancel": {"path": "/x/{publication_id}"}}},
         "needs {publication_id}"),
    ],
)  # fmt: skip
async def test_what_must_not_leave_does_not(fields: dict[str, Any], title: str) -> None:
    """What is not described, not allowed, or lacks a value is our own fault, and nothing leaves."""
    async with scripted() as api:
        error = await failure(api, **fields)
    assert isinstance(error, OwnFault)
    assert title in error.title
    assert (error.requested_at, api.heard) == (None, [])


async def test_an_id_cannot_climb() -> None:
    """An id that the target told with slashes in it stays one segment of the path."""
    steps = {"cancel": {"method": "DELETE", "path": "/x/{publication_id}"}}
    async with scripted(Turn("DELETE /x/..%2F..%2Fall%3Fforce%3D1", 200)) as api:
        api.raw = True
        await take(api, steps=steps, step=replace(CANCEL, publication_id="../../all?force=1"))


async def test_a_sending() -> None:
    """A send names its recipient, and each id of a message that its answer tells is a key, as messages show it."""
    send = {"path": "/x/{publication_id}/send", "json": {"to": "{recipient}"}, "message_ids": "sent.*.id"}
    told = {"sent": [{"id": "<0100aa-bb@email.amazonses.com>"}, {"id": "m-000002@box.example"}, {"id": 3}]}
    turns = [Turn(f"POST /x/{PUBLICATION_ID}/send", 200, told), Turn(f"POST /x/{PUBLICATION_ID}/send", 200, {})]
    async with scripted(*turns) as api:
        answer = await take(api, steps={"send": send}, step=SEND)
        assert (await failure(api, steps={"send": send}, step=SEND)).title == "the answer lacks the message's id"
    assert api.heard[0].json == {"to": RECIPIENT}
    assert answer.learned == (Key(KeyKind.MESSAGE_ID, "0100aa-bb"), Key(KeyKind.MESSAGE_ID, "m-000002@box.example"))


async def test_claims() -> None:
    """A state becomes a waypoint only if the description knows it, at the target's time or that of its telling."""
    status = {"path": "/x/{publication_id}", "state": "state", "states": ["done"], "state_at": "at",
              "times": {"created": "made"}}  # fmt: skip
    bodies: list[object] = [{"state": "DONE", "at": "2026-11-23T10:00:06Z", "made": "2026-11-23T10:00:00Z"},
                            {"state": "done"}, {"state": "<b>strange</b>"}, [], b"no json"]  # fmt: skip
    async with (
        scripted(*(Turn("GET /x/p1", 200, body) for body in bodies)) as api,
        HttpTarget(settings(api, status=status), SystemClock()) as target,
    ):
        whole, bare, strange, empty = [await target.claims("p1") for _ in range(4)]
        with pytest.raises(Unanswered):
            await target.claims("p1")
    assert whole == (
        Waypoint("created", 1795428000.0, "target", 1.0),
        Waypoint("claimed_done", 1795428006.0, "target", 1.0),
    )
    assert [(point.name, point.source) for point in bare] == [("claimed_done", "prober")]
    assert (strange, empty) == ((), ())


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (200, b"", None, ""),
        (400, "start time must be before end time", Refused, "start time must be before end time"),
        (422, {"code": 601, "message": "labels in body is required"}, Refused, "labels in body is required"),
        (500, "boom", Unanswered, "boom"),
        (503, b"upstream connect error", Unanswered, "upstream connect error"),
    ],
)
async def test_alertmanager_as_it_answers(
    status: int, body: object, kind: type[TargetError] | None, words: str
) -> None:
    """The shipped description reads every answer of Alertmanager, or of what stands before it, and asks once."""
    told = yaml.safe_load((EXAMPLE / "prober.yaml").read_text(encoding="utf-8"))["target"]
    alert = replace(PUBLICATION, target_channels=("probes",))
    turn = Turn("POST /api/v2/alerts", status, body)
    async with scripted(turn) as api, HttpTarget(read_settings({**told, "url": api.origin}), SystemClock()) as target:
        if kind is None:
            assert (await target.take(CREATE, alert)).publication_id == PUBLICATION.marker
        else:
            with pytest.raises(kind) as caught:
                await target.take(CREATE, alert)
            assert words in f"{caught.value.title} {caught.value.detail}"
    ((sent,),) = (heard.json for heard in api.heard)
    assert sent["labels"] == {"alertname": "DeliveryProbe", "prober": "probes", "probe": PUBLICATION.marker}


async def test_what_is_not_described_is_not_asked() -> None:
    """Without a status call nothing is claimed, without a health call nothing is known, and nothing is withdrawn."""
    async with scripted() as api, HttpTarget(settings(api), SystemClock()) as target:
        assert await target.claims("p1") == ()
        assert await target.health() == {}
        assert await target.withdraw("p1") is Removal.DENIED
    assert api.heard == []


@pytest.mark.parametrize(
    ("status", "end"),
    [(200, Removal.REMOVED), (404, Removal.GONE), (418, Removal.GONE), (409, Removal.TOO_LATE), (403, Removal.DENIED)],
)
async def test_how_a_withdrawal_ends(status: int, end: Removal) -> None:
    """Each described status is an end."""
    withdraw = {"path": "/x/{publication_id}", "gone": [404, 418]}
    async with (
        scripted(Turn("DELETE /x/p1", status)) as api,
        HttpTarget(settings(api, withdraw=withdraw), SystemClock()) as target,
    ):
        assert await target.withdraw("p1") is end


@pytest.mark.parametrize("status", [500, 401, 429])
async def test_a_withdrawal_that_is_tried_again(status: int) -> None:
    """A failing target, a token that it does not take and its limits end nothing."""
    async with scripted(Turn("DELETE /x/p1", status)) as api:
        told = settings(api, withdraw={"path": "/x/{publication_id}"})
        async with HttpTarget(told, SystemClock()) as target:
            with pytest.raises(TargetError):
                await target.withdraw("p1")


async def test_health() -> None:
    """Dependencies are up or down by the described words, and neither by any other; an answer without any is none."""
    health = {"path": "/health", "dependencies": {"cluster": "a.status", "db": "b", "queue": "c"}, "up": ["ready"],
              "down": ["settling"]}  # fmt: skip
    told = {"a": {"status": "Ready"}, "b": "settling", "c": "?"}
    turns = [Turn("GET /health", 503, told), Turn("GET /health", 200, {"b": False}), Turn("GET /health", 200, {})]
    async with (
        scripted(*turns, Turn("GET /health", 404)) as api,
        HttpTarget(settings(api, health=health), SystemClock()) as target,
    ):
        assert await target.health() == {"cluster": True, "db": False, "queue": None}
        assert await target.health() == {"cluster": None, "db": False, "queue": None}
        for kind in (Unanswered, Refused):
            with pytest.raises(kind):
                await target.health()


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (200, {"db": "ok"}, [("reachable", "ok"), ("health", "ok")]),
        (503, {"db": "down"}, [("reachable", "ok"), ("health", "warning")]),
        (200, {"db": "odd"}, [("reachable", "ok"), ("health", "unknown")]),
        (401, {}, [("credentials", "wrong")]),
        (500, {}, [("health", "wrong")]),
        (200, b"<html>", [("health", "wrong")]),
    ],
)
async def test_examined(status: int, body: object, found: list[tuple[str, str]]) -> None:
    """What check finds is what the health call tells, asked once, and what is not well has a mend."""
    health = {"path": "/health", "dependencies": {"db": "db"}}
    async with scripted(Turn("GET /health", status, body)) as api:
        told = settings(api, health=health)
        async with HttpTarget(told, SystemClock()) as target:
            assert isinstance(target, Examinable)
            examined = await target.examine()
    assert [(one.subject, one.state.value) for one in examined.findings] == found
    assert all(one.state is State.OK or one.mend for one in examined.findings)


async def test_examined_where_nobody_is() -> None:
    """Nobody listens, or no health call is described: both are told, and nothing is published."""
    health = {"path": "/health", "dependencies": {"db": "db"}}
    async with scripted() as api:
        gone = settings(api, health=health)
        async with HttpTarget(settings(api), SystemClock()) as target:
            (untold,) = (await target.examine()).findings
    async with HttpTarget(gone, SystemClock()) as target:
        (unreachable,) = (await target.examine()).findings
    assert (untold.subject, untold.state) == ("reachable", State.UNKNOWN)
    assert (unreachable.subject, unreachable.state) == ("reachable", State.WRONG)
