"""The target's token: from the configuration, a file, or OAuth 2; whatever is wrong with it is our own fault."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.clock import SystemClock
from prober.errors import OwnFault, Refused
from prober.grants import expiry
from prober.model import Answer
from prober.sandbox.manual_clock import START, ManualClock
from prober.targets.publishing_module import PublishingModule, PublishingModuleSettings
from tests.conformance.scripted_api import ScriptedApi, Turn, scripted
from tests.conformance.test_target_publishing_module import CHANNEL, CREATE, PUBLICATION, made

CREATED = Turn("POST /api/v1/publications", 201, made())
UNAUTHORIZED = Turn("POST /api/v1/publications", 401, {"detail": "who are you"})
SECRET = "canary/secret+1"


def jwt(**claims: object) -> str:
    parts = [{"alg": "HS256"}, claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2ln"])


def granted(token: str, **fields: object) -> Turn:
    return Turn("POST /token", 200, {"access_token": token, "token_type": "Bearer", **fields})


def settings(api: ScriptedApi, **fields: Any) -> PublishingModuleSettings:
    return PublishingModuleSettings.model_validate({"url": api.url, "channels": [CHANNEL], **fields})


def with_oauth2(api: ScriptedApi, **fields: str) -> PublishingModuleSettings:
    oauth2 = {"token_url": f"{api.origin}/token", "client_id": "me", "client_secret": SECRET, **fields}
    return settings(api, oauth2=oauth2)


async def take(target: PublishingModule) -> Answer:
    return await target.take(CREATE, PUBLICATION)


def bearers(api: ScriptedApi) -> list[str]:
    return [one.headers.get("Authorization", "") for one in api.heard if one.line != "POST /token"]


async def test_an_expired_token_is_not_sent() -> None:
    """A JWT that has visibly expired never leaves; the fault says when it ended and shows nothing of it."""
    token = jwt(exp=1600000000)
    async with scripted() as api, PublishingModule(settings(api, token=token), SystemClock()) as target:
        with pytest.raises(OwnFault, match="expired at 2020-09-13T12:26:40") as caught:
            await take(target)
    assert caught.value.requested_at is None
    assert token not in repr(vars(caught.value))


async def test_a_token_that_ends_on_the_way() -> None:
    """A 401 is our own fault if the token ended before the answer came, the target's refusal otherwise."""
    clock = ManualClock()
    ending = jwt(exp=START + 5)

    turns = [UNAUTHORIZED, UNAUTHORIZED]
    async with scripted(*turns) as api, PublishingModule(settings(api, token=ending), clock) as target:
        with pytest.raises(Refused):
            await take(target)
        api.on_turn = lambda: clock.step_wall(10)
        with pytest.raises(OwnFault, match="expired") as caught:
            await take(target)
    assert caught.value.requested_at is not None


async def test_a_token_that_tells_no_end_is_refused_by_the_target() -> None:
    """A 401 for an opaque token is the target's refusal."""
    async with scripted(UNAUTHORIZED) as api, PublishingModule(settings(api, token="opaque"), SystemClock()) as target:
        with pytest.raises(Refused, match="who are you"):
            await take(target)


