"""How a target behind one URL is reached: its settings, its token, and requests that are sent once, with our marks."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from prober.acts import Acts
from prober.clock import Clock
from prober.durations import parse_duration
from prober.errors import OwnFault
from prober.model import Publication, Step
from prober.targets.http_client import HttpClient, Reply, Request, checked_url, tls_context
from prober.targets.tokens import (
    ClientCredentials,
    ClientCredentialsSettings,
    FixedToken,
    TokenFile,
    TokenSource,
    checked,
    ensure_live,
)
from prober.trace_ids import step_span_id

OUR_HEADERS = frozenset(
    {"accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host"}
    | {"idempotency-key", "traceparent", "transfer-encoding", "user-agent", "x-correlation-id", "x-synthetic-probe"}
)
"""Headers, in lower case, that the prober sets itself."""

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ONE_ADDRESS = re.compile(r"[^\s@,;<>]+@[^\s@,;<>]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*")
_PLAIN = "!#$&'()*+,/:;=?@[]~ "
_TRACE = re.compile(r"(?!0+-)[0-9a-f]{32}-(?!0+$)[0-9a-f]{16}")

Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=3600)]


class AccessSettings(BaseModel):
    """The part of a target's configuration that says how it is reached. Durations in seconds, or as ``10s``.

    ``channels`` are the only target channel ids that are ever published to. ``headers`` go with every request to
    the target. Of ``token``, ``token_file`` and ``oauth2`` at most one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str
    token: SecretStr | None = None
    token_file: Path | None = None
    oauth2: ClientCredentialsSettings | None = None
    channels: tuple[str, ...] = ()
    name_prefix: str = "prober-"
    templates: dict[str, str] = Field(default_factory=dict)
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

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if name.lower() in OUR_HEADERS:
                raise ValueError(f"{name} is set by the prober itself")
            if not HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value.get_secret_value()):
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


class Access:
    """Exchanges with the target behind one URL. Entered as an async context manager.

    ``auth_header`` carries the token, after ``auth_scheme`` if that is not empty; ``secrets`` are what no error may
    show besides the token and the headers' values. Constructing it raises ConfigurationError for a ``ca_file`` and
    OwnFault for a token that cannot be used.
    """

    def __init__(
        self,
        settings: AccessSettings,
        clock: Clock,
        *,
        auth_header: str = "Authorization",
        auth_scheme: str = "Bearer",
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.acts = Acts(clock)
        self._settings = settings
        self._clock = clock
        self._auth = (auth_header, f"{auth_scheme} ".lstrip())
        self._extra = {name: value.get_secret_value() for name, value in settings.headers.items()}
        self._secrets = (*self._extra.values(), *secrets)
        self._client = self._make_client(settings.url, settings.ca_file, verify=settings.verify)
        self._token_client: HttpClient | None = None
        if settings.oauth2 is not None:
            # The target's own exceptions from TLS do not hold for whoever grants tokens.
            self._token_client = self._make_client(settings.oauth2.token_url, settings.oauth2.ca_file, verify=True)
        self._tokens = self._token_source()
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

    async def ask(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes = b"", *, auth: bool = True
    ) -> Reply:
        """Send one request once, with the token unless ``auth`` is False, and return the whole answer.

        Raises OwnFault, Unreachable or Unanswered.
        """
        token = await self._tokens.token() if auth else ""
        ensure_live(token, self._clock.now())
        sent = {**self._extra, **(headers or {})}
        if token:
            name, scheme = self._auth
            sent[name] = f"{scheme}{token}"
        reply = await self._client.exchange(Request(method, url, sent, body, self._hide(token)))
        if reply.status == 401 and token:
            self._tokens.reject(token)
            ensure_live(token, reply.answered_at, reply.requested_at)
        return reply

    def _hide(self, token: str) -> tuple[str, ...]:
        # A short header value, such as an environment's name, is none: hiding it would spoil every message.
        return tuple(s for s in (token, *self._secrets) if len(s) >= 8 or (s and s == token))

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
            return ClientCredentials(settings.oauth2, self._token_client, self._clock, self.acts)
        if settings.token is not None:
            return FixedToken(checked(settings.token.get_secret_value().strip(), "the setting target.token"))
        return FixedToken()


def ensure_allowed(channels: Sequence[str], allowed: Sequence[str]) -> None:
    """Raises OwnFault for a publication to another target channel than the allowed ones, or to none."""
    if not channels:
        raise OwnFault("a publication for no target channel", "give each channel its target_channel")
    for channel in channels:
        if channel not in allowed:
            raise OwnFault(f"the target channel {channel[:80]} is not allowed", "add its id to target.channels")


def ensure_one_recipient(recipient: str) -> None:
    """Raises OwnFault for anything but one e-mail address."""
    if not _ONE_ADDRESS.fullmatch(recipient):
        raise OwnFault("a sending without one recipient", "it would mail real subscribers, so it is not sent")


def marks(step: Step, publication: Publication) -> dict[str, str]:
    """The headers that mark the request as synthetic and let the target's logs and traces find it."""
    told = {
        "X-Correlation-ID": publication.correlation_id or publication.probe,
        "Idempotency-Key": idempotency_key(step),
        "X-Synthetic-Probe": step.probe,
    }
    told = {name: plain(value) for name, value in told.items()}
    trace = traceparent(step, publication)
    if trace:
        told["traceparent"] = trace
    return told


def idempotency_key(step: Step) -> str:
    """What is the same for a step however often it might reach the target, and for no other step."""
    return f"{step.probe}-{step.number}"


def traceparent(step: Step, publication: Publication) -> str:
    """The header of that name (W3C trace context): the step's own span. Empty without a valid trace."""
    ids = f"{publication.trace_id}-{step_span_id(publication, step.number)}"
    return f"00-{ids}-03" if _TRACE.fullmatch(ids) else ""


def plain(value: str) -> str:
    """A text as a header can carry it: what is not printable ASCII is percent-encoded."""
    return quote(value, safe=_PLAIN).strip()
