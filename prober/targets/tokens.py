"""Where a target's bearer token comes from: the configuration, a file, or OAuth 2 client credentials.

A token that is missing, unreadable or seen to have expired is a fault of ours, never the target's.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote_plus, urlencode

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from prober.acts import Acts, place_of
from prober.clock import Clock, Instant, rfc3339
from prober.errors import OwnFault, TargetError
from prober.grants import Grant, expiry, life_of
from prober.targets.http_client import HttpClient, Reply, Request, checked_url
from prober.targets.problems import MOST_DETAIL, clean, parse_json

_MOST_BYTES = 65_536
_TOKEN = re.compile(r"[\x21-\x7e]+")


class ClientCredentialsSettings(BaseModel):
    """OAuth 2 client credentials (RFC 6749, 4.4). ``client_auth`` says where the secret goes, header or body;
    ``ca_file`` replaces the public authorities for the token endpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    token_url: str
    client_id: str
    client_secret: SecretStr
    scope: str | None = None
    client_auth: Literal["basic", "body"] = "basic"
    ca_file: Path | None = None

    _token_url = field_validator("token_url")(checked_url)

    @field_validator("client_secret")
    @classmethod
    def _present(cls, secret: SecretStr) -> SecretStr:
        if not secret.get_secret_value():
            raise ValueError("is empty")
        return secret


class TokenSource(Protocol):
    """Where the token comes from."""

    async def token(self) -> str:
        """The token to send now, empty where none is demanded. Raises OwnFault when there is none to send."""

    def reject(self, token: str) -> None:
        """The target did not take ``token``: do not offer it again if there is another way."""


def ensure_live(token: str, now: Instant, requested_at: Instant | None = None) -> None:
    """Raises OwnFault for a token that we can see has expired by ``now``."""
    end = expiry(token)
    if end is not None and end <= now.wall:
        raise OwnFault(
            f"the token expired at {_when(end)}",
            "renew the target's token, or check this clock",
            requested_at=requested_at,
        )


@dataclass(frozen=True, slots=True)
class FixedToken:
    """One token for ever; the empty one where the target demands none."""

    value: str = field(default="", repr=False)

    async def token(self) -> str:
        return self.value

    def reject(self, token: str) -> None:
        """There is no other."""


class TokenFile:
    """A token in a file, read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._value = ""

    async def token(self) -> str:
        await asyncio.to_thread(self._refresh)
        return self._value

    def reject(self, token: str) -> None:
        """Read the file again next time, whatever its times say."""
        self._seen = None

    def _refresh(self) -> None:
        try:
            with self._path.open("rb") as file:
                state = os.fstat(file.fileno())
                seen = (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino)
                if seen == self._seen:
                    return
                self._seen = None
                raw = file.read(_MOST_BYTES)
        except OSError as exc:
            raise OwnFault(f"the token file {self._path} cannot be read", exc.strerror or str(exc)) from exc
        self._value = checked(raw.decode("ascii", "replace").strip(), f"the token file {self._path}")
        self._seen = seen


def checked(token: str, place: str) -> str:
    """The token, if a header can carry it. Raises OwnFault that names the place and shows nothing of the token."""
    if not token:
        raise OwnFault(f"{place} holds no token", "it is empty")
    if not _TOKEN.fullmatch(token):
        raise OwnFault(f"{place} holds no usable token", "it has characters that no header can carry")
    return token


class ClientCredentials:
    """A token fetched by client credentials and renewed before its end: one renewal at a time, whose outcome all
    who waited for it share. While a renewal fails the old token serves to its end."""

    def __init__(self, settings: ClientCredentialsSettings, client: HttpClient, clock: Clock, acts: Acts) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock
        self._acts = acts
        self._lock = asyncio.Lock()
        self._attempts = 0
        self._grant: Grant | None = None
        self._failure: OwnFault | None = None

    async def token(self) -> str:
        if self._grant is None or not self._grant.is_fresh(self._clock.now()):
            attempts = self._attempts
            async with self._lock:
                if attempts == self._attempts:
                    await self._renew()
        if self._grant is not None and self._grant.is_alive(self._clock.now()):
            return self._grant.token
        failure = self._failure or OwnFault("the token endpoint granted a token that has ended already")
        raise OwnFault(failure.title, failure.detail, status=failure.status) from failure

    def reject(self, token: str) -> None:
        if self._grant is not None and self._grant.token == token:
            self._grant = None

    async def _renew(self) -> None:
        asked = self._clock.now()
        try:
            with self._acts.asking("token", place_of("POST", self._settings.token_url), "client_credentials") as told:
                self._grant = self._granted(await self._client.exchange(self._request()), asked)
                told.append(f"granted for {self._grant.life:.0f} s")
            self._failure = None
        except TargetError as error:
            self._failure = error if isinstance(error, OwnFault) else _unusable(error.title, error.detail, error.status)
        self._attempts += 1

    def _request(self) -> Request:
        settings = self._settings
        secret = settings.client_secret.get_secret_value()
        fields = {"grant_type": "client_credentials"}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        hide: tuple[str, ...] = (secret, quote_plus(secret))
        if settings.scope:
            fields["scope"] = settings.scope
        if settings.client_auth == "basic":
            pair = f"{quote_plus(settings.client_id)}:{quote_plus(secret)}".encode()
            encoded = base64.b64encode(pair).decode()
            headers["Authorization"] = f"Basic {encoded}"
            hide = (secret, quote_plus(secret), encoded)
        else:
            fields |= {"client_id": settings.client_id, "client_secret": secret}
        return Request("POST", settings.token_url, headers, urlencode(fields).encode(), hide)

    def _granted(self, reply: Reply, asked: Instant) -> Grant:
        document = parse_json(reply.body)
        fields: dict[str, Any] = document if isinstance(document, dict) else {}
        if reply.status != 200:
            told = ": ".join(str(fields[name]) for name in ("error", "error_description") if fields.get(name))
            raise _unusable(f"it answered {reply.status}", clean(told, MOST_DETAIL, reply.hide), reply.status)
        token = fields.get("access_token")
        if not isinstance(token, str):
            raise _unusable("its answer has no access_token", "", reply.status)
        token = checked(token, "the token endpoint's answer")
        return Grant(token, asked, life_of(fields, token, asked))


def _unusable(what: str, detail: str, status: int | None) -> OwnFault:
    return OwnFault(f"the token endpoint gave no token: {what}", detail, status=status)


def _when(wall: float) -> str:
    try:
        return rfc3339(wall)
    except (ValueError, OverflowError, OSError):
        return f"{wall:.0f} s since 1970"