async def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A new token in the file, written over or put in its place, is used for the next step."""
    path = tmp_path / "token"
    path.write_text("first\n")
    turns = [CREATED] * 4
    async with scripted(*turns) as api, PublishingModule(settings(api, token_file=path), SystemClock()) as target:
        await take(target)
        await take(target)
        path.write_text("second-one")
        await take(target)
        (tmp_path / "new").write_text("third")
        os.replace(tmp_path / "new", path)
        await take(target)
    assert bearers(api) == ["Bearer first", "Bearer first", "Bearer second-one", "Bearer third"]


@pytest.mark.parametrize("text", [None, "", " \n", "two words", "t\u00f6ken", "a\nb"])
async def test_a_token_file_without_a_token(tmp_path: Path, text: str | None) -> None:
    """A file that is missing, empty or holds no token is our own fault, and the next step looks again."""
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    async with scripted(CREATED) as api, PublishingModule(settings(api, token_file=path), SystemClock()) as target:
        for _ in range(2):
            with pytest.raises(OwnFault) as caught:
                await take(target)
            assert str(path) in str(caught.value)
        path.write_text("mended")
        await take(target)


async def test_client_credentials_are_fetched_once() -> None:
    """Steps that come at the same time share one token, asked for with the secret in the header only."""
    turns = [granted("t-1", expires_in=3600), *[CREATED] * 3]
    async with scripted(*turns) as api, PublishingModule(with_oauth2(api, scope="publish"), SystemClock()) as target:
        await asyncio.gather(*(take(target) for _ in range(3)))
    asked = api.heard[0]
    assert asked.body == b"grant_type=client_credentials&scope=publish"
    assert base64.b64decode(asked.headers["Authorization"].removeprefix("Basic ")) == b"me:canary%2Fsecret%2B1"
    assert bearers(api) == ["Bearer t-1"] * 3


async def test_the_secret_in_the_body() -> None:
    """Where the endpoint wants the secret in the body it goes there, and nowhere else."""
    turns = [granted("t-1", expires_in="3600"), CREATED]
    async with scripted(*turns) as api, PublishingModule(with_oauth2(api, client_auth="body"), SystemClock()) as target:
        await take(target)
    assert b"client_secret=canary%2Fsecret%2B1" in api.heard[0].body
    assert "Authorization" not in api.heard[0].headers


async def test_a_token_is_renewed_before_its_end() -> None:
    """A token serves until 60 s before its end; then a new one is fetched."""
    clock = ManualClock()
    async with (
        scripted(granted("t-1", expires_in=600), CREATED, CREATED, granted("t-2", expires_in=600), CREATED) as api,
        PublishingModule(with_oauth2(api), clock) as target,
    ):
        await take(target)
        await clock.advance(539)
        await take(target)
        await clock.advance(2)
        await take(target)
    assert bearers(api) == ["Bearer t-1", "Bearer t-1", "Bearer t-2"]
    (granted_twice,) = target.acts.take(whole=True)
    assert (granted_twice.kind, granted_twice.place) == ("token", f"POST {api.origin}/token")
    assert (granted_twice.subject, granted_twice.answer) == ("client_credentials", "granted for 600 s")
    assert (granted_twice.began, granted_twice.ended, granted_twice.number) == (START, clock.now().wall, 2)


async def test_a_failing_renewal_leaves_the_old_token_to_its_end() -> None:
    """While a renewal fails the old token serves until it ends; then it is our own fault."""
    clock = ManualClock()
    down = Turn("POST /token", 503)
    turns = [granted("t-1", expires_in=600), CREATED, down, CREATED, down]
    async with scripted(*turns) as api, PublishingModule(with_oauth2(api), clock) as target:
        await take(target)
        await clock.advance(550)
        await take(target)
        await clock.advance(51)
        with pytest.raises(OwnFault, match="answered 503"):
            await take(target)
    assert bearers(api) == ["Bearer t-1"] * 2


async def test_a_failed_fetch_is_shared() -> None:
    """Steps that wait for the same fetch fail with it at once, each in its own name; a later step tries again."""
    refusal = {"error": "invalid_client", "error_description": f"no {SECRET}"}
    turns = [Turn("POST /token", 401, refusal), granted("t-1"), CREATED]
    async with scripted(*turns) as api, PublishingModule(with_oauth2(api), SystemClock()) as target:
        told = await asyncio.gather(*(take(target) for _ in range(5)), return_exceptions=True)
        await take(target)
    assert all(isinstance(one, OwnFault) and "invalid_client" in one.detail for one in told)
    assert len({id(one) for one in told}) == 5
    acts = target.acts.take()
    assert [act.answer.partition(":")[0] for act in acts] == ["failed", "granted for 300 s"]
    assert "invalid_client" in acts[0].answer
    assert SECRET not in repr([acts, *(vars(one) for one in told if isinstance(one, OwnFault))])


@pytest.mark.parametrize(
    "turn",
    [
        Turn("POST /token", 200, b"no json"),
        Turn("POST /token", 200, {"token": "x"}),
        Turn("POST /token", 200, {"access_token": "two words"}),
        Turn("POST /token", 200, {"access_token": ""}),
        Turn("POST /token", 302, headers={"Location": "/login"}),
        Turn("POST /token", 200, {"access_token": jwt(exp=1000)}),
        Turn("POST /token", 200, {"access_token": jwt(exp=1000), "expires_in": 3600}),
    ],
)
async def test_an_endpoint_without_a_token(turn: Turn) -> None:
    """An endpoint that gives no usable token is our own fault, and nothing leaves for the target."""
    async with scripted(turn) as api, PublishingModule(with_oauth2(api), SystemClock()) as target:
        with pytest.raises(OwnFault):
            await take(target)


async def test_an_endpoint_that_is_gone() -> None:
    """An endpoint that cannot be reached is our own fault."""
    async with scripted() as api:
        chosen = with_oauth2(api, token_url="http://127.0.0.1:1/token")
        async with PublishingModule(chosen, SystemClock()) as target:
            with pytest.raises(OwnFault, match="no connection"):
                await take(target)


async def test_a_rejected_token_is_fetched_anew() -> None:
    """After a 401 the next step fetches a new token; the refused step itself is not repeated."""
    turns = [granted("t-1", expires_in=600), UNAUTHORIZED, granted("t-2"), CREATED]
    async with scripted(*turns) as api, PublishingModule(with_oauth2(api), SystemClock()) as target:
        with pytest.raises(Refused):
            await take(target)
        await take(target)
    assert bearers(api) == ["Bearer t-1", "Bearer t-2"]


def test_expiry() -> None:
    """The end of a JWT is read without its key; what is none tells no end."""
    assert expiry(jwt(exp=1795428000)) == 1795428000.0
    assert expiry(jwt(exp="1795428000.5")) == 1795428000.5
    for token in ("opaque", "a.b.c", jwt(), jwt(exp=True), jwt(exp=[1]), jwt(exp=float("inf")), "..", "a.W10.c"):
        assert expiry(token) is None


@given(st.text() | st.binary().map(lambda raw: f"a.{base64.urlsafe_b64encode(raw).decode()}.c"))
def test_expiry_never_raises(token: str) -> None:
    """Whatever a token looks like, reading its end raises nothing."""
    expiry(token)
