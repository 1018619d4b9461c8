"""The Publishing Module as a target: its HTTP API, in the documented and in the seen dialect, without a switch."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from prober.clean_up import Removal
from prober.clock import Clock, rfc3339
from prober.durations import parse_duration
from prober.errors import OwnFault
from prober.model import Answer, Publication, PublicationKind, Step, StepAction, Waypoint
from prober.targets.http_client import HttpClient, Reply, Request, checked_url, tls_context
from prober.targets.publishing_answers import claims_of, health_of, read_answer, uuid_in, withdrawal_of
from prober.targets.tokens import (
    ClientCredentials,
    ClientCredentialsSettings,
    FixedToken,
    TokenFile,
    TokenSource,
    checked,
    ensure_live,
)

_OUR_HEADERS = frozenset(
    {"accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host"}
    | {"idempotency-key", "traceparent", "transfer-encoding", "user-agent", "x-correlation-id", "x-synthetic-probe"}
)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_PLAIN = "!#$&'()*+,/:;=?@[]~ "
_ONE_ADDRESS = re.compile(r"[^\s@,;<>]+@[^\s@,;<>]+")
_TRACE = re.compile(r"(?!0+-)[0-9a-f]{32}-(?!0+$)[0-9a-f]{16}")

Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=3600)]


class PublishingModuleSettings(BaseModel):
    """The target's part of the configuration. Durations in seconds, or as ``10s``.

    ``channels`` are the only target channel ids that are ever published to. ``headers`` go with every request to
    the target. ``send: test`` asks whoever plans for a second step that mails one test address. ``personalize``
    lets the marker travel in ``personalization_rules``. Of ``token``, ``token_file`` and ``oauth2`` at most one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    adapter: Literal["publishing_module"] = "publishing_module"
    url: str
    token: SecretStr | None = None
    token_file: Path | None = None
    oauth2: ClientCredentialsSettings | None = None
    channels: tuple[str, ...] = ()
    name_prefix: str = "prober-"
    templates: dict[str, str] = Field(default_factory=dict)
    send: Literal["create", "test"] = "create"
    personalize: bool = False
    timeout: Seconds = 10.0
    connect_timeout: Seconds = 5.0
    verify: bool = True
    ca_file: Path | None = None
    proxy: SecretStr | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict)

    _url = field_validator("url")(checked_url)

    @field_validator("proxy")
    @classmethod
    def _proxy_url(cls, proxy: SecretStr | None) -> SecretStr | None:
        if proxy is not None:
            parts = urlsplit(proxy.get_secret_value())
            checked_url(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
        return proxy

    @field_validator("channels")
    @classmethod
    def _lower_ids(cls, channels: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(channel.lower() for channel in channels)

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if name.lower() in _OUR_HEADERS:
                raise ValueError(f"{name} is set by the prober itself")
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value.get_secret_value()):
                raise ValueError(f"{name[:40]!r} or its value has characters that no header can carry")
        return headers

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if sum(way is not None for way in (self.token, self.token_file, self.oauth2)) > 1:
            raise ValueError("give only one of token, token_file and oauth2")
        if self.token is not None and not self.token.get_secret_value().strip():
            raise ValueError("token is empty: leave it out where the target demands none")
        if not self.verify and self.ca_file is not None:
            raise ValueError("verify: false and ca_file contradict each other")
        return self


class PublishingModule:
    """The target behind one URL. Entered as an async context manager.

    Constructing it raises ConfigurationError for a ``ca_file`` and OwnFault for a token that cannot be used.
    """

    def __init__(self, settings: PublishingModuleSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._extra = {name: value.get_secret_value() for name, value in settings.headers.items()}
        self._client = self._make_client(settings.url, settings.ca_file, verify=settings.verify)
        self._token_client: HttpClient | None = None
        if settings.oauth2 is not None:
            # The target's own exceptions from TLS do not hold for whoever grants tokens.
            self._token_client = self._make_client(settings.oauth2.token_url, settings.oauth2.ca_file, verify=True)
        self._tokens = self._token_source()
        self._health_url = f"{settings.url}/health"
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._exits.enter_async_context(self._client)
        if self._token_client is not None:
            await self._exits.enter_async_context(self._token_client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.__aexit__(kind, error, trace)

    async def take(self, step: Step, publication: Publication) -> Answer:
        """Send the step's request once and never again; return what was accepted.

        Raises Refused, Unanswered, Unreachable or OwnFault.
        """
        method, path, payload = draft_request(self._settings, step, publication)
        headers = _marks(step, publication)
        return read_answer(step, await self._ask(method, f"{self._settings.url}{path}", headers, payload))

    async def claims(self, publication_id: str) -> tuple[Waypoint, ...]:
        """What the target says about a publication or an alert: waypoints on its clock, never proof.

        Raises Refused (404: it knows neither), Unanswered, Unreachable or OwnFault.
        """
        known = _known_id(publication_id)
        reply = await self._ask("GET", f"{self._settings.url}/publications/{known}", {})
        if reply.status == 404:
            reply = await self._ask("GET", f"{self._settings.url}/alerts/{known}", {})
        return claims_of(reply)

    async def withdraw(self, publication_id: str) -> Removal:
        """Take a publication back once it has served; see :class:`prober.targets.Withdrawing`."""
        return withdrawal_of(
            await self._ask("DELETE", f"{self._settings.url}/publications/{_known_id(publication_id)}", {})
        )

    async def health(self) -> dict[str, bool | None]:
        """The dependencies that the target names: True up, False down, None neither. Ask once a minute at most.

        It stands below the prefix or at the root; no token is sent. Raises as :meth:`claims`.
        """
        reply = await self._get_health(self._health_url)
        if reply.status in (404, 405):
            root = urlsplit(self._settings.url)._replace(path="/health").geturl()
            other = await self._get_health(root)
            if other.status not in (404, 405):
                reply, self._health_url = other, root
        return health_of(reply)

    async def _get_health(self, url: str) -> Reply:
        return await self._client.exchange(Request("GET", url, self._extra, hide=self._hide("")))

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], payload: Mapping[str, Any] | None = None
    ) -> Reply:
        token = await self._tokens.token()
        ensure_live(token, self._clock.now())
        sent = {**self._extra, **headers}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        body = b""
        if payload is not None:
            sent["Content-Type"] = "application/json"
            body = json.dumps(payload).encode()
        reply = await self._client.exchange(Request(method, url, sent, body, self._hide(token)))
        if reply.status == 401:
            self._tokens.reject(token)
            ensure_live(token, reply.answered_at, reply.requested_at)
        return reply

    def _hide(self, token: str) -> tuple[str, ...]:
        # A short header value, such as an environment's name, is none: hiding it would spoil every message.
        return tuple(s for s in (token, *self._extra.values()) if len(s) >= 8 or (s and s == token))

    def _make_client(self, url: str, ca_file: Path | None, *, verify: bool) -> HttpClient:
        settings = self._settings
        # Loading the authorities costs 30 ms; where no TLS is spoken, none are trusted.
        speaks_tls = url.startswith("https:") or settings.proxy is not None
        tls = tls_context(ca_file, verify=verify) if speaks_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return HttpClient(
            self._clock,
            timeout=settings.timeout,
            connect_timeout=settings.connect_timeout,
            tls=tls,
            proxy=settings.proxy.get_secret_value() if settings.proxy else None,
        )

    def _token_source(self) -> TokenSource:
        settings = self._settings
        if settings.token_file is not None:
            return TokenFile(settings.token_file)
        if settings.oauth2 is not None and self._token_client is not None:
            return ClientCredentials(settings.oauth2, self._token_client, self._clock)
        if settings.token is not None:
            return FixedToken(checked(settings.token.get_secret_value().strip(), "the setting target.token"))
        return FixedToken()


def draft_request(
    settings: PublishingModuleSettings, step: Step, publication: Publication
) -> tuple[str, str, dict[str, Any] | None]:
    """Method, path below the prefix and JSON body of a step. Raises OwnFault for what must not leave us: another
    channel than the allowed ones, or a sending that names no single recipient."""
    if step.action is StepAction.CANCEL:
        return "DELETE", f"/publications/{_known_id(step.publication_id)}", None
    _ensure_allowed(settings, publication)
    if step.action is StepAction.SEND:
        if not _ONE_ADDRESS.fullmatch(step.recipient):
            raise OwnFault("a sending without one recipient", "it would mail real subscribers, so it is not sent")
        return "POST", f"/publications/{_known_id(step.publication_id)}/test", {"test_email": step.recipient}
    rules = {}
    if settings.personalize and publication.marker:
        rules = {"personalization_rules": {"probe": publication.marker}}
    channels = list(publication.target_channels)
    # An alert as such can neither be scheduled nor sent to one address: it then goes as a publication of that type.
    plain = publication.scheduled_time is None and settings.send == "create"
    if publication.kind is PublicationKind.ALERT and plain:
        fields = {"content_id": publication.content_id, "target_channels": channels, "channels": channels}
        return "POST", "/alerts", {**fields, "priority": publication.priority or "critical", **rules}
    payload: dict[str, Any] = {
        "channels": channels,
        "publication_type": publication.kind.value,
        "content_ids": [publication.content_id],
        **rules,
    }
    if publication.template_id:
        payload["template_id"] = publication.template_id
    if publication.scheduled_time is None:
        return "POST", "/publications", payload
    payload["scheduled_time"] = rfc3339(publication.scheduled_time)
    newsletter = publication.kind is PublicationKind.NEWSLETTER
    return "POST", "/publications/newsletter/schedule" if newsletter else "/publications", payload


def _ensure_allowed(settings: PublishingModuleSettings, publication: Publication) -> None:
    if not publication.target_channels:
        raise OwnFault("a publication for no target channel", "give each channel its target_channel")
    for channel in publication.target_channels:
        if channel.lower() not in settings.channels:
            raise OwnFault(f"the target channel {channel[:80]} is not allowed", "add its id to target.channels")


def _known_id(publication_id: str) -> str:
    known = uuid_in(publication_id)
    if not known:
        raise OwnFault("a step without the publication's id", "the target has not told one")
    return known


def _marks(step: Step, publication: Publication) -> dict[str, str]:
    """The headers that mark the request as synthetic and let the target's logs and traces find it."""
    marks = {
        "X-Correlation-ID": publication.correlation_id or publication.probe,
        "Idempotency-Key": f"{step.probe}-{step.number}",
        "X-Synthetic-Probe": step.probe,
    }
    marks = {name: quote(value, safe=_PLAIN).strip() for name, value in marks.items()}
    if _TRACE.fullmatch(f"{publication.trace_id}-{publication.span_id}"):
        marks["traceparent"] = f"00-{publication.trace_id}-{publication.span_id}-03"
    return marks
