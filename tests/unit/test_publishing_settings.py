"""The target's part of the configuration refuses what could not work, and shows no secret."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import ValidationError

from prober.model import Publication, PublicationKind, Step, StepAction
from prober.targets.publishing_module import PublishingModuleSettings, draft_request

URL = "https://publishing.example/v1/publishing"
OAUTH2 = {"token_url": "https://id.example/token", "client_id": "me", "client_secret": "canary-oauth"}


def test_defaults() -> None:
    """Durations read as people write them, ids are lower-cased, a final slash is dropped, TLS is verified."""
    settings = PublishingModuleSettings.model_validate(
        {"url": f"{URL}/", "channels": ["AB"], "timeout": "2s", "oauth2": OAUTH2}
    )
    assert (settings.url, settings.channels, settings.timeout, settings.connect_timeout) == (URL, ("ab",), 2.0, 5.0)
    assert (settings.verify, settings.send, settings.name_prefix) == (True, "create", "prober-")


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "publishing.example"},
        {"url": "ftp://publishing.example"},
        {"url": "https://"},
        {"url": "https://me:canary-url@publishing.example"},
        {"url": f"{URL}?key=canary-url"},
        {"url": "http://[::"},
        {"unknown": 1},
        {"token": "canary-token", "oauth2": OAUTH2},
        {"token": ["canary-token"]},
        {"token": " "},
        {"oauth2": {**OAUTH2, "client_secret": ""}},
        {"oauth2": {**OAUTH2, "token_url": "canary"}},
        {"timeout": 0},
        {"timeout": "soon"},
        {"verify": False, "ca_file": "/ca.pem"},
        {"headers": {"Authorization": "canary-header"}},
        {"headers": {"X-Key": "canary\r\nX-Other: 1"}},
        {"headers": {"X Key": "canary-header"}},
        {"proxy": "socks5://me:canary-proxy@proxy.example"},
        {"send": "everything"},
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any]) -> None:
    """A wrong setting is refused at the start, and the refusal shows no secret."""
    with pytest.raises(ValidationError) as caught:
        PublishingModuleSettings.model_validate({"url": URL, **fields})
    assert "canary-" not in str(caught.value)


def test_no_secret_in_repr() -> None:
    """Settings can be logged."""
    fields = {"oauth2": OAUTH2, "headers": {"X-Key": "canary-header"}, "proxy": "http://me:canary-proxy@proxy.example"}
    assert "canary" not in repr(PublishingModuleSettings.model_validate({"url": URL, **fields}))


@pytest.mark.parametrize(("send", "path"), [("create", "/alerts"), ("test", "/publications")])
def test_an_alert_that_is_sent_by_a_second_step_is_a_publication(send: Literal["create", "test"], path: str) -> None:
    """Only publications have a call that sends them to one address, so the alert is made as one."""
    channel = "3f0c1a52-6a57-4a5e-9d5e-0a1b2c3d4e5f"
    settings = PublishingModuleSettings(url="http://127.0.0.1:1", channels=(channel,), send=send)
    publication = Publication("p", "s", PublicationKind.ALERT, (channel,), channel, "")
    method, found, body = draft_request(settings, Step("p", 0, StepAction.CREATE), publication)
    assert (method, found) == ("POST", path)
    assert body is not None
    assert body.get("publication_type", "alert") == "alert"
